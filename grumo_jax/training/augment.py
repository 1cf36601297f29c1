"""Random augmentation of training batches: of geometry, cameras included, and of colours.

Each image of a batch has its own draws; all views of an image are changed alike.

Reference: Godard et al., ICCV 2019, section 4 (flip, colours); Eigen et al., "Depth Map Prediction
from a Single Image using a Multi-Scale Deep Network", NeurIPS 2014, section 3.4 (zoom, rotation).
"""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.errors import GrumoError
from grumo_jax.images import to_gray
from grumo_jax.training.batch import VIEWS, TrainingBatch, check_batch, check_within
from grumo_jax.training.geometry import sample_bilinear, take_pixels


@dataclass(frozen=True)
class Jitter:
    """Random changes of colour: with `probability`, all four, in the order listed.

    Attributes:
        probability: of changing an image at all.
        brightness: colours times a factor from 1 ± this.
        contrast: distance from the picture's mean gray times a factor from 1 ± this.
        saturation: distance from each pixel's gray times a factor from 1 ± this.
        hue: rotation on the circle of colours by a part from ± this (0.5: half of it).

    Example:
        >>> Jitter(hue=0.0).brightness
        0.2
    """

    probability: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1

    def __post_init__(self) -> None:
        for name in ("probability", "brightness", "contrast", "saturation"):
            check_within(name, getattr(self, name), 0, 1)
        check_within("hue", self.hue, 0, 0.5)


@struct.dataclass
class Augmented:
    """What `augment` returns.

    Attributes:
        plain: the batch with its geometry augmented and its colours untouched: for the losses.
        inputs: {"image" and each known view: (B, H, W, 3) float32}, colours changed too: for the
            networks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> found = augment(TrainingBatch(jnp.full((1, 4, 4, 3), 0.5)), jax.random.key(0))
        >>> list(found.inputs), found.plain.image.shape
        (['image'], (1, 4, 4, 3))
    """

    plain: TrainingBatch
    inputs: dict[str, jax.Array]


DEFAULT_JITTER = Jitter()


def augment(
    batch: TrainingBatch,
    key: jax.Array,
    *,
    flip: float = 0.5,
    jitter: Jitter | None = DEFAULT_JITTER,
    zoom: tuple[float, float] = (1.0, 1.0),
    rotation_degrees: float = 0.0,
) -> Augmented:
    """Augment each image of a batch at random, with its views, camera and depth.

    Flipping mirrors pictures and depth; the principal point moves to W − 1 − cx and the stereo
    camera to the other side. Zooming by z enlarges the picture about its centre and divides
    depth and stereo_offset by z; with the intrinsics enlarged as well this is the same scene, z
    times smaller. Pictures are sampled bilinearly, depth at the nearest pixel; rotations pad by 0.

    Args:
        batch: to augment.
        key: typed PRNG key.
        flip: probability of a horizontal flip.
        jitter: changes of colour, or None.
        zoom: smallest and largest enlargement, at least 1.
        rotation_degrees: rotate by up to this angle to either side. Not for batches with other
            views: no pinhole camera moves as a rotated picture does.

    Returns:
        The batch for the losses, and the pictures for the networks.

    Raises:
        GrumoError: if an option is out of range, or several views are to be rotated.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> ramp = jnp.broadcast_to(jnp.array([0.0, 0.5, 1.0])[:, None], (1, 2, 3, 3))
        >>> flipped = augment(TrainingBatch(ramp), jax.random.key(0), flip=1.0, jitter=None)
        >>> flipped.plain.image[0, 0, :, 0]
        Array([1. , 0.5, 0. ], dtype=float32)
    """
    check_batch(batch)
    _check_options(batch, flip, zoom, rotation_degrees)
    keys = jax.random.split(key, 3)
    if zoom != (1, 1) or rotation_degrees:
        zoom_key, angle_key = jax.random.split(keys[0])
        shape, limit = (len(batch.image),), math.radians(rotation_degrees)
        factor = jax.random.uniform(zoom_key, shape, minval=zoom[0], maxval=zoom[1])
        angle = jax.random.uniform(angle_key, shape, minval=-limit, maxval=limit)
        batch = zoom_and_rotate(batch, factor, angle)
    if flip:
        chosen = jax.random.bernoulli(keys[1], flip, (len(batch.image),))
        batch = mirror(batch, chosen)
    inputs = batch.pictures
    return Augmented(batch, inputs if jitter is None else _jitter_all(inputs, keys[2], jitter))


def mirror(batch: TrainingBatch, chosen: jax.Array) -> TrainingBatch:
    """Flip the images of a batch horizontally where `chosen` (B,) bool is True."""

    def choose(mirrored: jax.Array, original: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *(1,) * (original.ndim - 1)), mirrored, original)

    changes = {n: choose(p[:, :, ::-1], p) for n, p in batch.pictures.items()}
    if batch.depth is not None:
        changes["depth"] = choose(batch.depth[:, :, ::-1], batch.depth)
    if batch.stereo_offset is not None:
        changes["stereo_offset"] = choose(-batch.stereo_offset, batch.stereo_offset)
    if (intrinsics := batch.intrinsics) is not None:
        centre = batch.image.shape[2] - 1 - intrinsics[:, 0, 2]
        changes["intrinsics"] = choose(intrinsics.at[:, 0, 2].set(centre), intrinsics)
    return replace(batch, **changes)


