"""Devices that share a batch need nothing of each other's images."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import exchanges
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import grumo_jax
from grumo_jax.ablation import Grid, ablate_settings
from grumo_jax.data import Sample
from grumo_jax.evaluation import PROTOCOLS
from grumo_jax.evaluation.measure import measure
from grumo_jax.evaluation.targets import Prepare, batch_targets
from grumo_jax.networks import convolutions
from grumo_jax.networks.network import as_network

SIZE = (32, 64)


@pytest.fixture(scope="module")
def place():
    """Function: a tree's forms, shared between four devices or on each of them."""
    mesh = jax.make_mesh((4,), ("data",), (AxisType.Auto,))

    def place(tree, shared):
        sharding = NamedSharding(mesh, PartitionSpec("data") if shared else PartitionSpec())
        form = partial(jax.ShapeDtypeStruct, sharding=sharding)
        return jax.tree.map(lambda x: form(x.shape, x.dtype), tree)

    return place


def exchanged(function, *arguments):
    return exchanges(jax.jit(function).lower(*arguments).compile())


def test_exchanges_are_noticed(place):
    maps = place(jnp.zeros((4, *SIZE)), shared=True)
    assert exchanged(jnp.sum, maps) == {"all-reduce"}
    assert exchanged(lambda x: x[::-1], maps) == {"collective-permute"}


@pytest.mark.parametrize("form", ["padded", pytest.param("corrected", marks=pytest.mark.slow)])
def test_estimators(place, tiny, form, monkeypatch):
    if form == "corrected":
        monkeypatch.setattr(convolutions, "SMALL", 0)
    model, variables = tiny
    estimator = grumo_jax.GradientUncertainty.averaged(model.clone())
    images = place(jnp.zeros((4, *SIZE, 3)), shared=True)

    def maps(variables, images):
        estimate = estimator(variables, images, jax.random.key(0))
        return estimate.depth, estimate.uncertainty

    assert exchanged(maps, place(variables, shared=False), images) == set()


def test_ablations(place, small):
    network, variables = small
    images = place(jnp.zeros((4, *SIZE, 3)), shared=True)
    grid = Grid.of(network, variables, images, reductions=["max"])

    def means(variables, images):
        mean = partial(jnp.mean, axis=(1, 2))
        return ablate_settings(
            grid, network, variables, images, lambda _, u: mean(u), jax.random.key(0)
        )

    assert exchanged(means, place(variables, shared=False), images) == set()


def test_measures(place, small):
    protocol = dataclasses.replace(PROTOCOLS["median"].for_source(None), bands=(0, 80))
    sample = Sample("a", np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, np.float32))
    targets = batch_targets([Prepare(protocol, SIZE)(sample)] * 4, protocol, SIZE)
    maps = place(jnp.zeros((4, *SIZE)), shared=True)

    def measures(depth, uncertainty, targets):
        return measure(as_network(small[0]), depth, uncertainty, targets, protocol)

    assert exchanged(measures, maps, maps, place(targets, shared=True)) == set()
