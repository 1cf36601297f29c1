"""Reference depths: what the prediction is compared with, made from simple augmentations.

A reference is an augmentation of the image with the inverse that brings the prediction back
(d_ref = T⁻¹(f(T(x)))), an augmentation of features, or the ground truth. One of your own is a
frozen dataclass of two methods:

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

Where the inverse has nothing to put, it puts 0.

Reference: Hornauer & Belagiannis, "Gradient-based Uncertainty for Monocular Depth Estimation",
ECCV 2022, section 3.2; the feature augmentations: TPAMI 2025.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax.activations import apply_model, choose_layers, edit_activations
from grumo_jax.activations.edits import add_noise, drop_channels
from grumo_jax.draws import Numbered, number, reference_key
from grumo_jax.errors import GrumoError
from grumo_jax.mapping import map_fast
from grumo_jax.network import DepthNetwork, as_names

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R 601 gray."""


def to_gray(images: jax.Array) -> jax.Array:
    """Brightness (…, 1) of images (…, 3)."""
    red, green, blue = (weight * images[..., i : i + 1] for i, weight in enumerate(LUMA))
    return red + green + blue


@dataclass(frozen=True)
class Reference:
    """Base of all references.

    Attributes:
        draws: whether one needs a random key.
        stream: a number of the class's own, which decides what it draws from a given key; see
            `reference_key`. Those built in have 1 to 99, and keep them whatever they are called;
            give your own classes other ones if their draws are to outlive a change of their name.
    """

    draws: ClassVar[bool] = False
    stream: ClassVar[int | None] = None


