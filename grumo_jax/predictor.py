"""Photos of any size to depth and uncertainty maps of the same size."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax._internal.checks import is_shape
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import Estimate, Estimator
from grumo_jax.images import resize_photo
from grumo_jax.networks.monodepth2 import STRIDE
from grumo_jax.networks.network import DepthNetwork, Variables
from grumo_jax.scores import resize

LARGEST = 1024
"""Longer side in pixels that photos are shrunk to if the network has no input size."""


@dataclass(frozen=True)
class Prediction:
    """NumPy maps of one photo, at the photo's size.

    Attributes:
        depth: (H, W) float32, in the network's units.
        uncertainty: (H, W) float32, higher where the depth is less certain.
        raw: (H, W) float32, the score before normalisation.

    Example:
        >>> import jax, numpy as np
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> network = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
        >>> predictor = Predictor(grumo_jax.RowBaseline(network), {})
        >>> prediction = predictor(np.zeros((30, 50, 3), np.uint8), jax.random.key(0))
        >>> prediction.depth.shape, prediction.uncertainty[[0, -1], 0].round(2)
        ((30, 50), array([1., 0.], dtype=float32))
    """

    depth: np.ndarray
    uncertainty: np.ndarray
    raw: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """An estimator with its variables, for photos of any size.

    Photos are resized to the network's input size (Lanczos) and estimated in batches. Maps are
    resized back bilinearly; depth is resized as disparity if the network predicts disparity.

    Attributes:
        estimator: any `Estimator`.
        variables: the estimator's variables.
        size: (height, width) that photos are resized to; the model's `input_size` by default. If
            it has none, the multiples of 32 nearest to each photo's size, at most 1024 (the
            estimator is compiled for each new size).
        batch_size: number of photos in a batch.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2.tiny()
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 64, 3)))
        >>> predictor = grumo_jax.Predictor(
        ...     grumo_jax.GradientUncertainty(model), variables, size=(32, 64)
        ... )
        >>> photo = np.random.default_rng(0).integers(0, 256, (45, 80, 3), np.uint8)
        >>> predictor(photo).depth.shape
        (45, 80)
    """

    estimator: Estimator
    variables: Variables
    size: tuple[int, int] | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.size is not None and not is_shape(self.size, 2):
            raise GrumoError(f"size is {self.size}; expected (height, width), each 1 or more")
        if self.batch_size < 1:
            raise GrumoError(f"batch_size is {self.batch_size}; it must be 1 or more")

    def __call__(self, photo: np.ndarray, key: jax.Array | None = None) -> Prediction:
        """Predict for one photo.

        Args:
            photo: uint8 (H, W, 3).
            key: PRNG key, if the estimator needs one.

        Raises:
            ImageError: if the photo has another shape or dtype.
        """
        return next(self.predict([photo], key))

    def predict(
        self, photos: Iterable[np.ndarray], key: jax.Array | None = None
    ) -> Iterator[Prediction]:
        """Predict for photos of any sizes, in order; each result depends on its photo alone."""
        for size, group in itertools.groupby(photos, self._network_size):
            full = 0
            while chunk := list(itertools.islice(group, self.batch_size)):
                full = max(full, len(chunk))
                yield from self._batch(chunk, size, key, full)

    def _network_size(self, photo: np.ndarray) -> tuple[int, int]:
        return self.size or self.estimator.network.input_size or _near_size(photo)

    def _batch(
        self, photos: Sequence[np.ndarray], size: tuple[int, int], key: jax.Array | None, full: int
    ) -> list[Prediction]:
        images = np.stack([resize_photo(photo, size) for photo in photos])
        # Pad a short last batch: another batch size would compile again.
        images = np.concatenate([images, np.repeat(images[-1:], full - len(photos), axis=0)])
        estimate = self.estimator(self.variables, jnp.asarray(images), key)
        network = self.estimator.network
        return [
            to_photo_size(network, estimate, i, photo.shape[:2]) for i, photo in enumerate(photos)
        ]


def say_not_finite(name: str, estimators: Iterable[str]) -> str:
    """The warning for an image whose estimates are not finite."""
    return f"{name}: depth or uncertainty of {', '.join(estimators)} is not finite"


def to_photo_size(
    network: DepthNetwork, estimate: Estimate, index: int, size: tuple[int, ...]
) -> Prediction:
    """Resize one image's maps bilinearly, depth as the network's quantity."""
    height, width = size
    quantity = resize(network.to_quantity(estimate.depth[index]), (height, width))
    maps = (
        network.to_depth(quantity),
        resize(estimate.uncertainty[index], (height, width)),
        resize(estimate.raw[index], (height, width)),
    )
    return Prediction(*(np.asarray(values, np.float32) for values in maps))


def _near_size(photo: np.ndarray) -> tuple[int, int]:
    height, width = np.shape(photo)[:2]
    shrink = min(1, LARGEST / max(height, width))
    return _multiple(height * shrink), _multiple(width * shrink)


def _multiple(length: float) -> int:
    return max(STRIDE, round(length / STRIDE) * STRIDE)
