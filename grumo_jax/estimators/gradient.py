"""Grad: the size of the consistency loss's gradient at decoder activations."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from grumo_jax.activations import LayerNames, choose_layers, name_layers
from grumo_jax.errors import GrumoError
from grumo_jax.estimators.backward import loss_gradients
from grumo_jax.estimators.base import Estimate, Estimator, Inputs
from grumo_jax.estimators.draws import number
from grumo_jax.estimators.views import reference_depths
from grumo_jax.losses import Loss, LossName, Space, check_loss, consistency_loss, may_count
from grumo_jax.networks.network import Model, Variables, as_network
from grumo_jax.references import (
    PAPER_REFERENCES,
    Flip,
    Gray,
    ImageReference,
    Noise,
    Reference,
    as_references,
    check_reference,
)
from grumo_jax.scores import (
    Combination,
    Reduction,
    check_score,
    combine,
    reduce_channels,
    to_maps,
)


@struct.dataclass
class GradientEstimate(Estimate):
    """An `Estimate` with its intermediate results, for R references and L losses.

    Attributes:
        reference_depth: (B, R, H, W); 0 or infinite where a reference has no depth.
        loss: (B, L), each image's losses; L = R for the squared loss, else 1.
        layer_scores: {layer: (L, B, h, w)}, gradients after the reduction over channels, not
            normalised.

    Example:
        >>> import jax
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> network = nn.Sequential([nn.Conv(1, (3, 3)), nn.softplus])
        >>> images = jax.random.uniform(jax.random.key(0), (2, 32, 64, 3))
        >>> variables = network.init(jax.random.key(1), images)
        >>> estimate = grumo_jax.GradientUncertainty(network, layers="layers_0")(variables, images)
        >>> estimate.reference_depth.shape, estimate.loss.shape
        ((2, 1, 32, 64), (2, 1))
        >>> {name: score.shape for name, score in estimate.layer_scores.items()}
        {'layers_0': (1, 2, 32, 64)}
    """

    reference_depth: Float[Array, "batch references height width"]
    loss: Float[Array, "batch losses"]
    layer_scores: dict[str, Float[Array, "losses batch _ _"]]


_C = TypeVar("_C", bound=type)


def _accepting_reference(cls: _C) -> _C:
    """Let a class take the keyword `reference=`, the former name of `references=`."""
    kind: Any = cls
    init = kind.__init__

    @functools.wraps(init)
    def accepting(self: Any, *args: Any, **kwargs: Any) -> None:
        if "reference" in kwargs:
            sentence = f"{cls.__name__}(reference=…) is now called references=…"
            warnings.warn(sentence, DeprecationWarning, stacklevel=2)
            kwargs["references"] = kwargs.pop("reference")
        init(self, *args, **kwargs)

    kind.__init__ = accepting
    return cls


@_accepting_reference
@dataclass(frozen=True)
class GradientUncertainty(Estimator):
    """Gradient-based uncertainty of an already trained network, without retraining.

    A loss L compares the prediction d = f(x) with reference depths d_ref. Its gradient ∂L/∂a at
    chosen activations a (pre-activation outputs of decoder convolutions) is reduced over
    channels, min-max normalised per image and resized to the depth's size; layers are combined,
    and references averaged. One backward pass serves all layers and stops at the earliest.

    The defaults are the papers' single-layer recipe; `paper` adds the weight of log σ.

    Attributes:
        model: see `Estimator`.
        layers: names of activations (`activation_shapes` lists them), or numbers of decoder
            convolutions, see `name_layers`; "decoder" for all of these; None for the default of
            `choose_layers`, which is layer 6 of `Monodepth2`.
        references: one or several `Reference`s; stored as a tuple. Its former name, `reference=`,
            still works and warns.
        loss, space, uncertainty_weight: see `consistency_loss`.
        reduction: over channels: "max", "sum", "mean" (signed) or "norm" (L2).
        combine: over layers: "mean", or as the papers do: "std" (the official program's) or "max"
            (the multi-layer variant of the text); with the channels' "max", "std" was worse than a
            constant on synthetic scenes (`docs/results.md`).

    Raises:
        GrumoError: for an unknown option.
        LayerError: for an unknown layer, when called.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2.tiny()
        >>> images = jax.random.uniform(jax.random.key(0), (1, 32, 64, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(1), images)
        >>> estimate = grumo_jax.GradientUncertainty(model)(variables, images)
        >>> estimate.depth.shape, estimate.uncertainty.shape
        ((1, 32, 64), (1, 32, 64))

    Reference: Hornauer & Belagiannis, ECCV 2022, section 3; Hornauer, El-Ghoussani &
    Belagiannis, TPAMI 2025.
    """

    layers: LayerNames | None = None
    references: Reference | Sequence[Reference] = (Flip(),)
    loss: LossName | Loss = "squared"
    space: Space = "depth"
    reduction: Reduction = "max"
    combine: Combination = "mean"
    uncertainty_weight: float = 0.0

    def __post_init__(self) -> None:
        check_loss(self.loss, self.space, self.uncertainty_weight)
        check_score(self.reduction, self.combine)
        if not isinstance(self.layers, str | int | Sequence | None):
            raise GrumoError(f"layers is {self.layers!r}; expected names or numbers of layers")
        references = as_references(self.references)
        object.__setattr__(self, "references", references)
        if not isinstance(self.layers, str | int | None):
            object.__setattr__(self, "layers", tuple(self.layers))
        for name in ("layers", "references"):
            if getattr(self, name) == ():
                raise GrumoError(f"{name} is empty; name at least one")
        for reference in references:
            check_reference(reference)

    @classmethod
    def paper(cls, model: Model, **options: Any) -> "GradientUncertainty":
        """The papers' recipe: flip, squared loss in depth, layer 6, max; w = 2 with log σ.

        For several layers pass `combine="std"`, as in the official program. For Repr, whose second
        head predicts an error, not log σ, pass `uncertainty_weight=0`.
        """
        has_log_sigma = as_network(model).log_sigma is not None
        return cls(model, **{"uncertainty_weight": 2.0 if has_log_sigma else 0.0, **options})

    @classmethod
    def variance(cls, model: Model, **options: Any) -> "GradientUncertainty":
        """The papers' variance loss, over the prediction and all four image references."""
        return cls(model, **{"loss": "variance", "references": PAPER_REFERENCES, **options})

    @classmethod
    def uncertainty_only(cls, model: Model, **options: Any) -> "GradientUncertainty":
        """The term w · mean(σ²) alone, for networks that predict log σ (the papers' "none")."""
        return cls(model, **{"loss": "uncertainty", "uncertainty_weight": 2.0, **options})

    @classmethod
    def averaged(cls, model: Model, **options: Any) -> "GradientUncertainty":
        """Log depth, averaged over all decoder layers and three references; not from the papers.

        It averages many weak scores. In log depth an error counts relative to the depth, so the
        score does not repeat the distance. The recipe was chosen on 13 frames of one drive, where
        it ranks errors far better than `paper`; on held-out data it is a gamble, and mostly worse
        on rmse (`docs/results.md`). The log σ term is that of `paper`. It costs five to seven
        forward passes, depending on the network, `paper` 2.1 to 2.7; with `references=Flip()` it
        costs little more than `paper`.
        """
        recipe = {
            "layers": "decoder",
            "references": (Flip(), Gray(), Noise()),
            "space": "log_depth",
            "combine": "mean",
        }
        return cls.paper(model, **{**recipe, **options})

    @property
    def used_references(self) -> tuple[Reference, ...]:
        """The references; empty for a loss without references."""
        return () if self.loss == "uncertainty" else as_references(self.references)

    @property
    def needs_key(self) -> bool:
        """Whether a reference draws random numbers."""
        return any(reference.draws for reference in self.used_references)

    @property
    def views(self) -> tuple[ImageReference, ...]:
        """The image references."""
        return tuple(r for r in self.used_references if isinstance(r, ImageReference))

    @property
    def loss_options(self) -> dict[str, Any]:
        """Keyword options of `consistency_loss`."""
        return {
            "loss": self.loss,
            "space": self.space,
            "uncertainty_weight": self.uncertainty_weight,
        }

    def estimate(self, inputs: Inputs) -> GradientEstimate:
        """See `Estimator.__call__`."""
        network, variables, images = self.network, inputs.variables, inputs.images
        references = self.reference_depths(inputs)
        depth, (losses,), gradients = loss_gradients(
            network,
            variables,
            images,
            self.layer_names(variables, images),
            [partial(consistency_loss, references=references, **self.loss_options)],
            log_sigma=may_count(self.uncertainty_weight),
        )
        scores = {name: reduce_channels(g, self.reduction) for name, g in gradients.items()}
        height, width = depth.shape[1:]
        maps = [to_maps(score, (height, width)) for score in scores.values()]
        # Over layers, then over references.
        uncertainty, raw = (
            jnp.mean(combine(jnp.stack(several), self.combine), axis=0)
            for several in zip(*maps, strict=True)
        )
        return GradientEstimate(depth, uncertainty, raw, references, losses, scores)

    def reference_depths(self, inputs: Inputs) -> jax.Array:
        """Reference depths (B, R, H, W)."""
        return reference_depths(
            self.network,
            inputs.variables,
            inputs.images,
            number(self.used_references),
            inputs.key,
            ground_truth=inputs.ground_truth,
            views=inputs.views,
        )

    def layer_names(self, variables: Variables, images: jax.Array) -> tuple[str, ...]:
        """Names of the layers at which the gradient is taken."""
        if self.layers is None:
            return choose_layers(self.network, variables, images, "gradient")
        return name_layers(self.network, variables, images, self.layers)
