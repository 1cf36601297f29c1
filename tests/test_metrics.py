"""Metrics: equal to the official programs, to float64 oracles, and to counting by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

import grumo_jax
from grumo_jax.metrics import METRICS, in_bands
from grumo_jax.metrics.masked import order_keys, prefix_totals, total

depth_errors = jax.jit(grumo_jax.depth_errors)
sparsification = jax.jit(grumo_jax.sparsification)
spearman = jax.jit(grumo_jax.spearman)
error_detection = jax.jit(grumo_jax.error_detection)
SMALL = (2, 5, 9)
"""Of one size throughout, so that the programs above are compiled for it once."""

ERRORS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")


def oracle_errors(truth, predicted):
    """The seven metrics of 1-D float64 arrays."""
    delta = np.maximum(truth / predicted, predicted / truth)
    difference = truth - predicted
    return [
        np.mean(np.abs(difference) / truth),
        np.mean(difference**2 / truth),
        np.sqrt(np.mean(difference**2)),
        np.sqrt(np.mean((np.log(truth) - np.log(predicted)) ** 2)),
        *(np.mean(delta < 1.25**k) for k in (1, 2, 3)),
    ]


def oracle_curve(metric, truth, predicted, order, steps=50):
    """The percentile loop of the official programs, without their one trap.

    NumPy interpolates between neighbours that are the same but for rounding; the rank is exact.
    """
    errors = oracle_order(metric, truth, predicted)
    errors = errors >= 1.25 if metric == "a1" else errors
    ascending = np.sort(-order)
    curve = []
    for t in range(steps):
        lowest_rank = -(-t * (len(order) - 1) // steps)
        keep = -order >= ascending[lowest_rank]
        value = np.mean(errors[keep])
        curve.append(np.sqrt(value) if metric == "rmse" else value)
    return np.array([*curve, 0.0])


def oracle_order(metric, truth, predicted):
    delta = np.maximum(truth / predicted, predicted / truth)
    relative = np.abs(truth - predicted) / truth
    return {"abs_rel": relative, "rmse": (truth - predicted) ** 2, "a1": delta}[metric]


def area(curve):
    return np.mean((curve[1:] + curve[:-1]) / 2)


def draw_maps(seed, shape, levels=None):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 80, shape).astype(np.float32)
    truth[rng.random(shape) < 0.3] = 0
    predicted = (rng.uniform(1, 80, shape) * 0.3 + truth * 0.7 + 0.1).astype(np.float32)
    uncertainty = np.abs(predicted - truth) + rng.uniform(0, 30, shape)
    if levels:
        uncertainty = np.round(uncertainty / 80 * levels)
    return truth, predicted, uncertainty.astype(np.float32)


# --- agreement with the official programs


def read_kitti(golden, mode, *, png16, crop):
    """Targets and maps of the golden file in the form that evaluation has them."""
    from grumo_jax.data import Sample
    from grumo_jax.evaluation import named_protocol
    from grumo_jax.evaluation.targets import Prepare, batch_targets

    protocol = dataclasses.replace(named_protocol(f"kitti-{mode}"), through_png16=png16)
    protocol = dataclasses.replace(protocol.for_source("eigen" if crop else None), bands=())
    truth, disparity = golden["kitti_gt"], golden["kitti_disp"]
    sample = Sample("golden", np.zeros((*truth.shape, 3), np.uint8), truth)
    targets = batch_targets([Prepare(protocol, disparity.shape)(sample)], protocol, disparity.shape)
    return targets, 1 / disparity[None], golden["kitti_uncertainty"][None], protocol


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "metrics.npz") as content:
        return dict(content)


@pytest.mark.parametrize(
    ("mode", "variant"),
    [
        ("mono", "_png16"),
        ("stereo", "_eigen"),
        pytest.param("mono", "", marks=pytest.mark.slow),
        pytest.param("stereo", "", marks=pytest.mark.slow),
        pytest.param("mono", "_eigen", marks=pytest.mark.slow),
        pytest.param("stereo", "_png16", marks=pytest.mark.slow),
    ],
)
def test_kitti_protocols_agree_with_the_official_program(golden, mode, variant):
    from grumo_jax.evaluation.measure import measure

    targets, depth, uncertainty, protocol = read_kitti(
        golden, mode, png16=variant == "_png16", crop=variant == "_eigen"
    )
    network = grumo_jax.DepthNetwork(None, predicts="disparity")

    @jax.jit
    def measures(depth, uncertainty):
        found = measure(network, depth, uncertainty, targets, protocol)
        return found.errors, found.sparsification

    check_golden(golden, f"kitti_{mode}{variant}", *measures(depth, uncertainty))


@pytest.mark.parametrize("name", ["nyu", "nyu_ties"])
def test_nyu_agrees_with_the_official_program(golden, name):
    truth = golden["nyu_gt"]
    arguments = (truth, np.clip(golden["nyu_depth"], 1e-3, 10)), (truth > 1e-3) & (truth < 10)
    maps, mask = [jnp.asarray(m[None]) for m in arguments[0]], jnp.asarray(arguments[1][None])
    uncertainty = jnp.asarray(golden[f"{name}_uncertainty"][None])
    errors = depth_errors(*maps, mask)
    check_golden(golden, name, errors, sparsification(*maps, uncertainty, mask))


def check_golden(golden, name, errors, sparsification):
    found = [getattr(errors, e)[0] for e in ERRORS]
    np.testing.assert_allclose(found, golden[f"{name}_errors"], atol=1e-5, rtol=0)
    for m in METRICS:
        areas = [sparsification.ause[m][0], sparsification.aurg[m][0]]
        np.testing.assert_allclose(areas, golden[f"{name}_ause_aurg_{m}"], atol=1e-5, rtol=0)
        curves = [sparsification.oracle[m][0], sparsification.curves[m][0]]
        np.testing.assert_allclose(curves, golden[f"{name}_curves_{m}"][[0, 2]], atol=1e-5, rtol=0)


# --- agreement with float64


def test_large_maps_agree_with_float64():
    """Of two images, the second of which has uncertainties of seven levels."""
    drawn = [draw_maps(0, (1, 375, 1242), levels) for levels in (None, 7)]
    maps = [np.concatenate(pair) for pair in zip(*drawn, strict=True)]
    errors = depth_errors(*maps[:2])
    result = sparsification(*maps)
    for i in range(2):
        known = maps[0][i] > 0
        truth, predicted, uncertainty = (m[i][known].astype(np.float64) for m in maps)
        np.testing.assert_allclose(
            [getattr(errors, e)[i] for e in ERRORS], oracle_errors(truth, predicted), rtol=1e-5
        )
        for m in METRICS:
            curve = oracle_curve(m, truth, predicted, uncertainty)
            np.testing.assert_allclose(result.curves[m][i], curve, rtol=1e-5, atol=1e-6)
            # Sorted in float32, where errors may tie that differ in float64.
            order = oracle_order(m, maps[0][i][known], maps[1][i][known])
            oracle = oracle_curve(m, truth, predicted, order)
            np.testing.assert_allclose(result.oracle[m][i], oracle, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(result.ause[m][i], area(curve) - area(oracle), atol=2e-5)
            np.testing.assert_allclose(result.aurg[m][i], curve[0] - area(curve), atol=2e-5)


few_levels = hnp.arrays(np.float32, (1, 5, 9), elements=st.sampled_from([0.0, 0.5, 1, 2, 3, 4]))


@settings(deadline=None, max_examples=40)
@given(truth=few_levels, predicted=few_levels, uncertainty=few_levels, mask=st.integers(0, 2**45))
def test_sparsification_is_exact_on_ties_and_any_mask(truth, predicted, uncertainty, mask):
    mask = np.array([bool(mask >> i & 1) for i in range(45)]).reshape(truth.shape)
    predicted = predicted + 0.5
    result = sparsification(truth, predicted, uncertainty, mask)
    known = mask & (truth > 0)
    assert int(result.pixels[0]) == known.sum()
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result))
    if not known.any():
        assert all(np.all(result.curves[m] == 0) and result.ause[m] == 0 for m in METRICS)
        return
    t, p, u = (m[known].astype(np.float64) for m in (truth, predicted, uncertainty))
    for m in METRICS:
        np.testing.assert_allclose(result.curves[m][0], oracle_curve(m, t, p, u), atol=1e-6)
        order = oracle_order(m, truth[known], predicted[known])
        np.testing.assert_allclose(result.oracle[m][0], oracle_curve(m, t, p, order), atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(error=few_levels, uncertainty=few_levels, mask=st.integers(0, 2**45))
def test_spearman_agrees_with_scipy(error, uncertainty, mask):
    mask = np.array([bool(mask >> i & 1) for i in range(45)]).reshape(error.shape)
    found = spearman(error, uncertainty, mask)[0]
    x, y = error[mask], uncertainty[mask]
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert found == 0
    else:
        np.testing.assert_allclose(found, spearmanr(x, y).statistic, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    wrong=st.lists(st.booleans(), min_size=12, max_size=12),
    u=st.lists(st.integers(0, 4), min_size=12, max_size=12),
)
def test_detection_agrees_with_counting_pairs(wrong, u):
    wrong, u = np.array(wrong), np.array(u)
    truth = jnp.ones((1, 3, 4))
    predicted = jnp.asarray(np.where(wrong, 1.5, 1.0).reshape(1, 3, 4), jnp.float32)
    found = error_detection(truth, predicted, jnp.asarray(u.reshape(1, 3, 4)))
    assert bool(found.defined[0]) == (0 < wrong.sum() < 12)
    if not found.defined[0]:
        assert found.auroc[0] == found.aupr[0] == found.fpr95[0] == 0
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in u[wrong] for b in u[~wrong]]
    precisions = [wrong[u >= limit].mean() for limit in u[wrong]]
    rates = [np.mean(u[~wrong] >= limit) for limit in set(u) if np.mean(u[wrong] >= limit) >= 0.95]
    np.testing.assert_allclose(found.auroc[0], np.mean(pairs), atol=1e-6)
    np.testing.assert_allclose(found.aupr[0], np.mean(precisions), atol=1e-6)
    np.testing.assert_allclose(found.fpr95[0], min(rates), atol=1e-6)
    np.testing.assert_allclose(found.wrong[0], wrong.mean(), atol=1e-6)


def test_false_alarms_are_counted_where_95_percent_are_found():
    # From the most certain: two wrong pixels, then right and wrong ones in turn, 20 of each kind.
    wrong = np.array([True, True, *[False, True] * 18, False, False])
    predicted = jnp.asarray(np.where(wrong, 2.0, 1.0)[None, None], jnp.float32)
    uncertainty = jnp.arange(40.0)[None, None]
    found = error_detection(jnp.ones((1, 1, 40)), predicted, uncertainty)
    # 19 of 20 are found down to the second pixel, and with it all right ones are called wrong.
    np.testing.assert_allclose(found.fpr95[0], 1.0)
    swapped = error_detection(jnp.ones((1, 1, 40)), predicted, -uncertainty)
    # From the other end: the 19th wrong pixel has 17 right ones before it.
    np.testing.assert_allclose(swapped.fpr95[0], 17 / 20)


def test_detection_keeps_its_digits_where_few_pixels_are_right():
    rng = np.random.default_rng(0)
    right, u = rng.permutation(400_000) < 10, rng.integers(0, 5000, 400_000)
    predicted = np.where(right, 1.0, 2.0).astype(np.float32)
    found = error_detection(
        jnp.ones((1, 1, 400_000)), jnp.asarray(predicted[None, None]), jnp.asarray(u[None, None])
    )
    above = [np.mean(u[~right] > level) + np.mean(u[~right] == level) / 2 for level in u[right]]
    np.testing.assert_allclose(found.auroc[0], np.mean(above), atol=1e-6)


def test_sums_keep_their_digits():
    values = np.random.default_rng(0).uniform(0.9, 1.1, (1, 465_750)).astype(np.float32)
    exact = np.cumsum(values[0].astype(np.float64))
    np.testing.assert_allclose(total(jnp.asarray(values)), exact[-1:], rtol=3e-7)
    counts = np.array([[0, 1, 511, 512, 513, 100_000, 465_750]])
    expected = np.concatenate([[0.0], exact])[counts]
    np.testing.assert_allclose(prefix_totals(jnp.asarray(values), counts), expected, rtol=5e-7)


# --- what holds for all


def test_keys_sort_like_floats():
    values = jnp.array([[3.0, -0.0, 0.0, -jnp.inf, jnp.inf, -2.5, jnp.nan, 1e-40]])
    keys = order_keys(values, jnp.ones_like(values, bool))[0]
    assert keys[1] == keys[2]
    assert keys[6] == keys[4]
    order = np.argsort(np.asarray(keys[:6]), kind="stable")
    np.testing.assert_array_equal(order, [3, 5, 1, 2, 0, 4])


def test_only_the_order_of_uncertainties_counts():
    truth, predicted, uncertainty = draw_maps(3, SMALL)
    a = sparsification(truth, predicted, uncertainty)
    b = sparsification(truth, predicted, np.log(uncertainty))
    jax.tree.map(np.testing.assert_array_equal, a.curves, b.curves)


def test_perfect_and_constant_uncertainty():
    truth, predicted, _ = draw_maps(4, SMALL)
    perfect = np.abs(truth - predicted) / np.maximum(truth, 1e-3)
    result = sparsification(truth, predicted, perfect)
    np.testing.assert_allclose(result.ause["abs_rel"], 0, atol=1e-6)
    assert result.normalized_ause["abs_rel"][0] < 1e-5 < result.normalized_ause["rmse"][0]
    constant = sparsification(truth, predicted, np.ones_like(truth))
    # Ties are never removed, until at 100 % everything is.
    np.testing.assert_allclose(
        constant.aurg["rmse"], constant.curves["rmse"][:, 0] / 100, rtol=1e-4
    )


def test_nan_is_most_uncertain():
    truth, predicted, uncertainty = np.ones(SMALL), np.ones(SMALL), np.zeros(SMALL)
    predicted[0, 0, 7], uncertainty[0, 0, 7] = 2, np.nan
    maps = [m.astype(np.float32) for m in (truth, predicted, uncertainty)]
    curve = sparsification(*maps).curves["a1"][0]
    assert curve[0] > 0
    assert curve[1] == 0


def test_images_are_independent_and_transforms_apply():
    maps = draw_maps(5, SMALL)
    together = sparsification(*maps)
    single = sparsification(*(m[1:2] for m in maps), np.ones((1, *SMALL[1:]), bool))
    np.testing.assert_allclose(together.curves["rmse"][1:2], single.curves["rmse"], rtol=1e-6)

    @jax.jit
    @jax.vmap
    def mapped(*maps):
        return grumo_jax.sparsification(*maps).ause["a1"], grumo_jax.error_detection(*maps).auroc

    ause, auroc = mapped(*(m[:, None] for m in maps))
    np.testing.assert_allclose(ause[:, 0], together.ause["a1"], atol=1e-6)
    np.testing.assert_allclose(auroc[:, 0], error_detection(*maps).auroc, atol=1e-6)


def test_depth_errors_have_finite_gradients_where_nothing_is_known():
    truth, predicted, _ = draw_maps(6, (1, 8, 8))

    @jax.jit
    @jax.grad
    def gradient(predicted):
        return grumo_jax.depth_errors(truth, predicted).rmse_log.sum()

    slopes = gradient(predicted)
    assert np.all(np.isfinite(slopes))
    assert np.all(slopes[truth == 0] == 0)


@pytest.mark.slow
def test_empty_masks_give_zeros():
    truth, predicted, uncertainty = draw_maps(7, (1, 5, 9))
    nothing = np.zeros(truth.shape, bool)
    assert error_detection(*[jnp.ones((1, 0, 4))] * 3).auroc[0] == 0
    results = (
        depth_errors(truth, predicted, nothing),
        error_detection(truth, predicted, uncertainty, nothing),
        spearman(truth, uncertainty, nothing),
    )
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(results))


def test_bands_are_what_a_mask_would_give():
    truth, predicted, uncertainty = draw_maps(8, SMALL)

    @jax.jit
    def banded(truth, predicted, uncertainty):
        def areas(where):
            return grumo_jax.sparsification(truth, predicted, uncertainty, where).ause

        errors = grumo_jax.errors_by_depth(truth, predicted, edges=(0, 20, 80))
        return errors, in_bands(areas, truth, edges=(0, 20, 80))

    bands, areas = banded(truth, predicted, uncertainty)
    far = depth_errors(truth, predicted, truth >= 20)
    np.testing.assert_allclose(bands.rmse[1], far.rmse, rtol=1e-6)
    np.testing.assert_array_equal(bands.pixels.sum(axis=0), (truth > 0).sum(axis=(1, 2)))
    # What is farther or unknown has no ground truth.
    near = sparsification(np.where(truth < 20, truth, 0), predicted, uncertainty)
    np.testing.assert_allclose(areas["rmse"][0], near.ause["rmse"], atol=1e-5)


def test_published_figures_of_a_real_prediction(shared):
    """FastDepth's own prediction of a real NYU frame."""
    folder = shared("real", "nyu_fastdepth")
    truth, predicted = (np.load(folder / f"{n}.npy").squeeze()[None] for n in ("depth", "pred"))
    errors = depth_errors(truth, predicted)
    found = [float(getattr(errors, name)[0]) for name in ("rmse", "abs_rel", "a1")]
    np.testing.assert_allclose(found, [0.618, 0.140, 0.777], atol=6e-4)


def test_errors_name_what_is_wrong():
    maps = jnp.ones((1, 4, 4))
    with pytest.raises(grumo_jax.GrumoError, match=r"shapes \(1, 4, 4\), .*\(1, 4, 5\)"):
        grumo_jax.depth_errors(maps, jnp.ones((1, 4, 5)))
    with pytest.raises(grumo_jax.GrumoError, match=r"\(4,\).* expected one shape \(batch"):
        grumo_jax.sparsification(*[jnp.ones(4)] * 3)
    with pytest.raises(grumo_jax.GrumoError, match=r"\(4, 4\).* expected one shape \(batch"):
        grumo_jax.depth_errors(maps[0], maps[0])
    with pytest.raises(grumo_jax.GrumoError, match="steps is 0; expected 1 or more"):
        grumo_jax.sparsification(maps, maps, maps, steps=0)
    with pytest.raises(grumo_jax.GrumoError, match=r"edges are \(3, 1\); expected .* rising"):
        grumo_jax.errors_by_depth(maps, maps, edges=(3, 1))
