"""Grids of settings of the small network, for tests of ablation."""

import itertools

from grumo_jax.ablation import Grid, Site

LAYERS = ("up2", "up1", "heads")


def grid_of(*signals, reductions=("max", "norm")):
    single = [Site(name, (name,)) for name in LAYERS]
    together = [Site(by, LAYERS, by) for by in ("std", "mean")]
    return Grid(signals, (*single, *together), reductions)


def settings_of(grid, network):
    """(place along the axes, estimator) of every setting."""
    places = itertools.product(*map(range, grid.shape))
    return zip(places, grid.estimators(network), strict=True)
