"""Pixels that are no numbers: wrong in every metric and counted, and no others are touched."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grumo_jax
from grumo_jax import losses, scores
from grumo_jax.data import Sample
from grumo_jax.evaluation import PROTOCOLS, Protocol
from grumo_jax.evaluation.measure import measure
from grumo_jax.evaluation.rows import to_row
from grumo_jax.evaluation.targets import Prepare, batch_targets
from grumo_jax.metrics.masked import NO_DEPTH, masked_median, median_ratio

NO_DEPTHS = (jnp.nan, jnp.inf, -jnp.inf, -2.0, 0.0)
OWN_DATA = dataclasses.replace(PROTOCOLS["median"].for_source(None), bands=())
KEY = jax.random.key(3)

depth_errors = jax.jit(grumo_jax.depth_errors)
sparsification = jax.jit(grumo_jax.sparsification)
spearman = jax.jit(grumo_jax.spearman)
error_detection = jax.jit(grumo_jax.error_detection)
errors_by_depth = jax.jit(grumo_jax.errors_by_depth, static_argnames="edges")

# --- metrics


def ten_pixels(value):
    """Truth 2 m, of which one pixel is predicted as 3, one as the value; what tells both."""
    truth, uncertainty = np.full((1, 2, 5), 2, np.float32), np.zeros((1, 2, 5), np.float32)
    predicted = truth.copy()
    predicted[0, 0, 1], predicted[0, 1, 3] = 3, value
    uncertainty[0, 0, 1], uncertainty[0, 1, 3] = 1, 2
    return truth, predicted, uncertainty


def changed(values, place, value):
    """A copy with another value at one place."""
    copy = np.array(values)
    copy[place] = value
    return copy


@pytest.mark.parametrize("value", NO_DEPTHS)
def test_what_is_no_depth_is_wrong_in_every_metric_and_counted(value):
    maps = ten_pixels(value)
    errors = depth_errors(*maps[:2])
    assert [errors.a1[0], errors.a2[0], errors.a3[0]] == pytest.approx([0.8, 0.9, 0.9])
    np.testing.assert_allclose(errors.abs_rel, (0.5 + (2 - NO_DEPTH) / 2) / 10, rtol=1e-5)
    np.testing.assert_allclose(errors.rmse, np.sqrt((1 + (2 - NO_DEPTH) ** 2) / 10), rtol=1e-5)
    curves = sparsification(*maps)
    assert curves.curves["a1"][0, 0] == pytest.approx(0.2)
    assert all(np.abs(curves.ause[m]) < 0.01 < curves.aurg[m] for m in grumo_jax.metrics.METRICS)
    detection = error_detection(*maps)
    assert detection.wrong == pytest.approx(0.2)
    assert detection.auroc == 1
    bands = errors_by_depth(*maps[:2], edges=(0, 1, 5))
    np.testing.assert_array_equal(bands.no_depth, [[0], [1]])
    assert errors.no_depth == curves.no_depth == detection.no_depth == 1
    for leaf in jax.tree.leaves((errors, curves, detection, bands)):
        assert np.all(np.isfinite(leaf))


def test_what_is_no_depth_is_never_right_nor_counted_where_nothing_is_known():
    """Not even where the truth is as near as the depth that stands for none."""
    truth = jnp.array([[[NO_DEPTH, NO_DEPTH, 0.0]]])
    predicted = jnp.array([[[jnp.nan, NO_DEPTH, jnp.nan]]])
    errors = depth_errors(truth, predicted)
    assert (errors.a1[0], errors.a3[0], errors.no_depth[0]) == (0.5, 0.5, 1)
    detection = error_detection(truth, predicted, jnp.array([[[1.0, 0.0, 9.0]]]))
    assert (detection.wrong[0], detection.auroc[0]) == (0.5, 1)
    nowhere = error_detection(truth, -truth, truth)
    assert (nowhere.wrong[0], nowhere.defined[0]) == (1, False)


def test_uncertainty_of_nan_is_the_largest_and_counted():
    truth, predicted, uncertainty = ten_pixels(4.0)
    odd, largest = (changed(uncertainty, (0, 0, 0), u) for u in (np.nan, np.inf))
    for metric in (sparsification, error_detection):
        found, expected = (metric(truth, predicted, u) for u in (odd, largest))
        assert (found.no_uncertainty, expected.no_uncertainty) == (1, 0)
        same = dataclasses.replace(found, no_uncertainty=expected.no_uncertainty)
        jax.tree.map(np.testing.assert_array_equal, same, expected)
    error = np.abs(truth - predicted)
    found, expected = (spearman(error, u) for u in (odd, largest))
    np.testing.assert_array_equal(found, expected)
    # An error of NaN is the largest, too.
    found, expected = (
        spearman(changed(error, (0, 0, 2), e), uncertainty) for e in (np.nan, np.inf)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 3)])
def test_empty_batches_give_empty_results(shape):
    @jax.jit
    def measures(*maps):
        curves = grumo_jax.sparsification(*maps)
        return {
            "errors": grumo_jax.depth_errors(*maps[:2]),
            "detection": grumo_jax.error_detection(*maps),
            "spearman": grumo_jax.spearman(*maps[:2]),
            "areas": curves.ause,
            "curves": curves.curves,
            "bands": grumo_jax.errors_by_depth(*maps[:2], edges=(0, 1, 2)),
            "median": jnp.isfinite(masked_median(maps[0], maps[0] > 0)),
        }

    batch_axis = {"bands": 1}
    for name, result in measures(*[np.ones(shape, np.float32)] * 3).items():
        for leaf in jax.tree.leaves(result):
            assert leaf.shape[batch_axis.get(name, 0)] == shape[0]
            assert not np.any(leaf)


def test_a_map_in_place_of_the_mask_is_refused():
    maps = (jnp.ones((1, 2, 3)),) * 3
    for metric in (
        lambda: grumo_jax.spearman(*maps),
        lambda: grumo_jax.depth_errors(*maps),
        lambda: grumo_jax.errors_by_depth(*maps, edges=(0, 1)),
        lambda: grumo_jax.sparsification(*maps, maps[0]),
        lambda: grumo_jax.error_detection(*maps, np.ones((1, 2, 3), np.uint8)),
    ):
        with pytest.raises(grumo_jax.GrumoError, match=r"the mask is \w+; expected bool, the pix"):
            metric()


# --- evaluation


def measured(depth, uncertainty, truth, protocol=OWN_DATA, predicts="depth"):
    """One image's measures, with ground truth of any size."""
    sample = Sample("a", np.zeros((*truth.shape, 3), np.uint8), truth)
    size = depth.shape[1:]
    targets = batch_targets([Prepare(protocol, size)(sample)], protocol, size)
    network = grumo_jax.DepthNetwork(None, predicts=predicts)
    return measure(network, depth, uncertainty, targets, protocol)


