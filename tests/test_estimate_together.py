"""Several estimators of one network in one call, and the baselines beside them."""

import jax
import numpy as np
import pytest
from helpers import SmallNet, draw_variables

import grumo_jax


def test_estimators_of_different_networks_are_refused(small, images):
    other = grumo_jax.wrap(SmallNet(), predicts="depth")
    several = {
        "a": grumo_jax.PostProcessing(small[0]),
        "b": grumo_jax.PostProcessing(other),
    }
    with pytest.raises(grumo_jax.GrumoError, match="of different networks"):
        grumo_jax.estimate_together(several, draw_variables(SmallNet(), images), images)


def test_together_is_the_same_as_alone(small, images):
    key = jax.random.key(3)
    several = {
        "grad": grumo_jax.GradientUncertainty(small[0], reduction="norm"),
        "post": grumo_jax.PostProcessing(small[0]),
        "twice": grumo_jax.TestTimeVariance(
            small[0], references=(grumo_jax.Noise(), grumo_jax.Noise(), grumo_jax.Flip())
        ),
        "in-drop": grumo_jax.InferenceDropout(small[0], samples=2),
        "row": grumo_jax.RowBaseline(small[0]),
    }
    together = grumo_jax.estimate_together(several, small[1], images, key)
    for name, estimator in several.items():
        alone = estimator(small[1], images, key)
        np.testing.assert_allclose(together[name].depth, alone.depth, rtol=1e-5)
        np.testing.assert_allclose(together[name].uncertainty, alone.uncertainty, atol=1e-4)


def test_baselines(small, images):
    baselines = {
        "row": grumo_jax.RowBaseline(small[0]),
        "depth": grumo_jax.DepthBaseline(small[0]),
        "constant": grumo_jax.ConstantBaseline(small[0]),
        "post": grumo_jax.PostProcessing(small[0], difference="depth"),
    }
    found, flipped = (
        jax.tree.map(np.asarray, grumo_jax.estimate_together(baselines, small[1], x))
        for x in (images, images[:, :, ::-1])
    )
    rows = found["row"].uncertainty[1, :, 5]
    np.testing.assert_allclose(rows, np.linspace(1, 0, 32), atol=1e-6)
    far = found["depth"]
    assert np.argmax(far.uncertainty[2]) == np.argmax(far.depth[2])
    assert not found["constant"].uncertainty.any()
    difference = np.abs(far.depth - flipped["depth"].depth[:, :, ::-1])
    np.testing.assert_allclose(found["post"].raw, difference, rtol=1e-3, atol=1e-4)
