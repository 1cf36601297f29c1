"""Every estimator, compiled as users compile it: `make test-slow` sets XLA_DEFAULTS."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SmallNet, draw_variables

import grumo_jax
from grumo_jax import estimators

if not os.environ.get("XLA_DEFAULTS"):
    pytest.skip("left to make test-slow, which sets XLA_DEFAULTS", allow_module_level=True)

pytestmark = pytest.mark.defaults
KEY = jax.random.key(3)
NAMES = (*(name for name in estimators.NAMED if name != "drop"), "dropout", "ensemble")


def make(name, network):
    if name == "dropout":
        return grumo_jax.DropoutEnsemble(network, samples=3)
    if name == "ensemble":
        return grumo_jax.Ensemble(network)
    return grumo_jax.named_estimator(name, network)


def test_no_flags_are_set():
    assert "XLA_FLAGS" not in os.environ
    assert jax.config.read("jax_disable_most_optimizations") is False


def test_no_estimator_is_left_out(small):
    exported = {
        thing
        for thing in vars(estimators).values()
        if isinstance(thing, type) and issubclass(thing, grumo_jax.Estimator)
    } - {grumo_jax.Estimator}
    assert {type(make(name, small[0])) for name in NAMES} == exported


@pytest.mark.parametrize("name", NAMES)
def test_one_program_gives_what_single_operations_give(name, small, images):
    network, variables = small
    if name == "ensemble":
        other = draw_variables(SmallNet(), images, seed=2)
        variables = grumo_jax.stack_variables([variables, other])
    estimator = make(name, network)
    estimate = estimator(variables, images, KEY)
    with jax.disable_jit():
        single = estimator(variables, images, KEY)
    for field in ("depth", "uncertainty", "raw"):
        found, expected = getattr(estimate, field), getattr(single, field)
        assert jnp.all(jnp.isfinite(found))
        scale = float(jnp.abs(expected).max()) or 1.0
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4 * scale, err_msg=field)