@pytest.mark.parametrize("value", NO_DEPTHS)
def test_evaluation_counts_what_is_no_depth(value):
    truth = np.full((4, 6), 10, np.float32)
    depth = changed(truth[None], (0, 1, 2), value)
    uncertainty = np.zeros_like(depth)
    uncertainty[0, 1, 2], uncertainty[0, 3, 3] = 1, np.nan
    found = measured(depth, uncertainty, truth)
    assert found.scale == 1
    assert (found.errors.pixels, found.errors.no_depth, found.sparsification.no_uncertainty) == (
        24,
        1,
        1,
    )
    np.testing.assert_allclose(found.errors.a1, 23 / 24, rtol=1e-6)
    np.testing.assert_allclose(found.errors.abs_rel, 1 / 24, rtol=1e-3)
    row = to_row(0, "a", (4, 6), {"grad": jax.device_get(found)}, 0)
    entry = json.loads(json.dumps(row, allow_nan=False))["estimators"]["grad"]
    assert (entry["no_depth"], entry["no_uncertainty"]) == (1, 1)
    assert "no_depth" not in entry["errors"]


@pytest.mark.parametrize("predicts", [pytest.param("depth", marks=pytest.mark.slow), "disparity"])
def test_where_depth_is_read_between_pixels_all_that_draw_from_none_have_none(predicts):
    truth = np.full((8, 12), 10, np.float32)
    depth = np.full((1, 4, 6), 10, np.float32)
    errors = jax.jit(lambda depth: measured(depth, depth, truth, predicts=predicts).errors)
    for value in NO_DEPTHS:
        found = errors(changed(depth, (0, 1, 2), value))
        assert found.no_depth == 16
        np.testing.assert_allclose(found.a1, 1 - 16 / 96, rtol=1e-6)


@pytest.mark.parametrize("broken", ["depth", "uncertainty"])
def test_an_image_without_any_number_is_a_problem(broken):
    truth = np.ones((4, 6), np.float32)
    maps = dict.fromkeys(("depth", "uncertainty"), truth[None])
    maps[broken] = maps[broken] * np.float32(np.nan)
    found = jax.device_get({"grad": measured(**maps, truth=truth)})
    row = to_row(0, "a", (4, 6), found, 0)
    assert "uncertainty of grad is not finite" in row["problem"]
    json.dumps(row, allow_nan=False)
    nothing = jax.device_get({"grad": measured(**maps, truth=np.zeros_like(truth))})
    assert "problem" not in to_row(0, "a", (4, 6), nothing, 0)


