"""Post: flip post-processing, and the difference between plain and flipped prediction."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from grumo_jax._internal.checks import check_choice
from grumo_jax.estimators.base import Estimate, Estimator, Inputs, predict_depth
from grumo_jax.references import Flip, ImageReference


@dataclass(frozen=True)
class PostProcessing(Estimator):
    """Average of plain and flipped prediction; their absolute difference as uncertainty.

    Near the left and right borders only the prediction that is not occluded there counts. Average
    and difference are taken of the network's quantity (disparity or depth). The uncertainty is
    *not* normalised.

    Attributes:
        model: see `Estimator`.
        difference: quantity of the uncertainty: "predicted" (the network's), or "depth", a
            baseline that favours distant pixels. The average is always of the network's quantity.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([lambda images: jnp.cumsum(images[..., 0], axis=-1)])
        >>> grumo_jax.PostProcessing(model)({}, jnp.ones((1, 1, 3, 3))).uncertainty
        Array([[[2., 0., 2.]]], dtype=float32)

    Reference: Godard et al., "Unsupervised Monocular Depth Estimation with Left-Right
    Consistency", CVPR 2017, section 3; Poggi et al., CVPR 2020.
    """

    difference: Literal["predicted", "depth"] = "predicted"

    def __post_init__(self) -> None:
        check_choice("difference", self.difference, ("predicted", "depth"))

    @property
    def views(self) -> tuple[ImageReference, ...]:
        """The flipped image."""
        return (Flip(),)

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        network, flip = self.network, Flip()
        depth = predict_depth(network, inputs.variables, inputs.images)
        flipped_depth = flip.invert(inputs.views[flip, 0])
        plain, flipped = network.to_quantity(depth), network.to_quantity(flipped_depth)
        if self.difference == "depth":
            difference = jnp.abs(depth - flipped_depth)
        else:
            difference = jnp.abs(plain - flipped)
        return Estimate(network.to_depth(blend_borders(plain, flipped)), difference, difference)


def blend_borders(plain: jax.Array, flipped: jax.Array) -> jax.Array:
    """Average two maps (B, H, W); the left border is the second's alone, the right the first's."""
    position = jnp.linspace(0, 1, plain.shape[-1], dtype=plain.dtype)[None, None]
    left = 1 - jnp.clip(20 * (position - 0.05), 0, 1)
    right = left[..., ::-1]
    return left * flipped + right * plain + (1 - left - right) * (plain + flipped) / 2
