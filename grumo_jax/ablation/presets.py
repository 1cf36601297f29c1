"""The papers' ablations as grids: each varies one axis of their recipe."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

from grumo_jax._internal.checks import check_choice
from grumo_jax.ablation.grid import COMBINATIONS, REDUCTIONS, Grid, Signal, Site, single_sites
from grumo_jax.activations import LayerNames, choose_layers, name_layers
from grumo_jax.estimators import GradientUncertainty
from grumo_jax.losses import Space
from grumo_jax.networks.network import DepthNetwork, as_network
from grumo_jax.references import NAMED_REFERENCES, PAPER_REFERENCES, Flip, Reference

Place = tuple[DepthNetwork, Any, Any]
"""Network, variables and images."""

SETS: dict[str, LayerNames] = {
    "4, 6, 8": (4, 6, 8),
    "5 to 7": (5, 6, 7),
    "3 to 9": tuple(range(3, 10)),
    "all": "decoder",
}
"""{name: layers to combine}; it is not known which of these the second paper uses."""


def preset_grid(name: str, model: Any, variables: Any, images: Any) -> Grid:
    """The grid of one of the papers' tables.

    The other axes are as in `GradientUncertainty.paper`: flip, squared difference of depth, the
    default of `choose_layers`, max, and a weight of 2 if log σ is predicted.

    - "layers": each of the decoder's convolutions.
    - "reductions": max, sum, mean, norm. Sum and mean give the same maps up to rounding.
    - "references": each of `NAMED_REFERENCES`, and the average over the papers' four. The strength
      of feature references is this library's choice, since the papers' is not known.
    - "losses": squared difference of depth and, beyond the papers, of log depth and disparity; the
      variance over the papers' four references. If log σ is predicted, each of these with and
      without its term (w = 0), and that term alone.
    - "multi-layer": sets of layers with each combination, and the single layer. The papers'
      program uses the standard deviation; their text is said to use the maximum.

    Args:
        name: the preset.
        model, variables, images: see `Grid.of`.

    Raises:
        GrumoError: for an unknown name.
        LayerError: for "multi-layer" if the network has fewer decoder layers than the papers'.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2()
        >>> images = jax.ShapeDtypeStruct((1, 192, 640, 3), jnp.float32)
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> preset_grid("references", model, variables, images).axes()["signals"]
        ['flip', 'gray', 'noise', 'rotate', 'feature-dropout', 'feature-noise', 'first four']
    """
    check_choice("preset", name, PRESETS)
    place = as_network(model), variables, images
    weight = GradientUncertainty.paper(model).uncertainty_weight
    layer = choose_layers(*place, "gradient")
    recipe = Grid(
        signals=(Signal("flip", (Flip(),), uncertainty_weight=weight),),
        sites=tuple(site for site in single_sites(*place, "decoder") if site.layers == layer),
        reductions=("max",),
    )
    return PRESETS[name](recipe, place)


def _layers(recipe: Grid, place: Place) -> Grid:
    return dataclasses.replace(recipe, sites=single_sites(*place, "decoder"))


def _reductions(recipe: Grid, place: Place) -> Grid:
    return dataclasses.replace(recipe, reductions=REDUCTIONS)


def _references(recipe: Grid, place: Place) -> Grid:
    weight = recipe.signals[0].uncertainty_weight
    named: dict[str, tuple[Reference, ...]] = {n: (r,) for n, r in NAMED_REFERENCES.items()}
    named["first four"] = PAPER_REFERENCES
    signals = [Signal(name, used, uncertainty_weight=weight) for name, used in named.items()]
    return dataclasses.replace(recipe, signals=tuple(signals))


def _losses(recipe: Grid, place: Place) -> Grid:
    weight = recipe.signals[0].uncertainty_weight
    signals = _of_weight(weight, "")
    if weight:
        signals += _of_weight(0.0, ", w = 0")
        signals += [Signal("σ² alone", (), "uncertainty", uncertainty_weight=weight)]
    return dataclasses.replace(recipe, signals=tuple(signals))


def _of_weight(weight: float, suffix: str) -> list[Signal]:
    """A signal for each loss that compares depths."""
    squared = [
        Signal(f"squared, {space.replace('_', ' ')}{suffix}", (Flip(),), "squared", space, weight)
        for space in get_args(Space)
    ]
    variance = Signal(f"variance{suffix}", PAPER_REFERENCES, "variance", uncertainty_weight=weight)
    return [*squared, variance]


def _multi_layer(recipe: Grid, place: Place) -> Grid:
    layers = {name: name_layers(*place, chosen) for name, chosen in SETS.items()}
    sites = [Site(f"{name}, {by}", layers[name], by) for name in SETS for by in COMBINATIONS]
    return dataclasses.replace(recipe, sites=(*recipe.sites, *sites))


PRESETS: dict[str, Callable[[Grid, Place], Grid]] = {
    "layers": _layers,
    "reductions": _reductions,
    "references": _references,
    "losses": _losses,
    "multi-layer": _multi_layer,
}
"""{name: (the papers' recipe as a grid, `Place`) → the preset's grid}."""
