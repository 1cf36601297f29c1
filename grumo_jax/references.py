"""References: the depths that a prediction is compared with, made by simple augmentations.

A reference is an augmentation T of the image with the inverse that maps the prediction back
(d_ref = T⁻¹(f(T(x)))), an augmentation of features, or the ground truth. Write your own as a
frozen dataclass with up to two methods:

    >>> import dataclasses
    >>> import jax.numpy as jnp
    >>> import grumo_jax
    >>> @dataclasses.dataclass(frozen=True)
    ... class Brightness(grumo_jax.ImageReference):
    ...     factor: float = 1.2
    ...
    ...     def augment(self, images, key):
    ...         return jnp.clip(self.factor * images, 0, 1)
    ...
    >>> @dataclasses.dataclass(frozen=True)
    ... class Shift(grumo_jax.ImageReference):
    ...     pixels: int = 8
    ...
    ...     def augment(self, images, key):
    ...         return jnp.roll(images, self.pixels, axis=2)
    ...
    ...     def invert(self, maps):
    ...         return jnp.roll(maps, -self.pixels, axis=2)
    ...
    >>> Shift(pixels=1).invert(jnp.array([[[0.0, 1.0, 2.0]]]))
    Array([[[1., 2., 0.]]], dtype=float32)

Pixels that the inverse leaves out are 0.

Reference: Hornauer & Belagiannis, "Gradient-based Uncertainty for Monocular Depth Estimation",
ECCV 2022, section 3.2; the feature augmentations: TPAMI 2025.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax.activations.edits import add_noise, drop_channels
from grumo_jax.activations.names import LayerNames, as_layers
from grumo_jax.errors import GrumoError
from grumo_jax.images import to_gray


@dataclass(frozen=True)
class Reference:
    """Base of all references.

    Attributes:
        draws: whether the class draws random numbers and needs a key.
        stream: a number folded into the key, see `reference_key`; 1 to 99 are reserved for the
            library's classes. None uses the class's name, so set it if draws must not change
            when you rename your class.

    Example:
        >>> Flip.draws, Noise.draws
        (False, True)
    """

    draws: ClassVar[bool] = False
    stream: ClassVar[int | None] = None


@dataclass(frozen=True)
class ImageReference(Reference):
    """A reference made from an augmented image.

    Example:
        >>> from dataclasses import dataclass
        >>> import jax.numpy as jnp
        >>> @dataclass(frozen=True)
        ... class Darker(ImageReference):
        ...     def augment(self, images, key=None):
        ...         return images / 2
        >>> Darker().augment(jnp.ones((1, 1, 1, 3)))
        Array([[[[0.5, 0.5, 0.5]]]], dtype=float32)
    """

    def augment(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        """Augment images (B, H, W, C); called once for each array of images in the input."""
        return images

    def invert(self, maps: jax.Array) -> jax.Array:
        """Map predictions (B, H, W) from augmented images back to the original images' frame."""
        return maps


@dataclass(frozen=True)
class FeatureReference(Reference):
    """A reference made from the plain image, with activations augmented.

    Attributes:
        layers: names or numbers of the layers to augment; by default the encoder's outputs, so
            that only the decoder runs again.

    Example:
        >>> from dataclasses import dataclass
        >>> import jax, jax.numpy as jnp
        >>> @dataclass(frozen=True)
        ... class Halved(FeatureReference):
        ...     def edit(self, activation, key):
        ...         return activation / 2
        >>> Halved(layers="encoder").layers
        ('encoder',)
    """

    layers: LayerNames | None = field(default=None, kw_only=True)
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", as_layers(self.layers))

    def edit(self, activation: jax.Array, key: jax.Array) -> jax.Array:
        """Augment one activation (B, h, w, C)."""
        return activation


