"""How well uncertainty ranks pixels by error: rank correlation and error detection."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Real

from grumo_jax.metrics.depth import THRESHOLD
from grumo_jax.metrics.masked import as_mask, as_rows, count, depth_rows, mean, order_keys, total

DETECTION_DEFINITION = 1
"""Version recorded with results; raise it whenever `error_detection` returns other numbers."""

SPEARMAN_DEFINITION = 1
"""Version recorded with results; raise it whenever `spearman` returns other numbers."""


@struct.dataclass
class Detection:
    """Uncertainty as a detector of wrong pixels (δ >= 1.25): float32 (B,).

    Attributes:
        auroc: probability that a wrong pixel is more uncertain than a right one; ties count half.
        aupr: average precision, wrong pixels being the positives.
        fpr95: lowest false positive rate at a true positive rate of 95 % or more.
        wrong: share of wrong pixels, which is the AUPR of chance.
        defined: bool; False, with the first three 0, for an image whose pixels are all right or
            all wrong.
        no_depth: number of pixels whose prediction is not positive and finite; they are wrong.
        no_uncertainty: number of pixels whose uncertainty is NaN; they are the most uncertain.

    Example:
        >>> import jax.numpy as jnp
        >>> truth, predicted = jnp.ones((1, 1, 4)), jnp.array([[[1.0, 1.1, 1.2, 2.0]]])
        >>> found = error_detection(truth, predicted, predicted)
        >>> found.auroc, found.wrong
        (Array([1.], dtype=float32), Array([0.25], dtype=float32))
    """

    auroc: Float[Array, "*bands batch"]
    aupr: Float[Array, "*bands batch"]
    fpr95: Float[Array, "*bands batch"]
    wrong: Float[Array, "*bands batch"]
    defined: Bool[Array, "*bands batch"]
    no_depth: Float[Array, "*bands batch"]
    no_uncertainty: Float[Array, "*bands batch"]


def spearman(
    error: Real[Array, "batch height width"],
    uncertainty: Float[Array, "batch height width"],
    mask: Bool[Array, "batch height width"] | None = None,
) -> Float[Array, " batch"]:
    """Spearman's rank correlation of error and uncertainty in each image.

    Args:
        error: (B, H, W), any measure of error (other metrics take ground truth and prediction).
            NaN is the largest error.
        uncertainty: (B, H, W); NaN is the most uncertain.
        mask: (B, H, W) bool, True where pixels count; by default all do.

    Returns:
        float32 (B,) in [−1, 1]. Ties have mean ranks; 0 where error or uncertainty is constant,
        or all pixels are masked.

    Raises:
        GrumoError: if shapes differ, or the mask is not bool.

    Example:
        >>> import jax.numpy as jnp
        >>> spearman(jnp.array([[[1.0, 2.0, 9.0]]]), jnp.array([[[0.1, 0.2, 0.3]]])).round(3)
        Array([1.], dtype=float32)
    """
    known, error, uncertainty = as_rows(as_mask(mask, error), error, uncertainty)
    x, y = _centred_ranks(error, known), _centred_ranks(uncertainty, known)
    spread = jnp.sqrt(total(x * x)) * jnp.sqrt(total(y * y))
    return jnp.where(spread > 0, total(x * y) / jnp.where(spread > 0, spread, 1.0), 0.0)


def error_detection(
    ground_truth: Float[Array, "batch height width"],
    prediction: Float[Array, "batch height width"],
    uncertainty: Float[Array, "batch height width"],
    mask: Bool[Array, "batch height width"] | None = None,
) -> Detection:
    """Evaluate uncertainty as a detector of wrong pixels, those with δ >= 1.25.

    Args:
        ground_truth: (B, H, W) depth; pixels with 0, NaN or inf are masked.
        prediction: (B, H, W) depth in the same unit; pixels that are not positive and finite
            count as wrong, and their number is returned.
        uncertainty: (B, H, W), higher where less certain; NaN is the most uncertain.
        mask: (B, H, W) bool, True where pixels count; by default all with ground truth.

    Raises:
        GrumoError: if shapes differ, or the mask is not bool.

    Example:
        >>> import jax.numpy as jnp
        >>> truth, predicted = jnp.ones((1, 1, 4)), jnp.array([[[1.0, 1.0, 2.0, 2.0]]])
        >>> detection = error_detection(truth, predicted, jnp.array([[[0.1, 0.3, 0.2, 0.4]]]))
        >>> detection.auroc, detection.fpr95
        (Array([0.75], dtype=float32), Array([0.5], dtype=float32))
    """
    pixels, (uncertain,) = depth_rows(mask, ground_truth, prediction, uncertainty)
    known = pixels.known
    wrong = known & (pixels.delta >= THRESHOLD)
    keys, order = _sort(uncertain, known)
    wrong = jnp.take_along_axis(wrong, order, axis=1)
    right = jnp.take_along_axis(known, order, axis=1) & ~wrong
    positives, negatives = count(wrong), count(right)
    defined = (positives > 0) & (negatives > 0)
    first, last = _tie_groups(keys)
    # Count the right pixels below each pixel, ties by half: a difference of mean ranks would
    # cancel digits where few pixels are right.
    before = _counts_before(right)
    below = jnp.take_along_axis(before, first, axis=1)
    below += jnp.take_along_axis(before, last + 1, axis=1)
    auroc = mean(below.astype(jnp.float32) / (2 * jnp.maximum(negatives, 1))[:, None], wrong)
    aupr, fpr95 = _precision_and_alarms(wrong, right, first)
    share = positives / jnp.maximum(positives + negatives, 1)
    return Detection(
        auroc=jnp.where(defined, auroc, 0.0),
        aupr=jnp.where(defined, aupr, 0.0),
        fpr95=jnp.where(defined, fpr95, 0.0),
        wrong=share,
        defined=defined,
        no_depth=count(pixels.no_depth),
        no_uncertainty=count(known & jnp.isnan(uncertain)),
    )


def _precision_and_alarms(
    wrong: jax.Array, right: jax.Array, first: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """AUPR and FPR95 (B,) of pixels sorted by uncertainty; `first` is where each tie begins."""
    wrong_from, right_from = _count_from(wrong, first), _count_from(right, first)
    called = jnp.maximum(wrong_from + right_from, 1)
    precision = wrong_from.astype(jnp.float32) / called.astype(jnp.float32)
    # Integers make 95 % exact.
    enough = wrong & (20 * wrong_from >= 19 * wrong_from[:, :1])
    alarms = jnp.min(jnp.where(enough, right_from, right.shape[1]), axis=1)
    return mean(precision, wrong), alarms.astype(jnp.float32) / jnp.maximum(count(right), 1)


def _sort(values: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sorted keys, masked pixels last, and the position that each came from."""
    keys = order_keys(values, known)
    places = jax.lax.broadcasted_iota(jnp.int32, keys.shape, 1)
    keys, order = jax.lax.sort((keys, places), num_keys=1)
    return keys, order


