"""The suite's own checks of annotations find what is wrong, and only that."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from shape_checks import check_fields, checked

from grumo_jax import losses
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import Estimate
from grumo_jax.metrics import depth_errors

MAP = jnp.ones((2, 3, 4))


def test_functions_that_others_imported_check_too():
    assert losses.squared(MAP, np.ones((2, 5, 3, 4), np.float32)).shape == (2, 5, 3, 4)
    # Broadcast, it would go unseen.
    with pytest.raises(AssertionError, match="squared: references is"):
        losses.squared(MAP, jnp.ones((2, 5, 1, 4)))
    from grumo_jax.estimators import gradient

    assert gradient.consistency_loss is losses.consistency_loss
    assert hasattr(depth_errors, "__wrapped__")


def test_a_function_refuses_in_its_own_words():
    with pytest.raises(GrumoError, match="expected one shape"):
        depth_errors(MAP, MAP[:1])


def test_results_are_compared_too():
    def wrong(depth: Float[Array, "batch height width"]) -> bool:
        return depth.shape

    with pytest.raises(AssertionError, match="wrong: return is"):
        checked(wrong)(MAP)
    check_fields(Estimate(MAP, MAP, MAP))
    with pytest.raises(AssertionError, match="Estimate: raw is"):
        check_fields(Estimate(MAP, MAP, MAP[:1]))
