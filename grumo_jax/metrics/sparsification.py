"""Sparsification: does the error fall when the most uncertain pixels are removed?"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from grumo_jax._internal.vmap_or_loop import vmap_or_loop
from grumo_jax.errors import GrumoError
from grumo_jax.metrics.depth import THRESHOLD
from grumo_jax.metrics.masked import (
    count,
    depth_rows,
    from_keys,
    order_keys,
    prefix_totals,
    total,
)

METRICS = ("abs_rel", "rmse", "a1")
"""Errors whose curves are computed; "a1" stands for the share of outliers, δ >= 1.25."""

SPARSIFICATION_DEFINITION = 1
"""Version recorded with results; raise it whenever `sparsification` returns other numbers."""


@struct.dataclass
class Sparsification:
    """Sparsification of each image, by metric ("abs_rel", "rmse", "a1").

    Attributes:
        removed: (T + 1,) fractions of pixels removed: 0, 1 / T, …, 1.
        curves: {metric: (B, T + 1)}, mean error of the remaining pixels when the most uncertain
            are removed first.
        oracle: {metric: (B, T + 1)}, the same when the largest errors are removed first.
        ause: {metric: (B,)}, area between curve and oracle; 0 is perfect.
        aurg: {metric: (B,)}, area gained over random removal; below 0 is worse than random.
        normalized_ause: {metric: (B,)}, AUSE after both curves are divided by their first value.
        pixels: (B,), number of valid pixels; an image without any has 0 everywhere.
        no_depth: (B,), number of valid pixels whose prediction is not positive and finite. They
            are outliers to a1; to the other metrics they have a depth of 0.001.
        no_uncertainty: (B,), number of valid pixels with an uncertainty of NaN; removed first.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> truth = jax.random.uniform(jax.random.key(0), (1, 8, 8), minval=1.0, maxval=2.0)
        >>> predicted = jnp.full((1, 8, 8), 1.5)
        >>> found = sparsification(truth, predicted, jnp.abs(truth - predicted) / truth)
        >>> found.curves["rmse"].shape, bool(found.ause["abs_rel"][0] < 1e-6)
        ((1, 51), True)
    """

    removed: Float[Array, "*bands steps"]
    curves: dict[str, Float[Array, "*bands batch steps"]]
    oracle: dict[str, Float[Array, "*bands batch steps"]]
    ause: dict[str, Float[Array, "*bands batch"]]
    aurg: dict[str, Float[Array, "*bands batch"]]
    normalized_ause: dict[str, Float[Array, "*bands batch"]]
    pixels: Float[Array, "*bands batch"]
    no_depth: Float[Array, "*bands batch"]
    no_uncertainty: Float[Array, "*bands batch"]


def sparsification(
    ground_truth: Float[Array, "batch height width"],
    prediction: Float[Array, "batch height width"],
    uncertainty: Float[Array, "batch height width"],
    mask: Bool[Array, "batch height width"] | None = None,
    *,
    steps: int = 50,
) -> Sparsification:
    """Compute sparsification curves, AUSE and AURG of each image.

    At step t = 0 … T − 1 the pixels whose −u is at least the (100 t / T)-th percentile of −u
    (linear interpolation) remain, ties included; a 0 is appended at 100 %. Areas are taken by the
    trapezoidal rule. Only the order of the uncertainties counts; NaN is the most uncertain.

    Args:
        ground_truth: (B, H, W) depth; pixels with 0, NaN or inf are masked.
        prediction: (B, H, W) depth in the same unit; pixels that are not positive and finite
            count as wrong, and their number is returned.
        uncertainty: (B, H, W), higher where less certain.
        mask: (B, H, W) bool, True where pixels count; by default all with ground truth.
        steps: T, the number of steps.

    Raises:
        GrumoError: if shapes differ, the mask is not bool, or `steps` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> truth, predicted = jnp.ones((1, 1, 4)), jnp.array([[[1.0, 1.1, 1.2, 2.0]]])
        >>> perfect = sparsification(truth, predicted, predicted - truth)
        >>> float(perfect.ause["abs_rel"][0]), round(float(perfect.aurg["abs_rel"][0]), 2)
        (0.0, 0.27)

    Reference: Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical
    Flow", ECCV 2018, section 5.1; Poggi et al., CVPR 2020, section 4.1.
    """
    if steps < 1:
        raise GrumoError(f"steps is {steps}; expected 1 or more")
    pixels, (uncertain,) = depth_rows(mask, ground_truth, prediction, uncertainty)
    known, truth, predicted, delta, no_depth = pixels
    errors = {
        "abs_rel": jnp.abs(truth - predicted) / truth,
        "rmse": jnp.square(truth - predicted),
        "a1": (delta >= THRESHOLD).astype(jnp.float32),
    }
    curves = _curves(errors, uncertain, known, steps)
    oracle = {
        "abs_rel": _oracle(errors["abs_rel"], known, steps),
        "rmse": jnp.sqrt(_oracle(errors["rmse"], known, steps)),
        "a1": _oracle(delta, known, steps, lambda delta: delta >= THRESHOLD),
    }
    area = {m: _area(curves[m]) for m in METRICS}
    return Sparsification(
        removed=jnp.linspace(0, 1, steps + 1, dtype=jnp.float32),
        curves=curves,
        oracle=oracle,
        ause={m: area[m] - _area(oracle[m]) for m in METRICS},
        aurg={m: curves[m][:, 0] - area[m] for m in METRICS},
        normalized_ause={m: _area(_relative(curves[m]) - _relative(oracle[m])) for m in METRICS},
        pixels=count(known),
        no_depth=count(no_depth),
        no_uncertainty=count(known & jnp.isnan(uncertain)),
    )


def _curves(
    errors: dict[str, jax.Array], uncertainty: jax.Array, known: jax.Array, steps: int
) -> dict[str, jax.Array]:
    """Mean errors of the least uncertain pixels: {metric: (B, N)} → {metric: (B, T + 1)}."""
    keys = order_keys(uncertainty, known)
    limits, kept = _limits(jnp.sort(keys), known, steps)

    def kept_totals(limit: jax.Array) -> dict[str, jax.Array]:
        # Masked pixels have an error of 0, so it does not matter whether they are kept.
        keep = keys <= limit[:, None]
        return {metric: total(error, keep) for metric, error in errors.items()}

    # Fifty masked sums are cheaper than sorting the errors along with the keys.
    totals = vmap_or_loop(kept_totals, limits.T)
    means = {m: t.T / jnp.maximum(kept, 1).astype(jnp.float32) for m, t in totals.items()}
    return {m: _end_with_0(jnp.sqrt(v) if m == "rmse" else v) for m, v in means.items()}


def _oracle(
    ranked: jax.Array,
    known: jax.Array,
    steps: int,
    error: Callable[[jax.Array], jax.Array] = lambda ranked: ranked,
) -> jax.Array:
    """Mean errors of the pixels with the smallest `ranked` (B, N): (B, T + 1)."""
    ordered = jnp.sort(order_keys(ranked, known))
    _, kept = _limits(ordered, known, steps)
    errors = error(from_keys(ordered)).astype(jnp.float32)
    # Masked pixels are sorted to the end; their keys encode no error.
    places = jnp.arange(errors.shape[1])[None]
    errors = jnp.where(places < jnp.sum(known, axis=1, keepdims=True), errors, 0.0)
    return _end_with_0(prefix_totals(errors, kept) / jnp.maximum(kept, 1).astype(jnp.float32))


def _limits(ordered: jax.Array, known: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """For each step, the largest sorted key that is kept, and how many are: (B, T) each.

    A percentile between two neighbouring values excludes the lower −u and includes the upper
    one with all its ties. So only the rank counts, which is exact in integers.
    """
    pixels = jnp.sum(known, axis=-1, keepdims=True, dtype=jnp.int32)
    step = jnp.arange(steps, dtype=jnp.int32)[None]
    # ceil(t (n − 1) / T), split so that no product overflows int32.
    whole, rest = jnp.divmod(jnp.maximum(pixels - 1, 0), jnp.int32(steps))
    removed = step * whole + (step * rest + steps - 1) // steps
    limits = jnp.take_along_axis(ordered, jnp.maximum(pixels - 1 - removed, 0), axis=1)
    kept = jax.vmap(partial(jnp.searchsorted, side="right"))(ordered, limits)
    return limits, jnp.minimum(kept, pixels)


def _end_with_0(means: jax.Array) -> jax.Array:
    return jnp.pad(means, ((0, 0), (0, 1)))


def _area(curves: jax.Array) -> jax.Array:
    """Trapezoid area under curves (B, T + 1) over [0, 1]."""
    return jnp.mean((curves[:, 1:] + curves[:, :-1]) / 2, axis=1)


def _relative(curves: jax.Array) -> jax.Array:
    """Curves divided by their first values; 0 where that is 0."""
    first = curves[:, :1]
    return jnp.where(first > 0, curves / jnp.where(first > 0, first, 1.0), 0.0)
