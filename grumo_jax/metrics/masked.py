"""What all metrics share: masked rows, precise sums, keys that sort fast.

A prediction that is not positive and finite is wrong in every metric, and counted: its δ is
infinite, and its other errors are those of a depth of `NO_DEPTH`, the nearest in any protocol.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from grumo_jax.errors import GrumoError

BLOCK = 512
"""Sums are taken within blocks of this many pixels, then over the blocks."""

NO_DEPTH = 1e-3
"""Depth that replaces a prediction which is not positive and finite."""


class Pixels(NamedTuple):
    """Maps as rows (B, N).

    Attributes:
        known: bool, the mask: True where pixels count.
        truth, predicted: depths > 0, float32; 1 where masked.
        delta: δ = max(gt / pred, pred / gt).
        no_depth: bool, pixels that count and whose prediction is not positive and finite.
    """

    known: jax.Array
    truth: jax.Array
    predicted: jax.Array
    delta: jax.Array
    no_depth: jax.Array


def is_depth(values: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Mask of positive finite depths, any shape.

    Example:
        >>> is_depth(jnp.array([2.0, 0.0, -1.0, jnp.inf, jnp.nan]))
        Array([ True, False, False, False, False], dtype=bool)
    """
    return jnp.isfinite(values) & (values > 0)


