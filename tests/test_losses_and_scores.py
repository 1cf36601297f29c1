import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_variables
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import grumo_jax
from grumo_jax import losses, scores

DEPTH = jnp.array([[[1.0, 2.0]]])
REFERENCES = jnp.array([[[[2.0, 4.0]], [[1.0, 1.0]]]])


consistency_loss = jax.jit(
    losses.consistency_loss, static_argnames=("loss", "space", "uncertainty_weight")
)
normalize = jax.jit(scores.normalize)


def loss(**options):
    return consistency_loss(DEPTH, jnp.zeros((1, 1, 2)), REFERENCES, **options)


def test_losses_worked_out_by_hand():
    np.testing.assert_allclose(loss(), [[(1 + 4) / 2, (0 + 1) / 2]])
    pixels = [np.var([1, 2, 1], ddof=1), np.var([2, 4, 1], ddof=1)]
    np.testing.assert_allclose(loss(loss="variance"), [[np.mean(pixels)]], rtol=1e-6)
    np.testing.assert_allclose(loss(loss="uncertainty", uncertainty_weight=3.0), [[3.0]])
    np.testing.assert_allclose(loss(uncertainty_weight=3.0), [[5.5, 3.5]])
    squares = np.square([np.log(2), np.log(2)]), np.square([0, np.log(2)])
    np.testing.assert_allclose(loss(space="log_depth"), [np.mean(squares, axis=1)], rtol=1e-5)
    np.testing.assert_allclose(
        loss(space="disparity"), [[(0.25 + 0.0625) / 2, 0.25 / 2]], rtol=1e-5
    )


def test_pixels_without_reference_count_in_depth_only():
    hole = REFERENCES.at[0, 0, 0, 1].set(0)
    in_depth = consistency_loss(DEPTH, None, hole)
    np.testing.assert_allclose(in_depth[0, 0], (1 + 4) / 2)
    in_log = consistency_loss(DEPTH, None, hole, space="log_depth")
    np.testing.assert_allclose(in_log[0, 0], np.log(2) ** 2 / 2, rtol=1e-6)
    slope = jax.grad(lambda d: losses.consistency_loss(d, None, hole, space="log_depth")[0, 0])
    assert jax.jit(slope)(DEPTH)[0, 0, 1] == 0


def test_pixels_without_truth_count_nowhere():
    hole = REFERENCES.at[0, 0, 0, 1].set(jnp.nan)
    for space, value in {"depth": 1, "log_depth": np.log(2) ** 2, "disparity": 0.25}.items():
        result = consistency_loss(DEPTH, None, hole, space=space)
        np.testing.assert_allclose(result[0, 0], value / 2, rtol=1e-6)


def test_own_loss_function():
    absolute = consistency_loss(
        DEPTH, None, REFERENCES, loss=lambda d, refs: jnp.mean(jnp.abs(d[:, None] - refs), (2, 3))
    )
    np.testing.assert_allclose(absolute, [[1.5, 0.5]])


def test_reductions_worked_out_by_hand():
    gradients = jnp.array([[3.0, -4.0], [0.0, 0.0]])
    expected = {"max": [3, 0], "sum": [-1, 0], "mean": [-0.5, 0], "norm": [5, 0]}
    for reduction, values in expected.items():
        np.testing.assert_allclose(scores.reduce_channels(gradients, reduction), values)
    slope = jax.grad(lambda g: scores.reduce_channels(g, "norm").sum())(gradients)
    np.testing.assert_allclose(slope, [[0.6, -0.8], [0, 0]], rtol=1e-6)


def test_combinations_worked_out_by_hand():
    maps = jnp.array([[0.0, 0.5], [1.0, 0.5]])
    for how, values in {"std": [0.5, 0], "max": [1, 0.5], "mean": [0.5, 0.5]}.items():
        np.testing.assert_allclose(scores.combine(maps, how), values)
        np.testing.assert_array_equal(scores.combine(maps[:1], how), maps[0])
    assert np.all(np.isfinite(jax.grad(lambda m: scores.combine(m, "std").sum())(maps)))


