"""Consistency losses between a prediction and its reference depths.

Reference: Hornauer & Belagiannis, ECCV 2022, equations 3-5; TPAMI 2025 for the variance loss.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from grumo_jax._internal.checks import check_choice
from grumo_jax._internal.precision import widen
from grumo_jax.errors import GrumoError

LossName = Literal["squared", "variance", "uncertainty"]
Space = Literal["depth", "log_depth", "disparity"]
Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""(prediction (B, H, W), references (B, R, H, W)) → losses (B, L)."""


def squared(
    prediction: Float[Array, "batch height width"],
    references: Float[Array, "batch references height width"],
) -> Float[Array, "batch references height width"]:
    """Squared difference to each reference: (B, H, W), (B, R, H, W) → (B, R, H, W)."""
    return jnp.square(prediction[:, None] - references)


def variance(
    prediction: Float[Array, "batch height width"],
    references: Float[Array, "batch references height width"],
) -> Float[Array, "batch 1 height width"]:
    """Unbiased variance over prediction and references: (B, H, W), (B, R, H, W) → (B, 1, H, W)."""
    together = jnp.concatenate([prediction[:, None], references], axis=1)
    return jnp.var(together, axis=1, ddof=1)[:, None]


def no_difference(
    prediction: Float[Array, "batch height width"],
    references: Float[Array, "batch references height width"],
) -> Float[Array, "batch 1 height width"]:
    """Zero, for the uncertainty term alone: (B, H, W), (B, R, H, W) → (B, 1, H, W)."""
    return jnp.zeros_like(prediction)[:, None]


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "squared": squared,
    "variance": variance,
    "uncertainty": no_difference,
}
"""{name: loss per pixel}; the mean over pixels is back-propagated."""


def to_space(depth: Float[Array, "*shape"], space: Space) -> Float[Array, "*shape"]:
    """Map depth of any shape to a space; it must be positive unless the space is "depth"."""
    if space == "depth":
        return depth
    return jnp.log(depth) if space == "log_depth" else 1 / depth


def consistency_loss(
    depth: Float[Array, "batch height width"],
    log_sigma: Float[Array, "batch height width"] | None,
    references: Float[Array, "batch references height width"],
    *,
    loss: LossName | Loss = "squared",
    space: Space = "depth",
    uncertainty_weight: float | jax.Array = 0.0,
) -> Float[Array, "batch losses"]:
    """Compute the consistency losses of each image.

    L = mean((d − d_ref)²) + w · mean(σ²), σ = exp(s), means over pixels. Pixels where d, d_ref or
    s is not finite contribute 0 to their term and have no gradient. In "log_depth" and "disparity"
    the same holds where d or d_ref is not positive. (In "depth" a 0 counts, as in the papers'
    rotation.) So the loss in log depth does not depend on the unit of depth.

    Args:
        depth: predictions d (B, H, W); half precision is cast to float32.
        log_sigma: s (B, H, W), or None.
        references: reference depths d_ref (B, R, H, W), not differentiated.
        loss: "squared" (one loss per reference), "variance" (one loss, over prediction and
            references), "uncertainty" (the second term alone), or a function of prediction and
            references in the chosen space.
        space: "depth" (the papers'), "log_depth" or "disparity".
        uncertainty_weight: w.

    Returns:
        (B, L) losses, float32 or wider; each image's losses depend on that image alone.

    Example:
        >>> import jax.numpy as jnp
        >>> d, d_ref = jnp.full((1, 2, 2), 3.0), jnp.full((1, 1, 2, 2), 1.0)
        >>> consistency_loss(d, None, d_ref)
        Array([[4.]], dtype=float32)
    """
    if isinstance(loss, str):
        options: Any = {"loss": loss, "space": space, "uncertainty_weight": uncertainty_weight}
        return jnp.mean(pixel_losses(depth, log_sigma, references, **options), axis=(2, 3))
    losses = loss(*_compared(depth, references, space))
    if losses.ndim != 2 or losses.shape[0] != depth.shape[0]:
        raise GrumoError(f"the loss has shape {losses.shape}; expected ({depth.shape[0]}, losses)")
    if may_count(uncertainty_weight):
        sigma_squared = jnp.mean(_sigma_squared(log_sigma, uncertainty_weight), axis=(1, 2))
        losses = losses + uncertainty_weight * sigma_squared[:, None]
    return losses