def zoom_and_rotate(batch: TrainingBatch, factor: jax.Array, angle: jax.Array) -> TrainingBatch:
    """Enlarge a batch by factors (B,), at least 1, and turn it counter-clockwise by angles (B,).

    Angles are in radians; for intrinsics and views see `augment`.
    """
    size, height, width, _ = batch.image.shape
    coordinates = _turned_grid(factor, angle, height, width)
    x, y = (jnp.floor(coordinates[..., i] + 0.5).astype(jnp.int32) for i in range(2))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    changes = {
        name: jnp.where(inside[..., None], sample_bilinear(picture, coordinates), 0)
        for name, picture in batch.pictures.items()
    }
    if batch.depth is not None:
        nearest = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
        depth = take_pixels(batch.depth.reshape(size, -1), nearest)
        changes["depth"] = jnp.where(inside, depth / factor[:, None, None], 0)
    if batch.stereo_offset is not None:
        changes["stereo_offset"] = batch.stereo_offset / factor
    if batch.intrinsics is not None:
        changes["intrinsics"] = _enlarge(batch.intrinsics, factor, height, width)
    return replace(batch, **changes)


def _turned_grid(factor: jax.Array, angle: jax.Array, height: int, width: int) -> jax.Array:
    """Source coordinates of pixels, for an enlargement (B,) and counter-clockwise rotation (B,)."""
    x = jnp.arange(width, dtype=jnp.float32)[None, None, :] - (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None] - (height - 1) / 2
    cos, sin = ((f(angle) / factor)[:, None, None] for f in (jnp.cos, jnp.sin))
    from_x = cos * x - sin * y + (width - 1) / 2
    from_y = sin * x + cos * y + (height - 1) / 2
    return jnp.stack([from_x, from_y], axis=-1)


def _enlarge(intrinsics: jax.Array, factor: jax.Array, height: int, width: int) -> jax.Array:
    centre = jnp.array([(width - 1) / 2, (height - 1) / 2], jnp.float32)[None]
    moved = centre + factor[:, None] * (intrinsics[:, :2, 2] - centre)
    scaled = intrinsics.at[:, :2, :2].multiply(factor[:, None, None])
    return scaled.at[:, :2, 2].set(moved)


def _jitter_all(
    pictures: dict[str, jax.Array], key: jax.Array, jitter: Jitter
) -> dict[str, jax.Array]:
    size = len(pictures["image"])
    choice, *keys = jax.random.split(key, 5)
    chosen = jax.random.bernoulli(choice, jitter.probability, (size,))[:, None, None, None]
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    changes = [
        jax.random.uniform(k, (size,), minval=-strength, maxval=strength)
        for k, strength in zip(keys, strengths, strict=True)
    ]
    brightness, contrast, saturation, hue = changes
    return {
        name: jnp.where(
            chosen,
            change_colors(
                picture,
                brightness=1 + brightness,
                contrast=1 + contrast,
                saturation=1 + saturation,
                hue=hue,
            ),
            picture,
        )
        for name, picture in pictures.items()
    }


def change_colors(
    images: jax.Array,
    *,
    brightness: jax.Array,
    contrast: jax.Array,
    saturation: jax.Array,
    hue: jax.Array,
) -> jax.Array:
    """Change brightness, contrast, saturation and hue, in this order, clipping after each.

    Args:
        images: (B, H, W, 3) float32 in [0, 1].
        brightness, contrast, saturation: (B,) factors, at least 0; 1 changes nothing.
        hue: (B,) in [−0.5, 0.5], part of the circle of colours; 0 changes nothing.

    Returns:
        (B, H, W, 3) float32 in [0, 1].
    """

    def blend(images: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
        return jnp.clip(other + factor[:, None, None, None] * (images - other), 0, 1)

    images = blend(images, jnp.zeros((1, 1, 1, 1), images.dtype), brightness)
    images = blend(images, jnp.mean(to_gray(images), axis=(1, 2), keepdims=True), contrast)
    images = blend(images, to_gray(images), saturation)
    return _turn_hue(images, hue)


def _turn_hue(images: jax.Array, hue: jax.Array) -> jax.Array:
    """Turn the hue of the HSV colour space; value and saturation stay."""
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    sector = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sector = sector + 6 * hue[:, None, None]

    def channel(start: int) -> jax.Array:
        place = jnp.mod(start + sector, 6)
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def _check_options(
    batch: TrainingBatch, flip: float, zoom: tuple[float, float], rotation_degrees: float
) -> None:
    check_within("flip", flip, 0, 1)
    check_within("rotation_degrees", rotation_degrees, 0, 180)
    if len(zoom) != 2 or not 1 <= zoom[0] <= zoom[1] < math.inf:
        raise GrumoError(f"zoom is {zoom}; expected (smallest, largest), both at least 1")
    views = [name for name in VIEWS if name in batch.pictures]
    if rotation_degrees and views:
        raise GrumoError(
            f"rotation_degrees is {rotation_degrees}, but the batch has {', '.join(views)}: "
            "rotation is for supervised training alone; leave those views out, or set it to 0"
        )
