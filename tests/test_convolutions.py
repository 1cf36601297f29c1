"""The decoder's convolutions are plain ones of padded and upsampled maps, whatever their size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_trees_close

from grumo_jax.networks import convolutions
from grumo_jax.networks.convolutions import (
    ReflectionConv,
    convolve_reflected,
    convolve_upsampled,
)


def plain(x, kernel):
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=names)


def twice(x):
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


@pytest.fixture(params=["padded", "corrected"])
def form(request, monkeypatch):
    if request.param == "corrected":
        monkeypatch.setattr(convolutions, "SMALL", 0)


@pytest.mark.parametrize(
    ("form", "size", "features"),
    [
        ("padded", (3, 5), 4),
        *(("corrected", size, 4) for size in ((1, 4), (2, 2), (6, 1), (3, 5))),
        *(("corrected", size, 1) for size in ((1, 4), (3, 5))),
    ],
    indirect=["form"],
)
def test_values_and_derivatives(form, size, features):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, *size, 3))
    kernel = jax.random.normal(keys[1], (3, 3, 3, features))
    pairs = (
        (convolve_reflected, plain),
        (convolve_upsampled, lambda x, kernel: plain(twice(x), kernel)),
    )

    def look(x, kernel, convolve):
        """The value, a gradient, and a derivative along a direction."""
        value, moved = jax.jvp(lambda x: convolve(x, kernel), (x,), (x**2,))
        weights = jax.random.normal(keys[2], value.shape)

        def total(x, kernel):
            return jnp.sum(weights * jnp.sin(convolve(x, kernel)))

        return value, jax.grad(total, (0, 1))(x, kernel), moved

    @jax.jit
    def look_at_pairs(x, kernel):
        return [[look(x, kernel, convolve) for convolve in pair] for pair in pairs]

    for found, expected in look_at_pairs(x, kernel):
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-4)
        assert_trees_close(found[1], expected[1], atol=1e-3)
        np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("form")
def test_the_module_is_a_convolution_of_both_maps():
    rng = np.random.default_rng(0)
    low, skipped = (
        rng.normal(size=shape).astype(np.float32) for shape in ((2, 4, 6, 3), (2, 8, 12, 2))
    )
    both = np.concatenate([low.repeat(2, axis=1).repeat(2, axis=2), skipped], axis=-1)
    module, key = ReflectionConv(5, (3, 3)), jax.random.key(2)
    shapes = jax.eval_shape(nn.Conv(5, (3, 3)).init, key, both)
    assert jax.eval_shape(module.init, key, skipped, low) == shapes
    kernel = rng.normal(size=shapes["params"]["kernel"].shape).astype(np.float32) / 7
    bias = rng.normal(size=shapes["params"]["bias"].shape).astype(np.float32)

    @jax.jit
    def look(kernel, bias):
        variables = {"params": {"kernel": kernel, "bias": bias}}
        half = ReflectionConv(5, (3, 3), dtype=jnp.bfloat16)
        found = {
            "two maps": module.apply(variables, skipped, low),
            "one map": module.apply(variables, both),
            "half": half.apply(variables, skipped, low),
        }
        return found, plain(both, kernel) + bias.reshape(1, 1, 1, -1)

    found, expected = look(kernel, bias)
    np.testing.assert_allclose(found["two maps"], expected, atol=1e-4)
    np.testing.assert_allclose(found["one map"], expected, atol=1e-4)
    assert found["half"].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found["half"], np.float32), expected, atol=0.1)


def test_heads_are_summed_in_float32():
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (1, 32, 64, 32), jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (3, 3, 32, 1), jnp.bfloat16) / 17
    found = jax.jit(convolve_reflected)(x, kernel)
    assert found.dtype == jnp.bfloat16
    exact = np.asarray(jax.jit(plain)(x.astype(jnp.float32), kernel.astype(jnp.float32)))
    ours, least = (
        np.abs(np.asarray(y, np.float32) - exact).mean() for y in (found, exact.astype(x.dtype))
    )
    assert ours < 1.05 * least, "only the result is rounded"
