"""Var: the variance of predictions under test-time augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax.errors import GrumoError
from grumo_jax.estimators.base import Estimate, Estimator, normalized_estimate
from grumo_jax.references import (
    PAPER_REFERENCES,
    ImageReference,
    predict_views,
    reference_keys,
)


@dataclass(frozen=True)
class TestTimeVariance(Estimator):
    """Plain depth; unbiased variance over the plain and the augmented predictions.

    The variance is taken in what the network predicts (disparity or depth).

    Attributes:
        model: see `Estimator`.
        references: one or several augmentations beside the plain image; the papers' by default.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2(
        ...     encoder_widths=(8, 8, 8, 16, 16), decoder_widths=(4, 4, 8, 8, 8)
        ... )
        >>> images = jax.random.uniform(jax.random.key(0), (1, 32, 64, 3))
        >>> variables = model.init(jax.random.key(1), images)
        >>> estimator = grumo_jax.TestTimeVariance(model)
        >>> estimator(variables, images, jax.random.key(2)).uncertainty.shape
        (1, 32, 64)

    Reference: Hornauer & Belagiannis, ECCV 2022, section 4 (baseline "Var").
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    references: ImageReference | Sequence[ImageReference] = PAPER_REFERENCES

    def __post_init__(self) -> None:
        references = self._references
        if not references or not all(isinstance(r, ImageReference) for r in references):
            raise GrumoError(
                f"references are {references}; expected image references, such as (Flip(), Gray())"
            )
        object.__setattr__(self, "references", references)

    @property
    def _references(self) -> tuple[ImageReference, ...]:
        references = self.references
        return (references,) if isinstance(references, ImageReference) else tuple(references)

    @property
    def needs_key(self) -> bool:
        """Whether an augmentation draws random numbers."""
        return any(reference.draws for reference in self._references)

    def estimate(
        self, variables: Any, images: jax.Array, key: Any, ground_truth: jax.Array | None = None
    ) -> Estimate:
        """See `Estimator.__call__`."""
        references = self._references
        keys = reference_keys(key, references)
        augmented = [r.augment(images, k) for r, k in zip(references, keys, strict=True)]
        depths = predict_views(self.network, variables, [images, *augmented])
        quantities = self.network.to_quantity(depths)
        inverted = [r.invert(quantities[:, i]) for i, r in enumerate(references, start=1)]
        raw = jnp.var(jnp.stack([quantities[:, 0], *inverted]), axis=0, ddof=1)
        return normalized_estimate(depths[:, 0], raw)
