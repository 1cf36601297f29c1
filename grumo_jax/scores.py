"""From gradients to score maps: reduce channels, normalise, resize, combine layers.

Reference: Hornauer & Belagiannis, ECCV 2022, section 3.3.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from grumo_jax._internal.checks import check_choice
from grumo_jax._internal.precision import widen

Reduction = Literal["max", "sum", "mean", "norm"]
Combination = Literal["std", "max", "mean"]

HUGE, LARGEST = 2.0**120, 2.0**90
"""Stand-in for NaN while maps are resized, and the largest possible score."""


def reduce_channels(
    gradients: Float[Array, "*maps channels"], reduction: Reduction = "max"
) -> Float[Array, "*maps"]:
    """Reduce gradients (…, C) over channels: signed max, sum or mean, or L2 norm; float32 (…).

    Example:
        >>> reduce_channels(jnp.array([3.0, -4.0]), "norm")
        Array(5., dtype=float32)
    """
    gradients = gradients.astype(jnp.float32)
    if reduction == "norm":
        return _root(jnp.sum(jnp.square(gradients), axis=-1))
    reduce: Any = {"max": _largest, "sum": jnp.sum, "mean": jnp.mean}[reduction]
    return reduce(gradients, axis=-1)


def normalize(
    maps: Float[Array, "*maps height width"], limits: Float[Array, "*maps _ _"] | None = None
) -> Float[Array, "*maps height width"]:
    """Min-max normalise each map (…, H, W) to [0, 1], in float32 or wider; a constant map gives 0.

    Limits are taken of finite values. NaN stays NaN, infinity becomes 1, minus infinity 0.

    Args:
        maps: float maps.
        limits: maps that the minimum and maximum are taken of; `maps` by default.

    Example:
        >>> normalize(jnp.array([[1.0, 2.0, 3.0, jnp.nan]]))
        Array([[0. , 0.5, 1. , nan]], dtype=float32)
    """
    maps = widen(maps)
    limits = maps if limits is None else widen(limits)
    finite = jnp.isfinite(limits)
    low = jnp.min(jnp.where(finite, limits, jnp.inf), axis=(-2, -1), keepdims=True)
    high = jnp.max(jnp.where(finite, limits, -jnp.inf), axis=(-2, -1), keepdims=True)
    is_constant = high <= low
    extent = jnp.where(is_constant, 1, high - low)
    low = jnp.where(jnp.isfinite(low), low, 0)
    # If the limits are constant, `maps` are, too, up to rounding, or not finite.
    above = jnp.where(is_constant & jnp.isfinite(maps), 0, (maps - low) / extent)
    # Rounding may leave [0, 1]. On CPUs XLA's minimum may ignore NaN, so NaN bypasses the clip.
    return jnp.where(jnp.isnan(above), above, jnp.clip(above, 0, 1))


def to_maps(
    scores: Float[Array, "*maps h w"], size: tuple[int, int]
) -> tuple[Float[Array, "*maps height width"], Float[Array, "*maps height width"]]:
    """Resize a layer's scores (…, h, w) to maps (…, H, W): min-max normalised to [0, 1], and raw.

    Example:
        >>> to_maps(jnp.array([[1.0, 3.0]]), (1, 2))
        (Array([[0., 1.]], dtype=float32), Array([[1., 3.]], dtype=float32))
    """
    # Min-max is affine and so commutes with bilinear resizing: one resize serves both maps.
    resized = resize(scores, size)
    return normalize(resized, limits=scores), resized


def resize(
    maps: Float[Array, "*maps h w"], size: tuple[int, int]
) -> Float[Array, "*maps height width"]:
    """Resize maps (…, h, w) bilinearly, in float32 or wider; see `bilinear`.

    A pixel is NaN exactly where a value with nonzero weight is not finite.

    Example:
        >>> resize(jnp.array([[1.0, 2.0, 3.0, jnp.nan]]), (1, 2))
        Array([[1.5, nan]], dtype=float32)
    """
    maps = widen(maps)
    # XLA resizes by matrix products, in which 0 times NaN would make every pixel NaN. A huge
    # number stays larger than any score after it is weighted.
    maps = jnp.where(jnp.isfinite(maps), maps, HUGE)
    for height, width in ((maps.shape[-2], size[1]), size):
        maps = bilinear(maps, (height, width))
        maps = jnp.where(maps > LARGEST, HUGE, maps)
    return jnp.where(maps > LARGEST, jnp.nan, maps)


def bilinear(
    maps: Float[Array, "*maps h w"], size: tuple[int, int]
) -> Float[Array, "*maps height width"]:
    """Resize maps (…, h, w) bilinearly: half-pixel centres, no antialiasing."""
    return jax.image.resize(maps, (*maps.shape[:-2], *size), "bilinear", antialias=False)


def combine(
    maps: Float[Array, " layers *maps"], combination: Combination = "mean"
) -> Float[Array, "*maps"]:
    """Combine the maps of layers (L, …) to one (…): population standard deviation, max or mean.

    The map of a single layer is returned unchanged.

    Example:
        >>> combine(jnp.array([[0.0], [1.0]]), "std")
        Array([0.5], dtype=float32)
    """
    if maps.shape[0] == 1:
        return maps[0]
    if combination == "std":
        return _root(jnp.var(maps, axis=0))
    return _largest(maps, axis=0) if combination == "max" else jnp.mean(maps, axis=0)


def _largest(values: jax.Array, axis: int) -> jax.Array:
    """Maximum that propagates NaN, which XLA's own maximum may ignore on CPUs."""
    return jnp.where(jnp.isnan(jnp.sum(values, axis=axis)), jnp.nan, jnp.max(values, axis=axis))


def _root(squares: jax.Array) -> jax.Array:
    """Square root with gradient 0 at 0; NaN stays NaN."""
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), squares)


def check_score(reduction: str, combination: str) -> None:
    """Raise a `GrumoError` for an unknown reduction or combination."""
    check_choice("reduction", reduction, get_args(Reduction))
    check_choice("combine", combination, get_args(Combination))