def pixel_losses(
    depth: Float[Array, "batch height width"],
    log_sigma: Float[Array, "batch height width"] | None,
    references: Float[Array, "batch references height width"],
    *,
    loss: LossName = "squared",
    space: Space = "depth",
    uncertainty_weight: float | jax.Array = 0.0,
) -> Float[Array, "batch losses height width"]:
    """Losses per pixel (B, L, H, W); `consistency_loss` is their mean.

    Args:
        depth, log_sigma, references, loss, space, uncertainty_weight: see `consistency_loss`.

    Example:
        >>> import jax.numpy as jnp
        >>> d, d_ref = jnp.array([[[3.0, 1.0]]]), jnp.full((1, 1, 1, 2), 1.0)
        >>> pixel_losses(d, None, d_ref)
        Array([[[[4., 0.]]]], dtype=float32)
    """
    losses = LOSSES[loss](*_compared(depth, references, space))
    if may_count(uncertainty_weight):
        sigma_squared = _sigma_squared(log_sigma, uncertainty_weight)
        losses = losses + uncertainty_weight * sigma_squared[:, None]
    return losses


def _compared(depth: jax.Array, references: jax.Array, space: Space) -> tuple[jax.Array, jax.Array]:
    """Prediction and references in the space; equal where either has no valid depth."""
    depth, references = widen(depth), widen(references)
    predicted, known = _usable(depth, space), _usable(references, space)
    # 1 replaces invalid depths: its logarithm and inverse are finite, so no gradient is NaN.
    prediction = to_space(jnp.where(predicted, depth, 1), space)
    target = to_space(jnp.where(known, references, 1), space)
    same = jax.lax.stop_gradient(prediction)[:, None]
    return prediction, jnp.where(known & predicted[:, None], target, same)


def _usable(depth: jax.Array, space: Space) -> jax.Array:
    """Mask of the depths that are valid in the space."""
    finite = jnp.isfinite(depth)
    return finite if space == "depth" else finite & (depth > 0)


def may_count(weight: float | jax.Array) -> bool:
    """Whether a weight may differ from 0; True for a traced weight."""
    return isinstance(weight, jax.core.Tracer) or bool(weight)


def _sigma_squared(log_sigma: jax.Array | None, weight: float | jax.Array) -> jax.Array:
    if log_sigma is None:
        raise GrumoError(
            f"uncertainty_weight is {weight} but the network predicts no log σ; set it to 0, or "
            "give wrap(…, log_sigma=…)"
        )
    log_sigma = widen(log_sigma)
    finite = jnp.isfinite(log_sigma)
    return jnp.where(finite, jnp.exp(2 * jnp.where(finite, log_sigma, 0)), 0)


def check_loss(loss: LossName | Loss, space: str, uncertainty_weight: float | jax.Array) -> None:
    """Raise a `GrumoError` for an unknown loss or space, a wrong weight, or an empty loss.

    A traced weight is not checked.
    """
    if isinstance(loss, str):
        check_choice("loss", loss, LOSSES)
    check_choice("space", space, get_args(Space))
    if isinstance(uncertainty_weight, jax.core.Tracer):
        return
    if not 0 <= uncertainty_weight < float("inf"):
        raise GrumoError(
            f"uncertainty_weight is {uncertainty_weight}; it must be finite and at least 0"
        )
    if loss == "uncertainty" and not uncertainty_weight:
        raise GrumoError('the loss "uncertainty" is the term w · mean(σ²): give uncertainty_weight')
