"""The seven depth metrics."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from grumo_jax.metrics.masked import count, depth_rows, mean

THRESHOLD = 1.25
"""A pixel is right if its δ is below this (a1); its square and cube give a2 and a3."""

ERRORS_DEFINITION = 1
"""Version recorded with results; raise it whenever `depth_errors` returns other numbers."""


@struct.dataclass
class DepthErrors:
    """The depth metrics of each image: float32 (B,), 0 for an image without valid pixels.

    Attributes:
        abs_rel: mean of |gt − pred| / gt.
        sq_rel: mean of (gt − pred)² / gt.
        rmse: root of the mean of (gt − pred)².
        rmse_log: root of the mean of (log gt − log pred)².
        a1, a2, a3: share of pixels with max(gt / pred, pred / gt) < 1.25, 1.25², 1.25³.
        pixels: number of valid pixels.
        no_depth: number of valid pixels whose prediction is not positive and finite. They are
            outliers to a1, a2 and a3; to the other metrics they have a depth of 0.001.

    Example:
        >>> import jax.numpy as jnp
        >>> errors = depth_errors(jnp.full((1, 2, 2), 4.0), jnp.full((1, 2, 2), 5.0))
        >>> errors.abs_rel, errors.pixels
        (Array([0.25], dtype=float32), Array([4.], dtype=float32))
    """

    abs_rel: Float[Array, "*bands batch"]
    sq_rel: Float[Array, "*bands batch"]
    rmse: Float[Array, "*bands batch"]
    rmse_log: Float[Array, "*bands batch"]
    a1: Float[Array, "*bands batch"]
    a2: Float[Array, "*bands batch"]
    a3: Float[Array, "*bands batch"]
    pixels: Float[Array, "*bands batch"]
    no_depth: Float[Array, "*bands batch"]


def depth_errors(
    ground_truth: Float[Array, "batch height width"],
    prediction: Float[Array, "batch height width"],
    mask: Bool[Array, "batch height width"] | None = None,
) -> DepthErrors:
    """Compute the seven depth metrics of each image.

    Depths are neither scaled nor clipped here: a `grumo_jax.evaluation.Protocol` does that.

    Args:
        ground_truth: (B, H, W) depth; pixels with 0, NaN or inf are masked.
        prediction: (B, H, W) depth in the same unit; pixels that are not positive and finite
            count as wrong, and their number is returned.
        mask: (B, H, W) bool, True where pixels count; by default all with ground truth.

    Raises:
        GrumoError: if shapes differ, or the mask is not bool.

    Example:
        >>> import jax.numpy as jnp
        >>> truth = jnp.array([[[2.0, 4.0, 0.0]]])
        >>> errors = depth_errors(truth, jnp.array([[[3.0, 4.0, 7.0]]]))
        >>> errors.abs_rel, errors.a1, errors.pixels
        (Array([0.25], dtype=float32), Array([0.5], dtype=float32), Array([2.], dtype=float32))

    Reference: Eigen, Puhrsch & Fergus, "Depth Map Prediction from a Single Image using a
    Multi-Scale Deep Network", NeurIPS 2014, section 4.
    """
    pixels, _ = depth_rows(mask, ground_truth, prediction)
    known, truth, predicted, delta, no_depth = pixels
    difference = truth - predicted
    squared_log = jnp.square(jnp.log(truth) - jnp.log(predicted))
    a1, a2, a3 = (mean((delta < THRESHOLD**k).astype(jnp.float32), known) for k in (1, 2, 3))
    return DepthErrors(
        mean(jnp.abs(difference) / truth, known),
        mean(jnp.square(difference) / truth, known),
        jnp.sqrt(mean(jnp.square(difference), known)),
        jnp.sqrt(mean(squared_log, known)),
        a1,
        a2,
        a3,
        count(known),
        count(no_depth),
    )
