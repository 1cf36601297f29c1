"""Var: the variance of predictions under test-time augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp

from grumo_jax.errors import GrumoError
from grumo_jax.estimators.base import (
    Estimate,
    Estimator,
    Inputs,
    normalized_estimate,
    predict_depth,
)
from grumo_jax.estimators.draws import number
from grumo_jax.references import PAPER_REFERENCES, ImageReference, as_references


@dataclass(frozen=True)
class TestTimeVariance(Estimator):
    """Plain depth; unbiased variance over the plain and the augmented predictions.

    The variance is taken of the network's quantity (disparity or depth).

    Attributes:
        model: see `Estimator`.
        references: one or several augmentations; the papers' four by default.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([lambda images: jnp.cumsum(images[..., 0], axis=-1)])
        >>> estimator = grumo_jax.TestTimeVariance(model, references=grumo_jax.Flip())
        >>> estimator({}, jnp.ones((1, 1, 3, 3))).raw
        Array([[[2., 0., 2.]]], dtype=float32)

    Reference: Hornauer & Belagiannis, ECCV 2022, section 4 (baseline "Var").
    """

    __test__ = False  # pytest collects classes by this name

    references: ImageReference | Sequence[ImageReference] = PAPER_REFERENCES

    def __post_init__(self) -> None:
        references = as_references(self.references)
        if not references or not all(isinstance(r, ImageReference) for r in references):
            raise GrumoError(
                f"references are {references}; expected image references, such as (Flip(), Gray())"
            )
        object.__setattr__(self, "references", references)

    @property
    def views(self) -> tuple[ImageReference, ...]:
        """The augmentations, as a tuple."""
        return as_references(self.references)

    @property
    def needs_key(self) -> bool:
        """Whether an augmentation draws random numbers."""
        return any(reference.draws for reference in self.views)

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        network = self.network
        depth = predict_depth(network, inputs.variables, inputs.images)
        # The inverse is applied to disparities: the zeros outside a rotation mean infinitely far.
        quantities = [network.to_quantity(depth)]
        for reference, n in number(self.views):
            quantity = network.to_quantity(inputs.views[reference, n])
            quantities.append(reference.invert(quantity))
        return normalized_estimate(depth, jnp.var(jnp.stack(quantities), axis=0, ddof=1))