def or_no_depth(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Replace depths that are not positive and finite by `NO_DEPTH`, any shape."""
    return jnp.where(is_depth(values), values, NO_DEPTH)


def clip(values: Float[Array, "*shape"], low: float, high: float) -> Float[Array, "*shape"]:
    """Clip to [low, high] and keep NaN, which XLA's minimum on CPUs may drop."""
    return jnp.where(jnp.isnan(values), jnp.nan, jnp.clip(values, low, high))


def as_rows(*maps: jax.Array) -> tuple[jax.Array, ...]:
    """Flatten maps (B, H, W) of one shape to rows (B, N); a 0 is padded where N would be 0.

    Raises:
        GrumoError: if shapes differ.
    """
    shapes = [jnp.shape(m) for m in maps]
    if len(set(shapes)) > 1 or len(shapes[0]) != 3:
        raise GrumoError(
            f"the maps have shapes {', '.join(map(str, shapes))}; expected one shape "
            "(batch, height, width) for all"
        )
    pixels = shapes[0][1] * shapes[0][2]
    rows = (jnp.reshape(jnp.asarray(m), (shapes[0][0], pixels)) for m in maps)
    return tuple(rows) if pixels else tuple(jnp.pad(row, ((0, 0), (0, 1))) for row in rows)


def as_mask(mask: jax.Array | None, maps: jax.Array) -> jax.Array:
    """The mask, or one that is True everywhere if it is None.

    Args:
        mask: (B, H, W) bool, or None.
        maps: (B, H, W), for its shape.

    Raises:
        GrumoError: if the mask is not bool, as when a map is passed in its place.
    """
    if mask is None:
        return jnp.ones(jnp.shape(maps), bool)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise GrumoError(
            f"the mask is {mask.dtype}; expected bool, the pixels that count: a map in its place "
            "is one argument too many, and of numbers say mask > 0"
        )
    return mask


def depth_rows(
    mask: jax.Array | None, ground_truth: jax.Array, prediction: jax.Array, *maps: jax.Array
) -> tuple[Pixels, tuple[jax.Array, ...]]:
    """Flatten maps (B, H, W) to rows (B, N) and mask pixels without ground truth.

    Args:
        mask: bool, True where pixels may count; None for all.
        ground_truth: depth; 0 or not finite where unknown.
        prediction: depth.
        maps: other maps to flatten, such as an uncertainty.

    Returns:
        The pixels, and the other maps as float32 rows.

    Raises:
        GrumoError: if shapes differ, or the mask is not bool.
    """
    where, *rows = as_rows(as_mask(mask, ground_truth), ground_truth, prediction, *maps)
    truth, predicted, *others = (row.astype(jnp.float32) for row in rows)
    known = where & is_depth(truth)
    no_depth = known & ~is_depth(predicted)
    # A depth of 1 keeps logarithms, quotients and their gradients free of NaN (double where).
    truth = jnp.where(known, truth, 1.0)
    predicted = jnp.where(known, or_no_depth(predicted), 1.0)
    delta = jnp.maximum(truth / predicted, predicted / truth)
    delta = jnp.where(no_depth, jnp.inf, delta)
    return Pixels(known, truth, predicted, delta, no_depth), tuple(others)


def total(
    values: Float[Array, "*rows pixels"], where: Bool[Array, "*rows pixels"] | None = None
) -> Float[Array, "*rows"]:
    """Sum over the last axis, block by block: one running float32 sum would lose digits.

    Example:
        >>> total(jnp.ones((2, 3)))
        Array([3., 3.], dtype=float32)
    """
    if where is not None:
        values = jnp.where(where, values, jnp.zeros((), values.dtype))
    length = values.shape[-1]
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -length % BLOCK)]
    blocks = jnp.pad(values, padding).reshape(*values.shape[:-1], -(-length // BLOCK), BLOCK)
    return jnp.sum(jnp.sum(blocks, axis=-1), axis=-1)


def mean(
    values: Float[Array, "*rows pixels"], where: Bool[Array, "*rows pixels"]
) -> Float[Array, "*rows"]:
    """Masked mean over the last axis; 0 where the mask is False everywhere.

    Example:
        >>> mean(jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[True, True, False]]))
        Array([1.5], dtype=float32)
    """
    return total(values, where) / jnp.maximum(count(where), 1)


def count(where: Bool[Array, "*rows pixels"]) -> Float[Array, "*rows"]:
    """Number of True over the last axis, as float32 (exact up to 2²⁴)."""
    return jnp.sum(where, axis=-1, dtype=jnp.int32).astype(jnp.float32)


def masked_median(
    values: Float[Array, " batch *shape"], where: Bool[Array, " batch *shape"]
) -> Float[Array, " batch"]:
    """Masked median over all axes but the first: (B, …) → (B,); inf where the mask is all False.

    An even number of values gives the mean of the middle two. NaN sorts last.

    Example:
        >>> masked_median(jnp.array([[4.0, 1.0, 2.0, 9.0]]), jnp.array([[1, 1, 1, 0]]) > 0)
        Array([2.], dtype=float32)
    """
    shape = values.shape[0], math.prod(values.shape[1:])
    rows, told = values.reshape(shape), where.reshape(shape)
    if not shape[1]:
        return jnp.full(shape[:1], jnp.inf, values.dtype)
    ordered = jnp.sort(jnp.where(told, rows, jnp.inf), axis=1)
    number = jnp.sum(told, axis=1, keepdims=True, dtype=jnp.int32)
    middle = jnp.concatenate([jnp.maximum(number - 1, 0) // 2, number // 2], axis=1)
    return jnp.mean(jnp.take_along_axis(ordered, middle, axis=1), axis=1)


def median_ratio(
    ground_truth: Float[Array, " batch *shape"],
    prediction: Float[Array, " batch *shape"],
    known: Bool[Array, " batch *shape"],
) -> Float[Array, " batch"]:
    """Factor of median scaling: median(truth) / median(prediction), (B, …) → (B,).

    Both medians are taken where truth is known and the prediction is positive and finite; 1 where
    there is no such pixel.

    Example:
        >>> truth, predicted = jnp.array([[2.0, 4.0, 9.0]]), jnp.array([[1.0, 2.0, jnp.nan]])
        >>> median_ratio(truth, predicted, truth > 0)
        Array([2.], dtype=float32)
    """
    compared = known & is_depth(prediction)
    ratio = masked_median(ground_truth, compared) / masked_median(prediction, compared)
    return jnp.where(jnp.any(compared, axis=tuple(range(1, compared.ndim))), ratio, 1.0)


def prefix_totals(values: jax.Array, counts: jax.Array) -> jax.Array:
    """Sums of the first `counts` values: (B, N), (B, T) → (B, T), as precise as `total`.

    Example:
        >>> prefix_totals(jnp.array([[1.0, 2.0, 4.0]]), jnp.array([[0, 2, 3]]))
        Array([[0., 3., 7.]], dtype=float32)
    """
    rows, length = values.shape
    blocks = jnp.pad(values, ((0, 0), (0, BLOCK - length % BLOCK)))
    blocks = blocks.reshape(rows, length // BLOCK + 1, BLOCK)
    before = jnp.cumsum(jnp.sum(blocks, axis=-1), axis=-1)
    before = jnp.pad(before[:, :-1], ((0, 0), (1, 0)))
    whole, rest = counts // BLOCK, counts % BLOCK
    partial = jnp.take_along_axis(blocks, whole[..., None], axis=1)
    partial = jnp.where(jnp.arange(BLOCK)[None, None] < rest[..., None], partial, 0.0)
    return jnp.take_along_axis(before, whole, axis=1) + jnp.sum(partial, axis=-1)


def order_keys(values: jax.Array, where: jax.Array) -> jax.Array:
    """Int32 keys in the order of the floats, which sort several times faster on CPUs.

    NaN has the key of infinity. Where `where` is False the key is the largest int32, so that a
    sort moves masked values to the end.
    """
    values = jnp.where(jnp.isnan(values), jnp.inf, values.astype(jnp.float32))
    bits = jax.lax.bitcast_convert_type(values + 0.0, jnp.int32)  # -0 + 0 is 0: they are ties
    keys = jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)
    return jnp.where(where, keys, jnp.int32(0x7FFFFFFF))


def from_keys(keys: jax.Array) -> jax.Array:
    """The inverse of `order_keys`; NaN where the value was masked."""
    bits = jnp.where(keys < 0, keys ^ jnp.int32(0x7FFFFFFF), keys)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
