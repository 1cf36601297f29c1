"""Every setting of a grid at once, with shared forward and backward passes."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax._internal.checks import check_images
from grumo_jax._internal.vmap_or_loop import vmap_or_loop
from grumo_jax.ablation.grid import Grid, Signal, Site
from grumo_jax.errors import GrumoError
from grumo_jax.estimators.backward import Losses, loss_gradients
from grumo_jax.estimators.draws import Numbered, number
from grumo_jax.estimators.views import reference_depths
from grumo_jax.losses import Loss, LossName, Space, consistency_loss
from grumo_jax.networks.network import DepthNetwork, Model, Variables, as_network
from grumo_jax.scores import Reduction, combine, reduce_channels, to_maps

Measure = Callable[[jax.Array, jax.Array], Any]
"""(depth (B, H, W), uncertainty (B, H, W)) → a pytree of arrays."""


def ablate_settings(
    grid: Grid,
    model: Model,
    variables: Variables,
    images: jax.Array,
    measure: Measure,
    key: jax.Array | None = None,
    *,
    ground_truth: jax.Array | None = None,
) -> Any:
    """Measure the uncertainty of every setting of a grid with shared passes.

    Each distinct reference is predicted once, and each distinct loss back-propagated once, to all
    layers. The log σ term has one backward pass for all weights, since gradients are linear. Each
    setting's map is that of its estimator alone (`Grid.estimators`), up to rounding. A pure
    function: call it under `jax.jit`.

    Args:
        grid: the settings.
        model, variables, images: see `Estimator.__call__`.
        measure: (depth (B, H, W) in the network's unit, uncertainty (B, H, W) in [0, 1]) → a
            pytree of arrays. Maps are not kept, so reduce each image to a few numbers.
        key: PRNG key, required if a reference draws random numbers.
        ground_truth: depth (B, H, W), for the reference `GroundTruth`.

    Returns:
        The measures, with leading axes (signals, sites, reductions).

    Raises:
        GrumoError: for images of a wrong shape or dtype, or a missing key.
        LayerError: for an unknown layer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> from grumo_jax.ablation import Grid, ablate_settings
        >>> model = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, nn.Conv(1, (3, 3)), nn.softplus])
        >>> images = jax.random.uniform(jax.random.key(0), (2, 32, 64, 3))
        >>> variables = model.init(jax.random.key(1), images)
        >>> references = {"flip": grumo_jax.Flip(), "gray": grumo_jax.Gray()}
        >>> grid = Grid.of(model, variables, images, layers=["layers_0", "layers_2"],
        ...     references=references)
        >>> @jax.jit
        ... def mean_uncertainty(variables, images):
        ...     mean = lambda depth, uncertainty: jnp.mean(uncertainty, axis=(1, 2))
        ...     return ablate_settings(grid, model, variables, images, mean)
        >>> mean_uncertainty(variables, images).shape  # signals, sites, reductions, images
        (3, 2, 4, 2)
    """
    check_images(images)
    references = [reference for signal in grid.signals for reference in signal.references]
    if key is None and any(reference.draws for reference in references):
        raise GrumoError("a reference draws random numbers: pass a key, such as jax.random.key(0)")
    network = as_network(model)
    grid.check(network, variables, images)
    depth, gradients, places = _gradients(grid, network, variables, images, key, ground_truth)
    score = partial(_measure_sites, grid, depth, measure)
    return _for_each_signal(grid.signals, gradients, places, score)


_Term = tuple[tuple[Numbered, ...], LossName | Loss, Space]
"""References, loss and space of one backward pass."""

_SIGMA: _Term = ((), "uncertainty", "depth")


def _own_terms(signal: Signal) -> list[_Term]:
    """A signal's terms without log σ's; the squared loss has one for each reference."""
    if signal.loss == "uncertainty":
        return [_SIGMA]
    numbered = tuple(number(signal.references))
    together = [(one,) for one in numbered] if signal.loss == "squared" else [numbered]
    return [(references, signal.loss, signal.space) for references in together]


def distinct_terms(signals: Iterable[Signal]) -> list[_Term]:
    """The distinct terms of all signals; each is back-propagated once."""
    terms = dict.fromkeys(term for signal in signals for term in _own_terms(signal))
    if any(signal.uncertainty_weight for signal in signals):
        terms[_SIGMA] = None
    return list(terms)


def _gradients(
    grid: Grid,
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    key: jax.Array | None,
    ground_truth: jax.Array | None,
) -> tuple[jax.Array, dict[str, jax.Array], dict[_Term, list[int]]]:
    """Depth (B, H, W), gradients {layer: (L, B, h, w, C)}, and {term: its indices among the L}."""
    numbered = list(dict.fromkeys(n for s in grid.signals for n in number(s.references)))
    compared = reference_depths(
        network, variables, images, numbered, key, ground_truth=ground_truth
    )

    def losses_of(term: _Term) -> Losses:
        references, loss, space = term
        own = np.array([numbered.index(one) for one in references], int)
        return partial(
            consistency_loss,
            references=compared[:, own],
            loss=loss,
            space=space,
            uncertainty_weight=1.0 if term == _SIGMA else 0.0,
        )

    terms = distinct_terms(grid.signals)
    depth, losses, gradients = loss_gradients(
        network,
        variables,
        images,
        tuple(dict.fromkeys(name for site in grid.sites for name in site.layers)),
        [losses_of(term) for term in terms],
        log_sigma=_SIGMA in terms,
    )
    ends = np.cumsum([found.shape[1] for found in losses]).tolist()
    places = map(range, [0, *ends], ends)
    return depth, gradients, dict(zip(terms, map(list, places), strict=True))


def _for_each_signal(
    signals: Sequence[Signal],
    gradients: dict[str, jax.Array],
    places: dict[_Term, list[int]],
    score: Callable[[dict[str, jax.Array]], Any],
) -> Any:
    """Apply `score` to each signal's gradients {layer: (L, B, h, w, C)}; stack in signal order."""
    own = [[i for term in _own_terms(signal) for i in places[term]] for signal in signals]
    weights = [0.0 if s.loss == "uncertainty" else s.uncertainty_weight for s in signals]

    def scored(signal: tuple[jax.Array, jax.Array]) -> Any:
        mine, weight = signal
        chosen = {name: gradient[mine] for name, gradient in gradients.items()}
        if any(weights):
            (sigma,) = places[_SIGMA]
            for name, gradient in gradients.items():
                # Masked where the weight is 0, since 0 times infinity is NaN.
                term = jnp.where(weight == 0, 0, gradient[sigma])
                chosen[name] += weight.astype(gradient.dtype) * term[None]
        return score(chosen)

    # Signals with equally many losses have the same shapes: they are batched, or looped on CPUs.
    order, results = list[int](), []
    for count in sorted({len(mine) for mine in own}):
        group = [i for i, mine in enumerate(own) if len(mine) == count]
        chosen = jnp.array([own[i] for i in group]), jnp.array([weights[i] for i in group])
        results.append(vmap_or_loop(scored, chosen))
        order += group
    back = np.argsort(order)
    return jax.tree.map(lambda *found: jnp.concatenate(found)[back], *results)


def _measure_sites(
    grid: Grid, depth: jax.Array, measure: Measure, gradients: dict[str, jax.Array]
) -> Any:
    """Measures of one signal, with leading axes (sites, reductions)."""
    size = depth.shape[1:]
    maps = {name: _maps(gradient, grid.reductions, size) for name, gradient in gradients.items()}
    uncertainty = jnp.stack([_at_site(site, maps) for site in grid.sites])
    return jax.vmap(jax.vmap(partial(measure, depth)))(uncertainty)


def _maps(
    gradients: jax.Array, reductions: Sequence[Reduction], size: tuple[int, ...]
) -> jax.Array:
    """Gradients (L, B, h, w, C) to normalised maps (R, L, B, H, W)."""
    height, width = size
    scores = jnp.stack([reduce_channels(gradients, reduction) for reduction in reductions])
    return to_maps(scores, (height, width))[0]


def _at_site(site: Site, maps: dict[str, jax.Array]) -> jax.Array:
    """A site's uncertainty (R, B, H, W): layers are combined, then references averaged."""
    return jnp.mean(combine(jnp.stack([maps[n] for n in site.layers]), site.combine), axis=1)
