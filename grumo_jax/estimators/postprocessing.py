"""Post: flip post-processing, and the difference between plain and flipped prediction."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax.estimators.base import Estimate, Estimator
from grumo_jax.references import Flip, predict_views


@dataclass(frozen=True)
class PostProcessing(Estimator):
    """Average of plain and flipped prediction; their absolute difference as uncertainty.

    Near the left and right borders the prediction whose border was not occluded counts alone.
    Both are taken in what the network predicts (disparity or depth). The uncertainty is *not*
    normalised.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2(
        ...     encoder_widths=(8, 8, 8, 16, 16), decoder_widths=(4, 4, 8, 8, 8)
        ... )
        >>> images = jax.random.uniform(jax.random.key(0), (1, 32, 64, 3))
        >>> variables = model.init(jax.random.key(1), images)
        >>> grumo_jax.PostProcessing(model)(variables, images).uncertainty.shape
        (1, 32, 64)

    Reference: Godard et al., "Unsupervised Monocular Depth Estimation with Left-Right
    Consistency", CVPR 2017, section 3; Poggi et al., CVPR 2020.
    """

    def estimate(
        self, variables: Any, images: jax.Array, key: Any, ground_truth: jax.Array | None = None
    ) -> Estimate:
        """See `Estimator.__call__`."""
        flip = Flip()
        depths = predict_views(self.network, variables, [images, flip.augment(images)])
        quantities = self.network.to_quantity(depths)
        plain, flipped = quantities[:, 0], flip.invert(quantities[:, 1])
        blended = blend_borders(plain, flipped)
        difference = jnp.abs(plain - flipped)
        return Estimate(self.network.to_depth(blended), difference, difference)


def blend_borders(plain: jax.Array, flipped: jax.Array) -> jax.Array:
    """Average two maps (B, H, W); at the left border the second counts, at the right the first."""
    position = jnp.linspace(0, 1, plain.shape[-1], dtype=plain.dtype)[None, None]
    left = 1 - jnp.clip(20 * (position - 0.05), 0, 1)
    right = left[..., ::-1]
    return left * flipped + right * plain + (1 - left - right) * (plain + flipped) / 2