def test_the_median_is_of_the_pixels_that_are_evaluated():
    """Of one's own data; the papers' programs take all that is known."""
    truth = np.full((4, 6), 655.35, np.float32)
    truth[2:] = np.arange(12).reshape(2, 6) + 5
    depth = truth[None] / 4
    found = measured(depth, depth, truth)
    assert found.scale == pytest.approx(4)
    assert found.errors.abs_rel == pytest.approx(0, abs=1e-6)
    squeezed = changed(depth, np.s_[0, :2], 20.0)
    found = measured(squeezed, depth, truth)
    assert found.scale == pytest.approx(4)
    official = dataclasses.replace(PROTOCOLS["kitti-mono"].for_source(None), bands=())
    scale = jax.jit(lambda depth: measured(depth, depth, truth, official).scale)(squeezed)
    assert scale == pytest.approx((16 + 655.35) / (4 + 20))
    with pytest.raises(grumo_jax.GrumoError, match="median_of is 'all'; it must be"):
        Protocol("a", median_of="all")


def test_the_ratio_of_medians_passes_over_what_is_no_depth():
    truth = jnp.array([[2.0, 4.0, 6.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    predicted = jnp.array([[1.0, 2.0, jnp.nan, 9.0], [-1.0, jnp.inf, 1.0, 1.0]])
    np.testing.assert_allclose(median_ratio(truth, predicted, truth > 0), [2, 1])


# --- losses and maps


consistency_loss = jax.jit(losses.consistency_loss, static_argnames=("loss", "space"))


@partial(jax.jit, static_argnames=("loss", "space"))
def slope_in_depth(depth, references, loss, space):
    """The gradient of the consistency loss."""
    return jax.grad(
        lambda d: losses.consistency_loss(d, None, references, loss=loss, space=space).sum()
    )(depth)


@pytest.mark.parametrize("space", ["depth", "log_depth", "disparity"])
@pytest.mark.parametrize("value", NO_DEPTHS)
def test_losses_leave_out_what_cannot_be_compared(space, value):
    if space == "depth" and np.isfinite(value):
        pytest.skip("a number like any other, as in the papers' rotation")
    depth = np.array([[[1, 2, 4]]], np.float32)
    references = np.full((1, 2, 1, 3), 3, np.float32)
    loss = partial(consistency_loss, log_sigma=None, space=space)
    expected = loss(depth[..., :2], references=references[..., :2]) * 2 / 3
    odd = changed(depth, (0, 0, 2), value)
    for name in ("squared", "variance"):
        slope = slope_in_depth(odd, references, name, space)
        assert np.all(np.isfinite(slope))
        np.testing.assert_array_equal(slope[0, 0] != 0, [True, True, False])
    np.testing.assert_allclose(loss(odd, references=references), expected, rtol=1e-6)
    hole = changed(references, (0, 1, 0, 2), value)
    np.testing.assert_allclose(loss(depth, references=hole)[:, 1], expected[:, 1], rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_losses_of_log_depth_do_not_depend_on_the_unit(unit):
    depth, references = np.array([[[1.0, 2.0]]]), np.full((1, 1, 1, 2), 3.0)
    found = [
        consistency_loss(np.float32(u * depth), None, np.float32(u * references), space="log_depth")
        for u in (1.0, unit)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


@jax.jit
@jax.value_and_grad
def loss_of_log_sigma(log_sigma):
    options = {"loss": "uncertainty", "uncertainty_weight": 3.0}
    depth, references = jnp.ones((1, 1, 2)), jnp.ones((1, 0, 1, 2))
    return losses.consistency_loss(depth, log_sigma, references, **options)[0, 0]


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_the_loss_of_log_sigma_leaves_out_what_is_not_finite(value):
    value, slope = loss_of_log_sigma(jnp.array([[[0.0, value]]]))
    assert value == 1.5
    np.testing.assert_array_equal(slope, [[[3, 0]]])


def test_normalized_maps_keep_to_the_unit_interval_and_nan_to_its_pixel():
    maps = jnp.array([[[1.0, 2.0, 3.0, jnp.nan, jnp.inf, -jnp.inf]]])
    np.testing.assert_array_equal(scores.normalize(maps), [[[0, 0.5, 1, jnp.nan, 1, 0]]])
    np.testing.assert_array_equal(scores.normalize(maps[..., 2:]), [[[0, jnp.nan, 1, 0]]])
    # Limits of fewer digits than the maps, such as before a resize.
    beyond = scores.normalize(jnp.array([[0.999, 3.001]]), limits=jnp.array([[1.0, 3.0]]))
    np.testing.assert_array_equal(beyond, [[0, 1]])
    assert scores.normalize(maps.astype(jnp.float16)).dtype == jnp.float32


def test_resizing_spreads_nan_to_what_draws_from_it_alone():
    maps = jax.random.normal(jax.random.key(0), (2, 5, 7))
    resize = jax.jit(scores.resize, static_argnums=1)
    image_resize = jax.jit(jax.image.resize, static_argnums=(1, 2), static_argnames="antialias")
    for size in ((9, 20), (5, 7), (3, 7), (2, 3)):
        plain = image_resize(maps, (2, *size), "bilinear", antialias=False)
        np.testing.assert_allclose(resize(maps, size), plain, atol=1e-6)
    odd = resize(changed(maps, (0, 2, 3), np.nan), (10, 14))
    touched = np.zeros((2, 10, 14), bool)
    touched[0, 3:7, 5:9] = True
    np.testing.assert_array_equal(jnp.isnan(odd), touched)
    whole = resize(maps, (10, 14))
    np.testing.assert_allclose(odd[~touched], whole[~touched], atol=1e-6)


@pytest.fixture(scope="module")
def with_a_hole(small):
    """A network one of whose pixels predicts NaN, and one a negative depth."""

    def read(output):
        return output["depth"].at[0, 5, 7].set(jnp.nan).at[0, 9, 40].set(-1.0)

    return dataclasses.replace(small[0], depth=read)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"space": "log_depth", "uncertainty_weight": 2.0}, marks=pytest.mark.slow),
    ],
)
def test_grad_keeps_the_rest_of_the_map(small, images, with_a_hole, options):
    maps = {}
    for network in (small[0], with_a_hole):
        grad = grumo_jax.GradientUncertainty(network, layers=("up2", "up1"), **options)
        # Under jit: nothing is said of what is only traced.
        maps[network] = jax.jit(grad)(small[1], images)
    plain, odd = maps.values()
    assert jnp.isnan(odd.depth).sum() == 1
    assert np.all(np.isfinite(odd.uncertainty))
    assert np.all(np.isfinite(odd.loss))
    np.testing.assert_allclose(odd.uncertainty[1:], plain.uncertainty[1:], atol=1e-4)
    away = np.s_[0, 20:, 45:]
    shown = np.corrcoef(odd.uncertainty[away].ravel(), plain.uncertainty[away].ravel())[0, 1]
    assert shown > 0.95


def test_other_estimators_lose_single_pixels(small, images, with_a_hole):
    cases = [
        (grumo_jax.TestTimeVariance(with_a_hole, references=grumo_jax.Flip()), 2),
        (grumo_jax.PostProcessing(with_a_hole), 2),
        (grumo_jax.InferenceDropout(with_a_hole, samples=2, layers="up1"), 1),
    ]
    for estimator, lost in cases:
        estimate = jax.jit(estimator)(small[1], images, KEY)
        missing = jnp.isnan(estimate.uncertainty)
        assert missing.sum() == lost, estimator
        assert np.ptp(estimate.uncertainty[0][~missing[0]]) > 0


def test_effects_of_edits_where_there_are_no_depths():
    from grumo_jax.ablation import depth_change, error_change, uncertainty_change
    from grumo_jax.estimators import Estimate

    def of(depth, raw):
        return Estimate(*(jnp.array([[values]]) for values in (depth, raw, raw)))

    plain = of([1.0, 2.0, jnp.nan, -3.0], [1.0, jnp.nan, 1.0, 2.0])
    edited = of([2.0, 2.0, jnp.nan, -4.0], [2.0, jnp.nan, 2.0, 4.0])
    np.testing.assert_allclose(depth_change(edited, plain), [0.5])
    np.testing.assert_allclose(uncertainty_change(edited, plain), [1])
    truth = jnp.full((1, 1, 4), 2.0)
    # What is no depth before and after is as wrong as it was.
    unscaled = error_change(truth, median_scale=False)
    np.testing.assert_allclose(unscaled(edited, plain), [-0.5 / 4], rtol=1e-6)
    np.testing.assert_allclose(error_change(truth)(plain, plain), [0])
    broken = of([1.0, jnp.nan, jnp.nan, -4.0], [1.0, jnp.nan, jnp.nan, 2.0])
    for effect in (depth_change, uncertainty_change, unscaled):
        assert jnp.isnan(effect(broken, plain)).all()


def test_pictures_show_the_rest_of_a_map():
    from grumo_jax.plots import overlay, plot_depth, plot_uncertainty

    values = np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)
    odd = values.copy()
    odd[0, 0], odd[2, 3] = np.nan, np.inf
    for draw in (plot_depth, plot_uncertainty):
        limits = draw(odd)[1].images[0].get_clim()
        assert 1 < limits[0] < limits[1] < 2
    blended = overlay(np.zeros((3, 4, 3), np.uint8), odd)
    assert np.all(np.isfinite(blended))
    np.testing.assert_array_equal(blended[0, 0], blended[2, 3])
