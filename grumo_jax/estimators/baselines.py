"""Trivial scores that a useful one must beat: depth, the image row, a constant.

Depth networks err more at larger distances, and distant things lie high in an image. So a score
that only repeats the distance ranks errors in metres well without finding the network's mistakes.
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
    """Plain depth; the depth itself as uncertainty.

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
    """Plain depth; the image row as uncertainty, from 1 at the top to 0 at the bottom.

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

    All pixels are tied, so sparsification removes none before the others: its AURG is close to 0.

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
