"""Metrics within bands of true depth."""

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from grumo_jax.errors import GrumoError
from grumo_jax.metrics.depth import DepthErrors, depth_errors
from grumo_jax.metrics.masked import as_mask

Result = TypeVar("Result")


def errors_by_depth(
    ground_truth: Float[Array, "batch height width"],
    prediction: Float[Array, "batch height width"],
    mask: Bool[Array, "batch height width"] | None = None,
    *,
    edges: Sequence[float],
) -> DepthErrors:
    """Compute the depth metrics within bands of true depth.

    Args:
        ground_truth, prediction, mask: see `depth_errors`.
        edges: n + 1 increasing depths, the edges of n bands; a band includes its lower edge.

    Returns:
        `DepthErrors` whose fields are (n, B); 0 where a band has no pixels.

    Raises:
        GrumoError: if edges do not increase, shapes differ, or the mask is not bool.

    Example:
        >>> import jax.numpy as jnp
        >>> truth = jnp.array([[[5.0, 20.0]]])
        >>> errors_by_depth(truth, 1.1 * truth, edges=(0, 10, 80)).rmse
        Array([[0.5],
               [2. ]], dtype=float32)
    """
    return in_bands(
        lambda where: depth_errors(ground_truth, prediction, where), ground_truth, mask, edges=edges
    )


def in_bands(
    measure: Callable[[Bool[Array, "batch height width"]], Result],
    ground_truth: Float[Array, "batch height width"],
    mask: Bool[Array, "batch height width"] | None = None,
    *,
    edges: Sequence[float],
) -> Result:
    """Apply `measure(mask)` to each band of true depth; results are stacked along a new first axis.

    Args:
        measure: a function of a mask (B, H, W), such as a metric with its other arguments bound.
        ground_truth: (B, H, W) depth.
        mask: (B, H, W) bool, True where pixels count; by default all do.
        edges: n + 1 increasing depths, the edges of n bands; a band includes its lower edge.

    Raises:
        GrumoError: if edges do not increase, or the mask is not bool.

    Example:
        >>> import jax.numpy as jnp
        >>> in_bands(lambda where: where.sum(), jnp.array([[[5.0, 20.0, 30.0]]]), edges=(0, 10, 80))
        Array([1, 2], dtype=int32)
    """
    if len(edges) < 2 or not all(low < high for low, high in itertools.pairwise(edges)):
        raise GrumoError(f"edges are {tuple(edges)}; expected at least two rising depths")
    counts, depth = as_mask(mask, ground_truth), jnp.asarray(ground_truth).astype(jnp.float32)
    lows, highs = jnp.asarray(edges[:-1], jnp.float32), jnp.asarray(edges[1:], jnp.float32)

    def one_band(limits: tuple[jax.Array, jax.Array]) -> Result:
        return measure(counts & (depth >= limits[0]) & (depth < limits[1]))

    return jax.lax.map(one_band, (lows, highs))