@dataclass(frozen=True)
class Flip(ImageReference):
    """Horizontal flip, the papers' default.

    Example:
        >>> import jax.numpy as jnp
        >>> maps = jnp.array([[[1.0, 2.0, 3.0]]])
        >>> Flip().invert(maps)
        Array([[[3., 2., 1.]]], dtype=float32)
    """

    def augment(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Mirror (B, H, W, C)."""
        return images[:, :, ::-1]

    def invert(self, maps: jax.Array) -> jax.Array:
        """Mirror (B, H, W)."""
        return maps[:, :, ::-1]


@dataclass(frozen=True)
class Gray(ImageReference):
    """Grayscale with the ITU-R 601 weights, repeated to three channels.

    Example:
        >>> import jax.numpy as jnp
        >>> Gray().augment(jnp.array([[[[1.0, 0.0, 0.0]]]]))
        Array([[[[0.2989, 0.2989, 0.2989]]]], dtype=float32)
    """

    def augment(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Gray (B, H, W, 3).

        Raises:
            GrumoError: for images of other channels than red, green and blue.
        """
        if images.shape[-1] != 3:
            raise GrumoError(
                f"Gray() makes red, green and blue gray, and the images have {images.shape[-1]} "
                "channels; leave it out of the references"
            )
        luma = to_gray(images)
        return jnp.broadcast_to(luma, images.shape)


@dataclass(frozen=True)
class Noise(ImageReference):
    """Additive Gaussian noise, broadcast over the batch axis.

    Attributes:
        std: standard deviation, on images in [0, 1].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> noisy = Noise(0.1).augment(jnp.zeros((2, 32, 64, 3)), jax.random.key(0))
        >>> round(float(noisy.std()), 1), Noise.draws
        (0.1, True)
    """

    std: float = 0.01
    draws: ClassVar[bool] = True
    stream: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        check_strength("std", self.std)

    def augment(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        """Add noise to (B, H, W, C), without clipping, as the papers' programs do."""
        assert key is not None, "estimators check that they have a key"
        return images + self.std * jax.random.normal(key, (1, *images.shape[1:]), images.dtype)


@dataclass(frozen=True)
class Rotate(ImageReference):
    """Rotation about the image's centre, nearest neighbour, zeros outside.

    Attributes:
        degrees: angle in degrees, counter-clockwise.

    Example:
        >>> import jax.numpy as jnp
        >>> quarter = Rotate(90.0)
        >>> maps = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> quarter.augment(maps)
        Array([[[2., 4.],
                [1., 3.]]], dtype=float32)
    """

    degrees: float = 10.0

    def augment(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Rotate (B, H, W, C)."""
        return rotate(images, self.degrees)

    def invert(self, maps: jax.Array) -> jax.Array:
        """Rotate (B, H, W) back."""
        return rotate(maps, -self.degrees)


@dataclass(frozen=True)
class FeatureDropout(FeatureReference):
    """Channel dropout on the features.

    Attributes:
        rate: probability with which a channel is dropped.
        layers: see `FeatureReference`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> features = jnp.ones((1, 1, 1, 8))
        >>> FeatureDropout(0.5).edit(features, jax.random.key(0))[0, 0, 0]
        Array([0., 0., 2., 2., 0., 2., 2., 0.], dtype=float32)
    """

    rate: float = 0.2
    stream: ClassVar[int | None] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("rate", self.rate, below=1)

    def edit(self, activation: jax.Array, key: jax.Array) -> jax.Array:
        """Drop channels of (B, …, C)."""
        return drop_channels(activation, self.rate, key)


@dataclass(frozen=True)
class FeatureNoise(FeatureReference):
    """Gaussian noise on the features.

    Attributes:
        std: standard deviation, relative to that of each feature map.
        layers: see `FeatureReference`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> features = jnp.linspace(0.0, 4.0, 64).reshape(1, 8, 8, 1)
        >>> noisy = FeatureNoise(0.1).edit(features, jax.random.key(0))
        >>> round(float(jnp.std(noisy - features) / jnp.std(features)), 1)
        0.1
    """

    std: float = 0.1
    stream: ClassVar[int | None] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("std", self.std)

    def edit(self, activation: jax.Array, key: jax.Array) -> jax.Array:
        """Add noise to (B, h, w, C)."""
        return add_noise(activation, self.std, key)


@dataclass(frozen=True)
class GroundTruth(Reference):
    """True depth, passed to the estimator as `ground_truth=`: an oracle, for analysis.

    Pixels without ground truth (0 or NaN) do not count; their reference depth is infinite.

    Example:
        >>> import grumo_jax
        >>> oracle = grumo_jax.GradientUncertainty(grumo_jax.Monodepth2(), references=GroundTruth())
        >>> oracle.references
        (GroundTruth(),)
    """


def as_references(references: Any) -> tuple[Any, ...]:
    """One or several references as a tuple, unchecked; see `check_reference`."""
    several = isinstance(references, Iterable) and not isinstance(references, str)
    return tuple(references) if several else (references,)


def check_strength(name: str, value: float, below: float = float("inf")) -> None:
    """Raise a `GrumoError` unless 0 <= value < below."""
    if not 0 <= value < below:
        limit = "" if below == float("inf") else f" and less than {below}"
        raise GrumoError(f"{name} is {value}; it must be at least 0{limit}")


def check_reference(reference: object) -> None:
    """Raise a `GrumoError` for an object that is not a reference."""
    if not isinstance(reference, ImageReference | FeatureReference | GroundTruth):
        raise GrumoError(
            f"{reference!r} is no reference; expected an ImageReference (Flip(), …), a "
            "FeatureReference or GroundTruth()"
        )


PAPER_REFERENCES = (Flip(), Gray(), Noise(), Rotate())
"""The papers' four image augmentations."""

NAMED_REFERENCES: dict[str, Reference] = {
    "flip": Flip(),
    "gray": Gray(),
    "noise": Noise(),
    "rotate": Rotate(),
    "feature-dropout": FeatureDropout(),
    "feature-noise": FeatureNoise(),
}
"""{name in tables and on the command line: reference}, the papers' four first."""


def rotate(maps: jax.Array, degrees: float) -> jax.Array:
    """Rotate (B, H, W, …) counter-clockwise about the centre; nearest neighbour, zeros outside."""
    rows, columns, inside = _rotation_indices(maps.shape[1], maps.shape[2], degrees)
    inside = inside.reshape(1, *inside.shape, *(1,) * (maps.ndim - 3))
    return jnp.where(inside, maps[:, rows, columns], jnp.zeros((), maps.dtype))


def _rotation_indices(
    height: int, width: int, degrees: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    columns = np.rint(cos * x - sin * y + (width - 1) / 2).astype(int)
    rows = np.rint(sin * x + cos * y + (height - 1) / 2).astype(int)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1), inside
