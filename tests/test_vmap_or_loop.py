"""Loops: the same results as vmap, with what is fixed computed once and kernels laid out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from grumo_jax._internal.hoisting import hoist_invariants
from grumo_jax._internal.vmap_or_loop import map_chunks, vmap_or_loop

WEIGHTS = jax.random.normal(jax.random.key(0), (3, 3, 2, 2))
MAPS = jax.random.normal(jax.random.key(1), (5, 1, 8, 8, 2))


@jax.jit
def convolve(x, weights=WEIGHTS):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, weights, (1, 1), "SAME", dimension_numbers=numbers)


def gradient(x):
    """Differentiated convolutions, the same compiled function twice, and a custom rule."""
    return jax.grad(lambda x: jnp.sum(nn.relu(convolve(convolve(x))) ** 2))(x)


MAPPINGS = {
    "fast": vmap_or_loop,
    "one by one": lambda f, xs: map_chunks(f, xs, 1),
    "chunks": lambda f, xs: map_chunks(f, xs, 2),
    "one chunk": lambda f, xs: map_chunks(f, xs, 9),
}


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
@pytest.mark.parametrize("function", [gradient, jax.checkpoint(gradient)])
def test_mapping_is_vmap(mapping, function):
    expected = jax.jit(jax.vmap(function))(MAPS)
    np.testing.assert_allclose(mapping(function, MAPS), expected, rtol=1e-4, atol=1e-4)
    mapped = jax.jit(lambda xs: mapping(function, xs))
    np.testing.assert_allclose(mapped(MAPS), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_mappings_can_be_transformed(mapping):
    def total(scales, weights, mapping):
        return jnp.sum(mapping(lambda s: convolve(s * MAPS[0], weights), scales) ** 2)

    def transformed(mapping):
        both = jax.vmap(lambda weights: jax.grad(total, (0, 1))(jnp.arange(5.0), weights, mapping))
        return jax.jit(both)(jnp.stack([WEIGHTS, 2 * WEIGHTS]))

    found, expected = transformed(mapping), transformed(lambda f, xs: jax.vmap(f)(xs))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3)


def test_what_is_fixed_is_computed_once():
    def function(x):
        return convolve(x) + jnp.sum(convolve(MAPS[0])) + jnp.zeros((8, 8, 2))[None]

    ready = hoist_invariants(function, MAPS[0], on_cpu=False)
    names = [str(e.primitive) for e in jax.make_jaxpr(ready)(MAPS[0]).eqns]
    assert names.count("conv_general_dilated") == 1
    assert "reduce_sum" not in names
    assert "broadcast_in_dim" in names, "what is cheap is not kept"


def test_kernels_are_laid_out():
    """So that XLA finds its fast routine: it knows kernels of (height, width, in, out) only."""
    plain = hoist_invariants(gradient, MAPS[0], on_cpu=True)
    loops = {
        name: jax.jit(lambda xs, f=f: jax.lax.map(f, xs)).lower(MAPS).compile().as_text()
        for name, f in (("as it is", gradient), ("plain", plain))
    }
    assert "01oi->" in loops["as it is"]
    assert "01oi->" not in loops["plain"]
    assert "01io->" in loops["plain"]


def test_in_loops_on_cpus_their_own_branch_is_laid_out():
    def by_platform(x):
        return jax.lax.platform_dependent(x, cuda=jnp.sin, default=convolve)

    def pulled_back(x):
        return jax.grad(lambda x: jnp.sum(by_platform(x) ** 2))(x)

    ready = hoist_invariants(pulled_back, MAPS[0], on_cpu=True)
    names = [str(e.primitive) for e in jax.make_jaxpr(ready)(MAPS[0]).eqns]
    assert "cond" not in names
    assert names.count("conv_general_dilated") == names.count("optimization_barrier") == 2
    np.testing.assert_allclose(ready(MAPS[0]), pulled_back(MAPS[0]), rtol=1e-4)


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
def test_nothing_gives_nothing(mapping):
    assert mapping(convolve, MAPS[:0]).shape == MAPS[:0].shape