def _tie_groups(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each sorted key, the first and last position of the keys equal to it."""
    places = jax.lax.broadcasted_iota(jnp.int32, keys.shape, 1)
    changes = keys[:, 1:] != keys[:, :-1]
    edge = jnp.ones_like(keys[:, :1], bool)
    starts = jnp.where(jnp.concatenate([edge, changes], axis=1), places, 0)
    ends = jnp.where(jnp.concatenate([changes, edge], axis=1), places, keys.shape[1] - 1)
    return jax.lax.cummax(starts, axis=1), jax.lax.cummin(ends, axis=1, reverse=True)


def _count_from(flags: jax.Array, places: jax.Array) -> jax.Array:
    """Number of flags (B, N) that are set at or after each place."""
    before = _counts_before(flags)
    return before[:, -1:] - jnp.take_along_axis(before, places, axis=1)


def _counts_before(flags: jax.Array) -> jax.Array:
    """Number of flags (B, N) that are set before each place, and before the end: (B, N + 1)."""
    return jnp.pad(jnp.cumsum(flags, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))


def _centred_ranks(values: jax.Array, known: jax.Array) -> jax.Array:
    """Ranks of known values in [−1/2, 1/2], ties at their mean rank; 0 where masked."""
    keys, order = _sort(values, known)
    first, last = _tie_groups(keys)
    pixels = jnp.maximum(jnp.sum(known, axis=1, keepdims=True, dtype=jnp.int32), 1)
    ranks = (first + last - (pixels - 1)).astype(jnp.float32) / (2 * pixels).astype(jnp.float32)
    # `vmap` over rows, so that rows sharded over devices need no communication.
    put = jax.vmap(lambda row, places, to: row.at[places].set(to, unique_indices=True))
    return jnp.where(known, put(jnp.zeros_like(ranks), order, ranks), 0.0)
