"""The decoder's convolutions are plain ones of padded and upsampled maps, whatever their size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from grumo_jax.models import convolutions
from grumo_jax.models.convolutions import (
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
    for fast, slow in pairs:
        np.testing.assert_allclose(fast(x, kernel), slow(x, kernel), rtol=1e-4, atol=1e-4)
        weights = jax.random.normal(keys[2], slow(x, kernel).shape)

        def total(x, kernel, convolve, weights=weights):
            return jnp.sum(weights * jnp.sin(convolve(x, kernel)))

        found, expected = (jax.grad(total, (0, 1))(x, kernel, f) for f in (fast, slow))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), found, expected)
        moved = [jax.jvp(lambda x, f=f: f(x, kernel), (x,), (x**2,))[1] for f in (fast, slow)]
        np.testing.assert_allclose(*moved, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("form")
def test_the_module_is_a_convolution_of_both_maps():
    low = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    skipped = jax.random.normal(jax.random.key(1), (2, 8, 12, 2))
    module = ReflectionConv(5, (3, 3))
    variables = module.init(jax.random.key(2), skipped, low)
    both = jnp.concatenate([twice(low), skipped], axis=-1)
    reference = nn.Conv(5, (3, 3))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, reference.init(jax.random.key(2), both)
    )
    kernel, bias = (variables["params"][name] for name in ("kernel", "bias"))
    expected = plain(both, kernel) + bias.reshape(1, 1, 1, -1)
    np.testing.assert_allclose(module.apply(variables, skipped, low), expected, atol=1e-4)
    alone = module.apply(variables, both)
    np.testing.assert_allclose(alone, expected, atol=1e-4)
    half = ReflectionConv(5, (3, 3), dtype=jnp.bfloat16).apply(variables, skipped, low)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), expected, atol=0.1)


def test_heads_are_summed_in_float32():
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (1, 32, 64, 32), jnp.bfloat16)
    kernel = jax.random.normal(keys[1], (3, 3, 32, 1), jnp.bfloat16) / 17
    found = convolve_reflected(x, kernel)
    assert found.dtype == jnp.bfloat16
    exact = plain(x.astype(jnp.float32), kernel.astype(jnp.float32))
    errors = [jnp.abs(y.astype(jnp.float32) - exact).mean() for y in (found, exact.astype(x.dtype))]
    assert errors[0] < 1.05 * errors[1], "only the result is rounded"
