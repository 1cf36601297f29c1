"""What all metrics share: maps as masked rows, sums that keep their digits, sortable keys."""

import jax
import jax.numpy as jnp

from grumo_jax.errors import GrumoError

BLOCK = 512
"""Sums are taken over blocks of this many pixels, then over blocks."""


def as_rows(*maps: jax.Array) -> tuple[jax.Array, ...]:
    """Flatten maps (B, H, W) of one shape to rows (B, N); at least one pixel, 0 if there is none.

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


def depth_rows(
    mask: jax.Array | None, ground_truth: jax.Array, prediction: jax.Array, *maps: jax.Array
) -> tuple[jax.Array, ...]:
    """Flatten maps (B, H, W) and find the pixels that count.

    Args:
        mask: where to look, bool; None for everywhere.
        ground_truth: depth; 0 or not finite where unknown.
        prediction: depth.
        maps: any others.

    Returns:
        Rows (B, N): the pixels that count (bool), then the maps as float32. Where a pixel does
        not count both depths are 1, so that no logarithm or quotient makes a NaN.

    Raises:
        GrumoError: if shapes differ.
    """
    mask = jnp.ones(jnp.shape(ground_truth), bool) if mask is None else mask
    where, *rows = as_rows(mask, ground_truth, prediction, *maps)
    truth, predicted, *others = (row.astype(jnp.float32) for row in rows)
    known = where.astype(bool) & (truth > 0) & jnp.isfinite(truth)
    truth, predicted = jnp.where(known, truth, 1.0), jnp.where(known, predicted, 1.0)
    return known, truth, predicted, *others


def total(values: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Sum over the last axis, block by block: one running float32 sum would lose digits.

    Example:
        >>> total(jnp.ones((2, 3)))
        Array([3., 3.], dtype=float32)
    """
    if where is not None:
        values = jnp.where(where, values, jnp.zeros((), values.dtype))
    length = values.shape[-1]
    padding = [(0, 0)] * (values.ndim - 1) + [(0, -length % BLOCK)]
    blocks = jnp.pad(values, padding).reshape(*values.shape[:-1], -1, BLOCK)
    return jnp.sum(jnp.sum(blocks, axis=-1), axis=-1)


def mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """Mean over the last axis where told; 0 where nothing is told.

    Example:
        >>> mean(jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[True, True, False]]))
        Array([1.5], dtype=float32)
    """
    return total(values, where) / jnp.maximum(count(where), 1)


def count(where: jax.Array) -> jax.Array:
    """How many over the last axis, as float32 (exact up to 2²⁴ pixels)."""
    return jnp.sum(where, axis=-1, dtype=jnp.int32).astype(jnp.float32)


def ratio(ground_truth: jax.Array, prediction: jax.Array) -> jax.Array:
    """δ = max(gt / pred, pred / gt)."""
    return jnp.maximum(ground_truth / prediction, prediction / ground_truth)


def masked_median(values: jax.Array, where: jax.Array) -> jax.Array:
    """Median over all but the first axis where told: (B, …) → (B,); inf where nothing is told.

    Of an even number, the mean of the middle two. NaN counts as larger than anything.

    Example:
        >>> masked_median(jnp.array([[4.0, 1.0, 2.0, 9.0]]), jnp.array([[1, 1, 1, 0]]) > 0)
        Array([2.], dtype=float32)
    """
    rows, told = (x.reshape(x.shape[0], -1) for x in (values, where))
    ordered = jnp.sort(jnp.where(told, rows, jnp.inf), axis=1)
    number = jnp.sum(told, axis=1, keepdims=True, dtype=jnp.int32)
    middle = jnp.concatenate([jnp.maximum(number - 1, 0) // 2, number // 2], axis=1)
    return jnp.mean(jnp.take_along_axis(ordered, middle, axis=1), axis=1)


def prefix_totals(values: jax.Array, counts: jax.Array) -> jax.Array:
    """Sums of the first so many values: (B, N), (B, T) → (B, T), as precise as `total`.

    Example:
        >>> prefix_totals(jnp.array([[1.0, 2.0, 4.0]]), jnp.array([[0, 2, 3]]))
        Array([[0., 3., 7.]], dtype=float32)
    """
    blocks = jnp.pad(values, ((0, 0), (0, BLOCK - values.shape[1] % BLOCK)))
    blocks = blocks.reshape(values.shape[0], -1, BLOCK)
    before = jnp.cumsum(jnp.sum(blocks, axis=-1), axis=-1)
    before = jnp.pad(before[:, :-1], ((0, 0), (1, 0)))
    whole, rest = counts // BLOCK, counts % BLOCK
    partial = jnp.take_along_axis(blocks, whole[..., None], axis=1)
    partial = jnp.where(jnp.arange(BLOCK)[None, None] < rest[..., None], partial, 0.0)
    return jnp.take_along_axis(before, whole, axis=1) + jnp.sum(partial, axis=-1)


def order_keys(values: jax.Array, where: jax.Array) -> jax.Array:
    """Integers in the order of the floats, which sort several times faster on CPUs.

    NaN counts as infinite; where nothing is told the key is the largest of all, so that a sort
    moves it to the end.
    """
    values = jnp.where(jnp.isnan(values), jnp.inf, values.astype(jnp.float32))
    bits = jax.lax.bitcast_convert_type(values + 0.0, jnp.int32)  # -0 + 0 is 0: they are ties
    keys = jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)
    return jnp.where(where, keys, jnp.int32(0x7FFFFFFF))


def from_keys(keys: jax.Array) -> jax.Array:
    """The floats that `order_keys` made keys of; NaN where nothing was told."""
    bits = jnp.where(keys < 0, keys ^ jnp.int32(0x7FFFFFFF), keys)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
