"""Grids of Grad's settings: signals × sites × reductions."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from grumo_jax.activations import LayerNames, number_layers
from grumo_jax.activations.calls import find_calls, list_calls
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import GradientUncertainty
from grumo_jax.losses import Loss, LossName, Space, check_loss
from grumo_jax.networks.layouts import find_layout
from grumo_jax.networks.network import DepthNetwork, Model, Variables, as_names, as_network
from grumo_jax.references import (
    NAMED_REFERENCES,
    PAPER_REFERENCES,
    Reference,
    as_references,
    check_reference,
)
from grumo_jax.scores import Combination, Reduction, check_score

REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)


@dataclass(frozen=True)
class Signal:
    """What is back-propagated: a loss between the prediction and reference depths.

    Attributes:
        name: name in tables.
        references, loss, space, uncertainty_weight: see `GradientUncertainty`.

    Example:
        >>> Signal("flip, in log depth", PAPER_REFERENCES[0], space="log_depth").references
        (Flip(),)
    """

    name: str
    references: tuple[Reference, ...]
    loss: LossName | Loss = "squared"
    space: Space = "depth"
    uncertainty_weight: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "references", as_references(self.references))
        check_loss(self.loss, self.space, self.uncertainty_weight)
        for reference in self.references:
            check_reference(reference)
        if not self.references and self.loss != "uncertainty":
            raise GrumoError(f"the signal {self.name!r} has no reference; give it at least one")


@dataclass(frozen=True)
class Site:
    """Where the gradient is taken: at one layer, or at several whose maps are combined.

    Attributes:
        name: name in tables.
        layers: names of activations.
        combine: how to combine several layers.

    Example:
        >>> Site("4, 6", ("decoder/up_2_0/conv", "decoder/up_1_0/conv"), combine="mean").layers
        ('decoder/up_2_0/conv', 'decoder/up_1_0/conv')
    """

    name: str
    layers: tuple[str, ...]
    combine: Combination = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", as_names(self.layers))
        check_score("max", self.combine)
        if not self.layers:
            raise GrumoError(f"the site {self.name!r} has no layer; give it at least one")
        if len(set(self.layers)) < len(self.layers):
            raise GrumoError(f"the site {self.name!r} has a layer twice: {', '.join(self.layers)}")


@dataclass(frozen=True)
class Grid:
    """Every combination of signal, site and reduction over channels.

    `Grid.of` makes a grid from lists of options.

    Attributes:
        signals, sites, reductions: the three axes.

    Raises:
        GrumoError: if an axis is empty or has duplicate names.

    Example:
        >>> grid = Grid(
        ...     signals=(Signal("flip", PAPER_REFERENCES[:1]),),
        ...     sites=(Site("head", ("decoder/head_0",)),),
        ...     reductions=("max", "norm"),
        ... )
        >>> grid.shape
        (1, 1, 2)
    """

    signals: tuple[Signal, ...]
    sites: tuple[Site, ...]
    reductions: tuple[Reduction, ...] = REDUCTIONS

    def __post_init__(self) -> None:
        for axis, names in self.axes().items():
            if not names:
                raise GrumoError(f"the grid has no {axis}; give at least one")
            if twice := {name for name in names if names.count(name) > 1}:
                raise GrumoError(f"the grid's {axis} name {', '.join(sorted(twice))} twice")
        for reduction in self.reductions:
            check_score(reduction, "std")

    @classmethod
    def of(
        cls,
        model: Model,
        variables: Variables,
        images: Any,
        *,
        layers: LayerNames = "decoder",
        combinations: Sequence[Combination] = (),
        reductions: Sequence[Reduction] = REDUCTIONS,
        references: Mapping[str, Reference] | None = None,
        losses: Sequence[LossName] = ("squared", "variance"),
        spaces: Sequence[Space] = ("depth",),
        uncertainty_weights: Sequence[float] | None = None,
    ) -> "Grid":
        """Every combination of the options; by default the papers' ablation.

        The squared loss makes one signal per reference, the variance one signal of all references,
        "uncertainty" one signal without references.

        Args:
            model, variables, images: the network and its arguments; `jax.ShapeDtypeStruct`s
                suffice.
            layers: "decoder" for all decoder convolutions, or names or numbers, see
                `name_layers`.
            combinations: each adds a site that combines all these layers.
            reductions: over channels.
            references: {name: reference}; the papers' four by default.
            losses, spaces: names, see `consistency_loss`. (The variance over the prediction and a
                single reference is a multiple of the squared loss.)
            uncertainty_weights: weights of the log σ term; by default the papers' 2 if the network
                predicts log σ, else 0.

        Raises:
            GrumoError: for an unknown option, or a log σ term if the network predicts no log σ.
            LayerError: for an unknown layer.
        """
        network = as_network(model)
        if uncertainty_weights is None:
            uncertainty_weights = [0.0 if network.log_sigma is None else 2.0]
        if references is None:
            references = {n: r for n, r in NAMED_REFERENCES.items() if r in PAPER_REFERENCES}
        axes = {"losses": losses, "spaces": spaces, "combinations": combinations}
        _check_options(references, {**axes, "uncertainty_weights": uncertainty_weights})
        several = len(spaces) > 1, len(uncertainty_weights) > 1
        signals = []
        compared = [loss for loss in losses if loss != "uncertainty"]
        for space, weight, loss in itertools.product(spaces, uncertainty_weights, compared):
            for name, used in _references_of(loss, references).items():
                details = [space.replace("_", " ")] * several[0] + [f"w = {weight}"] * several[1]
                name = ", ".join([name, *details])
                signals.append(Signal(name, used, loss, space, weight))
        if "uncertainty" in losses:
            weight = max(uncertainty_weights) or 2.0
            signals.append(Signal("uncertainty", (), "uncertainty", uncertainty_weight=weight))
        sites = single_sites(network, variables, images, layers)
        together = tuple(site.layers[0] for site in sites)
        sites += tuple(Site(f"together, {by}", together, by) for by in combinations)
        grid = cls(tuple(signals), sites, tuple(reductions))
        grid.check(network, variables, images)
        return grid

    def check(self, network: DepthNetwork, variables: Variables, images: Any) -> None:
        """Check that the grid fits a network, without running it.

        Args:
            network, variables, images: see `Grid.of`.

        Raises:
            GrumoError: for a log σ term if the network predicts no log σ.
            LayerError: for a layer that is unknown or not a feature map.
        """
        if network.log_sigma is None and any(signal.uncertainty_weight for signal in self.signals):
            raise GrumoError(
                "the network predicts no log σ; leave out its weights and the loss 'uncertainty'"
            )
        layers = [name for site in self.sites for name in site.layers]
        calls = find_calls(list_calls(network, variables, images), layers)
        for name, call in calls.items():
            find_layout(name, call.shape, network.declared_layout(name), images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(signals, sites, reductions)."""
        return len(self.signals), len(self.sites), len(self.reductions)

    def axes(self) -> dict[str, list[str]]:
        """{axis: names along it}, for "signals", "sites" and "reductions"."""
        return {
            "signals": [signal.name for signal in self.signals],
            "sites": [site.name for site in self.sites],
            "reductions": list(self.reductions),
        }

    def estimators(self, model: Model) -> Iterator[GradientUncertainty]:
        """The estimator of each setting, in row-major order of the axes."""
        for signal, site, reduction in itertools.product(self.signals, self.sites, self.reductions):
            yield GradientUncertainty(
                model,
                layers=site.layers,
                references=signal.references or PAPER_REFERENCES,
                loss=signal.loss,
                space=signal.space,
                reduction=reduction,
                combine=site.combine,
                uncertainty_weight=signal.uncertainty_weight,
            )


def _check_options(references: Any, lists: Mapping[str, Any]) -> None:
    if not isinstance(references, Mapping):
        raise GrumoError(
            f"references is {references!r}; expected them by name, such as {{'flip': Flip()}}"
        )
    for name, values in lists.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise GrumoError(f"{name} is {values!r}; expected a list, such as [{values!r}]")
    if own := [loss for loss in lists["losses"] if not isinstance(loss, str)]:
        raise GrumoError(
            f"{own[0]!r} is no name of a loss; for a function of your own make a Grid of Signals"
        )


def _references_of(
    loss: LossName, references: Mapping[str, Reference]
) -> dict[str, tuple[Reference, ...]]:
    """The signals of a loss: {name: references}."""
    if loss == "squared":
        return {name: (reference,) for name, reference in references.items()}
    return {loss: tuple(references.values())}


def single_sites(
    network: DepthNetwork, variables: Variables, images: Any, layers: LayerNames
) -> tuple[Site, ...]:
    """A site for each layer; its name starts with the layer's number if that was given."""
    return tuple(
        Site(name if number is None else f"{number} {name}", (name,))
        for number, name in number_layers(network, variables, images, layers)
    )
