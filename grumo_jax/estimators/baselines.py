"""What a score must beat to say anything: distance, the image row, nothing at all.

Depth networks err more where it is farther, and what is far lies high in a picture. So a score
that only repeats the distance ranks errors in metres well; it has found no mistake of the network.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from grumo_jax.estimators.base import (
    Estimate,
    Estimator,
    Inputs,
    normalized_estimate,
    predict_depth,
)


@dataclass(frozen=True)
class DepthBaseline(Estimator):
    """Plain depth; the depth itself as uncertainty: the farther, the less certain.

    Example:
        >>> import grumo_jax
        >>> grumo_jax.DepthBaseline(grumo_jax.Monodepth2()).needs_key
        False
    """

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        depth = predict_depth(self.network, inputs.variables, inputs.images)
        return normalized_estimate(depth, depth)


@dataclass(frozen=True)
class RowBaseline(Estimator):
    """Plain depth; the image row as uncertainty, 1 in the uppermost and 0 in the lowest.

    Example:
        >>> import grumo_jax
        >>> grumo_jax.RowBaseline(grumo_jax.Monodepth2()).needs_key
        False
    """

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        depth = predict_depth(self.network, inputs.variables, inputs.images)
        rows = jnp.linspace(1, 0, depth.shape[1], dtype=depth.dtype)[None, :, None]
        return normalized_estimate(depth, jnp.broadcast_to(rows, depth.shape))


@dataclass(frozen=True)
class ConstantBaseline(Estimator):
    """Plain depth; the same uncertainty everywhere.

    All pixels being tied, sparsification removes none of them before all: its AURG is next to 0.

    Example:
        >>> import grumo_jax
        >>> grumo_jax.ConstantBaseline(grumo_jax.Monodepth2()).needs_key
        False
    """

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        depth = predict_depth(self.network, inputs.variables, inputs.images)
        nothing: jax.Array = jnp.zeros_like(depth)
        return Estimate(depth, nothing, nothing)