@dataclass(frozen=True)
class ImageReference(Reference):
    """A reference made from an augmented image."""

    def augment(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        """Augment images (B, H, W, 3)."""
        return images

    def invert(self, maps: jax.Array) -> jax.Array:
        """Bring maps (B, H, W) predicted from augmented images back to the images' frame."""
        return maps


@dataclass(frozen=True)
class FeatureReference(Reference):
    """A reference made from the image itself with some of its features augmented.

    Attributes:
        layers: layers whose outputs are augmented; by default the encoder's outputs, so that
            only the decoder has to run again.
    """

    layers: str | Sequence[str] | None = field(default=None, kw_only=True)
    draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", as_names(self.layers))

    def edit(self, activation: jax.Array, key: jax.Array) -> jax.Array:
        """Augment one activation (B, h, w, C)."""
        return activation


@dataclass(frozen=True)
class Flip(ImageReference):
    """Horizontal flip, the papers' default."""

    def augment(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Mirror (B, H, W, 3)."""
        return images[:, :, ::-1]

    def invert(self, maps: jax.Array) -> jax.Array:
        """Mirror (B, H, W)."""
        return maps[:, :, ::-1]


@dataclass(frozen=True)
class Gray(ImageReference):
    """Grayscale with the ITU-R 601 weights, repeated to three channels."""

    def augment(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Gray (B, H, W, 3)."""
        luma = to_gray(images)
        return jnp.broadcast_to(luma, images.shape)


@dataclass(frozen=True)
class Noise(ImageReference):
    """Additive Gaussian noise; all images of a batch get the same draw.

    Attributes:
        std: standard deviation, on images in [0, 1].
    """

    std: float = 0.01
    draws: ClassVar[bool] = True
    stream: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        check_strength("std", self.std)

    def augment(self, images: jax.Array, key: jax.Array | None) -> jax.Array:
        """Add noise to (B, H, W, 3); not clipped, as in the papers' programs."""
        assert key is not None, "estimators check that they have a key"
        return images + self.std * jax.random.normal(key, (1, *images.shape[1:]), images.dtype)


@dataclass(frozen=True)
class Rotate(ImageReference):
    """Rotation about the image's centre, nearest neighbour, zeros outside.

    Attributes:
        degrees: angle, counter-clockwise.
    """

    degrees: float = 10.0

    def augment(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Rotate (B, H, W, 3)."""
        return rotate(images, self.degrees)

    def invert(self, maps: jax.Array) -> jax.Array:
        """Rotate (B, H, W) back."""
        return rotate(maps, -self.degrees)


@dataclass(frozen=True)
class FeatureDropout(FeatureReference):
    """Whole channels of the features dropped.

    Attributes:
        rate: probability with which a channel is dropped.
        layers: see `FeatureReference`.
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
        std: standard deviation, relative to each feature map's own.
        layers: see `FeatureReference`.
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
    """The true depth, given to the estimator as `ground_truth=`: an oracle, for analysis.

    Pixels without ground truth (0 or NaN) are left out; as a reference depth they are NaN.
    """


def check_strength(name: str, value: float, below: float = float("inf")) -> None:
    """Raise a `GrumoError` unless 0 <= value < below."""
    if not 0 <= value < below:
        limit = "" if below == float("inf") else f" and less than {below}"
        raise GrumoError(f"{name} is {value}; it must be at least 0{limit}")


def check_reference(reference: object) -> None:
    """Raise a `GrumoError` for something that is none of the three kinds of reference."""
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
"""By the names that tables and the command line use; the papers' four come first."""


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


def depth_form(network: DepthNetwork, variables: Any, images: jax.Array) -> jax.ShapeDtypeStruct:
    """Shape (B, H, W) and dtype of the plain depth, which may be smaller than the images."""
    return jax.eval_shape(
        lambda v, x: network.read_depth(apply_model(network, v, x)), variables, images
    )


Views = Mapping[tuple[ImageReference, int], jax.Array]
"""Depths (B, H, W) predicted from augmented images, by what `number` gives; not yet inverted."""


def predict_views(
    network: DepthNetwork,
    variables: Any,
    images: jax.Array,
    numbered: Sequence[Numbered],
    key: jax.Array | None,
) -> Views:
    """Predict depth from the images as each image reference, with its number, augments them."""
    if not numbered:
        return {}
    augmented = [r.augment(images, reference_key(key, r, n)) for r, n in numbered]

    def predict(images: jax.Array) -> jax.Array:
        return network.read_depth(apply_model(network, variables, images))

    depths = map_fast(predict, jnp.stack(augmented))
    return {view: depths[i] for i, view in enumerate(numbered)}


def reference_depths(
    network: DepthNetwork,
    variables: Any,
    images: jax.Array,
    references: Sequence[Reference],
    key: jax.Array | None = None,
    *,
    ground_truth: jax.Array | None = None,
    views: Views | None = None,
) -> jax.Array:
    """Depths (B, R, H, W) that predictions are compared with.

    Where there is none: 0 left by an augmentation's inverse, NaN by missing ground truth.

    Args:
        references: R references.
        key: needed where a reference draws random numbers.
        ground_truth: depth (B, H, W), 0 where unknown; needed for `GroundTruth`.
        views: the predictions from augmented images, where they are already there.

    Raises:
        GrumoError: for something that is no reference, or ground truth that is missing or has
            another shape than the predicted depth.
    """
    numbered = number(references)
    found = numbered_depths(
        network, variables, images, numbered, key, ground_truth=ground_truth, views=views
    )
    return jnp.stack([found[one] for one in numbered], axis=1)


def numbered_depths(
    network: DepthNetwork,
    variables: Any,
    images: jax.Array,
    numbered: Sequence[Numbered],
    key: jax.Array | None = None,
    *,
    ground_truth: jax.Array | None = None,
    views: Views | None = None,
) -> dict[Numbered, jax.Array]:
    """The depth (B, H, W) of each reference with its number; see `reference_depths`."""
    if views is None:
        seen = [one for one in numbered if isinstance(one[0], ImageReference)]
        views = predict_views(network, variables, images, seen, key)
    depths = {}
    for reference, n in numbered:
        match reference:
            case ImageReference():
                depth = reference.invert(views[reference, n])
            case FeatureReference():
                own_key = reference_key(key, reference, n)
                depth = _feature_depth(network, variables, images, reference, own_key)
            case GroundTruth():
                depth = _true_depth(ground_truth, depth_form(network, variables, images))
            case _:
                check_reference(reference)
        depths[reference, n] = depth
    return depths


def _feature_depth(
    network: DepthNetwork,
    variables: Any,
    images: jax.Array,
    reference: FeatureReference,
    key: jax.Array,
) -> jax.Array:
    layers = as_names(reference.layers) or choose_layers(network, variables, images, "features")
    edits = {
        name: partial(_edit_leaves, reference, jax.random.fold_in(key, i))
        for i, name in enumerate(layers)
    }
    # The layers before are the same as in the plain pass: under jit XLA computes them once.
    return network.read_depth(edit_activations(network, variables, images, edits))


def _edit_leaves(reference: FeatureReference, key: jax.Array, activation: Any) -> Any:
    leaves, tree = jax.tree.flatten(activation)
    keys = jax.random.split(key, len(leaves))
    edited = [reference.edit(leaf, k) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, edited)


def _true_depth(ground_truth: jax.Array | None, predicted: jax.ShapeDtypeStruct) -> jax.Array:
    if ground_truth is None:
        raise GrumoError(
            "the reference GroundTruth() needs the true depth: "
            "estimator(variables, images, ground_truth=depth)"
        )
    if ground_truth.shape != predicted.shape:
        raise GrumoError(
            f"ground_truth has shape {ground_truth.shape}; expected {predicted.shape}, that of the "
            "predicted depth"
        )
    return jnp.where(ground_truth > 0, ground_truth, jnp.nan)