@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(np.float32, (2, 3, 4), elements=st.integers(-999, 999)),
    st.floats(0.125, 8, width=32),
    st.floats(-8, 8, width=32),
)
def test_normalize_maps_to_the_unit_interval(maps, scale, shift):
    normalized = np.asarray(normalize(maps))
    assert normalized.min() >= 0
    assert normalized.max() <= 1
    assert np.all(np.isfinite(normalized))
    for map_, result in zip(maps, normalized, strict=True):
        assert result.max() == pytest.approx(float(map_.max() > map_.min()))
    if np.ptp(maps, axis=(1, 2)).min() > 1:
        np.testing.assert_allclose(
            normalize(np.float32(scale) * maps + np.float32(shift)), normalized, atol=1e-2
        )


def test_constant_maps_give_zero_and_no_nan_gradient():
    constant = jnp.full((1, 3, 3), 5.0)
    assert np.all(scores.normalize(constant) == 0)
    assert np.all(np.isfinite(jax.jit(jax.grad(lambda m: scores.normalize(m).sum()))(constant)))


def test_resize_has_half_pixel_centres_and_no_antialiasing():
    np.testing.assert_allclose(
        scores.resize(jnp.array([[[0.0, 1.0]]]), (1, 4))[0, 0], [0, 0.25, 0.75, 1]
    )
    np.testing.assert_allclose(
        scores.resize(jnp.array([[[0.0, 1.0, 2.0, 9.0]]]), (1, 2))[0, 0], [0.5, 5.5]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "l1"}, "loss is 'l1'; it must be one of 'squared', 'variance', 'uncertainty'"),
        ({"space": "inverse"}, "space is 'inverse'; .*'depth', 'log_depth', 'disparity'"),
        ({"reduction": "median"}, "reduction is 'median'; .*'max', 'sum', 'mean', 'norm'"),
        ({"combine": "min"}, "combine is 'min'; it must be one of 'std', 'max', 'mean'"),
        (
            {"loss": lambda d, refs: jnp.zeros(3)},
            r"the loss has shape \(3,\); expected \(3, losses",
        ),
        ({"loss": "uncertainty"}, "give uncertainty_weight"),
        *(
            ({"uncertainty_weight": w}, f"uncertainty_weight is {w}; it must be finite and at lea")
            for w in (-1.0, float("nan"), float("inf"))
        ),
        ({"references": ()}, "references is empty; name at least one"),
        ({"references": "flip"}, "'flip' is no reference; expected an ImageReference"),
        ({"layers": []}, "layers is empty; name at least one"),
    ],
)
def test_errors_name_the_option(small, images, options, message):
    network, variables = small
    with pytest.raises(grumo_jax.GrumoError, match=message):
        grumo_jax.GradientUncertainty(network, **options)(variables, images)


def test_the_weight_may_be_differentiated(small, images):
    def mean_loss(weight):
        estimator = grumo_jax.GradientUncertainty(small[0], uncertainty_weight=weight)
        return estimator(small[1], images).loss.mean()

    sigma = jnp.exp(jax.jit(small[0].module.apply)(small[1], images)["log_sigma"])
    gradient = jax.jit(jax.grad(mean_loss))(2.0)
    np.testing.assert_allclose(gradient, jnp.mean(sigma**2), rtol=1e-4)


def test_weight_without_log_sigma_is_explained(images):
    model = grumo_jax.Monodepth2.tiny()
    variables = draw_variables(model, images)
    estimator = grumo_jax.GradientUncertainty(model, uncertainty_weight=2.0)
    with pytest.raises(grumo_jax.GrumoError, match="the network predicts no log σ"):
        estimator(variables, images)
    assert grumo_jax.GradientUncertainty.paper(model).uncertainty_weight == 0


def test_nan_is_not_hidden():
    """XLA's maximum on CPUs passes over NaN; a broken map must not look like a certain one."""
    gradients = jnp.zeros((2, 1, 16, 32, 2)).at[0, ..., 0].set(jnp.nan)
    ways = itertools.product(["max", "sum", "mean", "norm"], ["std", "max", "mean"])

    @jax.jit
    def score(gradients):
        found = {}
        for reduction, combination in ways:
            reduced = scores.reduce_channels(gradients, reduction)
            found[f"{reduction}, {combination}"] = scores.combine(
                scores.normalize(reduced), combination
            )
        return found

    found = score(gradients)
    assert len(found) == 12
    for way, values in found.items():
        assert jnp.isnan(values).all(), way
