import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_runs import PICTURE as SIZE
from training_runs import constant_error, gray, noise

import grumo_jax
from grumo_jax.networks import DepthOutput
from grumo_jax.training import Objective, TrainingBatch, objectives, photometric
from grumo_jax.training.objectives import shrink_batch

KEY = jax.random.key(0)
STILL = jnp.eye(4)[None]
INTRINSICS = jnp.array([[[8.0, 0, 7.5], [0, 8, 3.5], [0, 0, 1]]])


def to_depth(disparity):
    return grumo_jax.Monodepth2().disparity_to_depth(disparity)


def predict(disparities, log_sigmas=None):
    """The output of a network whose maps at each scale are constant or given."""
    shapes = [(1, SIZE[1] >> s, SIZE[2] >> s) for s in range(len(disparities))]

    def fill(values):
        pairs = zip(values, shapes, strict=True)
        return tuple(jnp.broadcast_to(jnp.float32(v), shape) for v, shape in pairs)

    disparities = fill(disparities)
    return DepthOutput(
        tuple(map(to_depth, disparities)),
        disparities,
        None if log_sigmas is None else fill(log_sigmas),
    )


MOTIONS = {"previous": STILL, "following": STILL}
CONSTANT = TrainingBatch(
    gray(0.5), INTRINSICS, previous=gray(0.3), following=gray(0.6), stereo=gray(0.45),
    stereo_offset=jnp.array([0.54]), depth=jnp.full(SIZE, 2.0),
)  # fmt: skip
SMALLEST = {
    "mono": constant_error(0.5, 0.6),
    "stereo": constant_error(0.5, 0.45),
    "mono_stereo": constant_error(0.5, 0.45),
}


def test_smallest_error_among_the_views_counts():
    @jax.jit
    def losses(output):
        plain = {
            supervision: Objective(supervision, auto_mask=False)(output, CONSTANT, motions=MOTIONS)
            for supervision in SMALLEST
        }
        return plain, Objective("stereo")(output, CONSTANT, key=KEY)[0]

    plain, masked = losses(predict([0.2]))
    for supervision, (loss, terms) in plain.items():
        np.testing.assert_allclose(terms["photometric"], SMALLEST[supervision], atol=2e-5)
        np.testing.assert_allclose(terms["smoothness"], 0, atol=1e-9)
        np.testing.assert_allclose(loss, terms["photometric"], rtol=1e-6)
    # The same error once more, with noise: the smaller of the two.
    loss, _ = plain["stereo"]
    assert loss - 2e-5 < masked < loss


@jax.jit
def stereo_error(source, target, depth, offset):
    motion = objectives.stereo_motion(offset)
    warped = objectives.warp(source, depth, INTRINSICS, motion)
    return photometric.photometric_error(warped, target)


@pytest.mark.parametrize("sign", [1, -1])
def test_disparity_that_explains_the_stereo_view_costs_nothing(sign):
    """A wall that is shifted by two pixels: 8 · 0.1 / depth = 2 in units of 5.4 m."""
    source = noise(3)
    target = jnp.roll(source, 2 * sign, axis=2)
    right = (1 / 0.4 - 0.01) / 9.99
    loss = {}
    for name, disparity in {"right": right, "near": 2 * right, "far": right / 2}.items():
        depth = predict([disparity]).depth
        error = stereo_error(source, target, depth, np.float32([sign * 0.54]))
        seen = slice(3, None) if sign > 0 else slice(None, -3)
        loss[name] = np.mean(error[:, :, seen])
    assert loss["right"] < 1e-4
    assert min(loss["near"], loss["far"]) > 0.2


@pytest.mark.slow
def test_views_are_warped_by_their_own_motion_and_by_enlarged_disparity():
    """Put together from parts that are tested by themselves; the disparity is enlarged by numpy."""
    batch = TrainingBatch(noise(0), INTRINSICS, previous=noise(1), following=noise(2))
    motions = {
        "previous": STILL.at[0, 0, 3].set(0.3),
        "following": STILL.at[0, 2, 3].set(-0.4),
    }
    fine = np.linspace(0.1, 0.5, 16, dtype=np.float32)
    coarse = fine.reshape(8, 2).mean(-1)
    output = predict([fine, coarse])

    @jax.jit
    def error(view, depth, motion):
        warped = objectives.warp(view, depth, INTRINSICS, motion)
        return photometric.photometric_error(warped, batch.image)

    smoothness = jax.jit(photometric.edge_aware_smoothness)
    photometric_terms, smoothness_terms = [], []
    for scale, columns in enumerate((fine, coarse)):
        inverse = 1 / np.asarray(to_depth(columns))
        places = (np.arange(16) + 0.5) / 2**scale - 0.5
        enlarged = np.interp(places, np.arange(len(columns)), inverse).astype(np.float32)
        depth = np.broadcast_to(1 / enlarged, SIZE)
        errors = [error(batch.pictures[view], depth, motions[view]) for view in motions]
        photometric_terms.append(np.minimum(*errors).mean())
        smooth = smoothness(output.disparities[scale], batch.image)
        smoothness_terms.append(smooth / 2**scale)
    objective = jax.jit(Objective("mono", auto_mask=False, smoothness_weight=0.5))
    _, terms = objective(output, batch, motions=motions)
    np.testing.assert_allclose(terms["photometric"], np.mean(photometric_terms), rtol=1e-4)
    np.testing.assert_allclose(terms["smoothness"], 0.5 * np.mean(smoothness_terms), rtol=1e-4)
    _, swapped = objective(
        output,
        batch,
        motions={"previous": motions["following"], "following": motions["previous"]},
    )
    assert abs(swapped["photometric"] - terms["photometric"]) > 1e-3


def test_smoothness_is_halved_at_each_coarser_scale():
    fine = np.linspace(0.1, 0.3, 16)[None, None]
    coarse = fine.reshape(1, 1, 8, 2).mean(-1)
    objective = Objective("stereo", auto_mask=False, smoothness_weight=0.5)
    smoothness = jax.jit(lambda output: objective(output, CONSTANT)[1]["smoothness"])
    found = smoothness(predict([fine, coarse]))
    step = 0.2 / 15 / 0.2
    np.testing.assert_allclose(found, 0.5 * (step + 2 * step / 2) / 2, rtol=1e-4)


@pytest.mark.slow
def test_a_pyramid_compares_each_scale_at_its_own_and_smaller_sizes():
    fine = CONSTANT.replace(image=noise(0), stereo=noise(1), depth=None)
    coarse = shrink_batch(fine, (4, 8))

    def loss(disparities, batch, resolution="full", scale=0):
        maps = predict(disparities)
        output = DepthOutput(maps.depths[scale:], maps.disparities[scale:])
        objective = Objective("stereo", resolution=resolution, smoothness_weight=0.0)
        return objective(output, batch, key=KEY)[0]

    @jax.jit
    def losses():
        first = (loss([0.2], fine) + loss([0.2, 0.2], coarse, scale=1)) / 2
        second = loss([0.1, 0.3], coarse, scale=1)
        return first, second, loss([0.2, 0.3], fine, "pyramid")

    first, second, pyramid = map(float, losses())
    assert first != pytest.approx(second, rel=1e-3)
    assert pyramid == pytest.approx((first + second) / 2, rel=1e-5)


def test_shrunk_cameras_see_the_same_rays():
    small = shrink_batch(CONSTANT, (2, 4))
    # The centre of the first block of 4×4 pixels lies at (1.5, 1.5).
    for matrix, x in ((CONSTANT.intrinsics, 1.5), (small.intrinsics, 0.0)):
        ray = np.linalg.solve(matrix[0], [x, x, 1])
        np.testing.assert_allclose(ray, np.linalg.solve(INTRINSICS[0], [1.5, 1.5, 1]), rtol=1e-5)


def slopes(objective, batch, log_sigma=0.3):
    """Gradients of the loss with respect to disparity and log σ."""
    ramp = np.linspace(0.1, 0.3, 16)[None, None]

    def loss(disparities, log_sigmas):
        output = DepthOutput(tuple(map(to_depth, disparities)), disparities, log_sigmas)
        return objective(output, batch, key=KEY)[0]

    output = predict([ramp], [log_sigma])
    return jax.grad(loss, argnums=(0, 1))(output.disparities, output.log_sigmas)


def test_depth_learns_nothing_from_pixels_that_do_not_move():
    @jax.jit
    def all_slopes(still):
        masked = {
            uncertainty: slopes(Objective("stereo", uncertainty, smoothness_weight=0.0), still)
            for uncertainty in ("none", "log", "repr")
        }
        plain = Objective("stereo", auto_mask=False, smoothness_weight=0.0)
        return masked, slopes(plain, still)

    masked, (plain, _) = all_slopes(CONSTANT.replace(image=noise(0), stereo=noise(0)))
    for uncertainty, (to_disparity, to_sigma) in masked.items():
        assert all(np.all(np.asarray(g) == 0) for g in to_disparity)
        assert all(np.all(np.asarray(g) != 0) == (uncertainty != "none") for g in to_sigma)
    assert all(np.any(np.asarray(g) != 0) for g in plain)


def test_likelihood_and_regression_of_photometric_errors():
    e = SMALLEST["stereo"]
    output = predict([0.2, 0.3], [-1.0, 0.5])

    @jax.jit
    def terms_of(output):
        objectives = (Objective("stereo", uncertainty) for uncertainty in ("log", "repr"))
        return [objective(output, CONSTANT, key=KEY)[1] for objective in objectives]

    log, regressed = terms_of(output)
    expected = np.mean([e * np.exp(1) - 1, e * np.exp(-0.5) + 0.5])
    np.testing.assert_allclose(log["likelihood"], expected, atol=5e-5)
    assert set(log) == {"likelihood", "smoothness"}
    np.testing.assert_allclose(regressed["regression"], np.mean([e + 1, 0.5 - e]), atol=5e-5)
    assert set(regressed) == {"photometric", "regression", "smoothness"}


def test_teacher_is_imitated_in_disparity():
    output, teacher = predict([0.2, 0.3], [-1.0, 0.5]), predict([0.4, 0.9])
    _, terms = Objective("mono", "self")(output, CONSTANT, teacher=teacher)
    expected = np.mean([0.2 * np.exp(1) - 1, 0.1 * np.exp(-0.5) + 0.5])
    np.testing.assert_allclose(terms["likelihood"], expected, rtol=1e-5)
    assert set(terms) == {"likelihood"}
    slope = jax.grad(
        lambda t: Objective("mono", "self")(output, CONSTANT, teacher=t)[0], allow_int=True
    )(teacher)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(slope))


def measured(depths, log_sigmas=None):
    maps = tuple(jnp.full((1, 2 >> i, 2 >> i), d) for i, d in enumerate(depths))
    uncertain = None if log_sigmas is None else tuple(map(jnp.full_like, maps, log_sigmas))
    return DepthOutput(maps, None, uncertain)


TRUTH = TrainingBatch(jnp.zeros((1, 2, 2, 3)), depth=jnp.array([[[2.0, 0.0], [6.0, jnp.nan]]]))


def test_supervised_losses_count_known_pixels_only():
    output = measured([3.0, 8.0], [0.0, np.log(2.0)])
    loss, terms = jax.jit(Objective("depth"))(output, TRUTH)
    np.testing.assert_allclose(terms["depth"], np.mean([(1 + 3) / 2, (6 + 2) / 2]))
    assert loss == terms["depth"]
    _, terms = jax.jit(Objective("depth", "log"))(output, TRUTH)
    np.testing.assert_allclose(terms["likelihood"], np.mean([2, 2 + np.log(2)]), rtol=1e-6)
    _, terms = jax.jit(Objective("depth", "repr"))(output, TRUTH)
    regression = [(1 + 3) / 2, (6 - np.log(2) + 2 - np.log(2)) / 2]
    np.testing.assert_allclose(terms["regression"], np.mean(regression), rtol=1e-6)
    _, terms = jax.jit(Objective("depth", "self"))(output, TRUTH, teacher=measured([5.0, 1.0]))
    np.testing.assert_allclose(terms["likelihood"], np.mean([2, 3 / 2 + np.log(2)]), rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "expected"),
    [("log_depth", [np.log(1.5), np.log(2)]), ("relative", [1 / 2, 3 / 6])],
)
def test_errors_of_depth_count_as_asked(space, expected):
    _, terms = Objective("depth", space=space)(measured([3.0]), TRUTH)
    np.testing.assert_allclose(terms["depth"], np.mean(expected), rtol=1e-6)


def test_supervised_gradients_stay_where_truth_is():
    def loss(depths, truth):
        return Objective("depth")(DepthOutput((depths,)), TRUTH.replace(depth=truth))[0]

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    value, slope = value_and_grad(jnp.full((1, 2, 2), 3.0), TRUTH.depth)
    np.testing.assert_allclose(slope, [[[0.5, 0], [-0.5, 0]]])
    value, slope = value_and_grad(jnp.full((1, 2, 2), 3.0), jnp.zeros((1, 2, 2)))
    assert value == 0
    assert np.all(np.asarray(slope) == 0)


ALL = list(
    itertools.product(["mono", "stereo", "mono_stereo", "depth"], ["none", "log", "self", "repr"])
)


@pytest.mark.parametrize(("supervision", "uncertainty"), ALL)
def test_every_objective_names_its_terms_and_needs(supervision, uncertainty):
    objective = Objective(supervision, uncertainty)
    output = predict([0.2, 0.3], [0.0, 0.0])
    loss, terms = jax.eval_shape(
        lambda key: objective(
            output,
            CONSTANT,
            motions=MOTIONS if objective.needs_motions else None,
            teacher=output if objective.needs_teacher else None,
            key=key if objective.needs_key else None,
        ),
        KEY,
    )
    assert all(x.shape == () and x.dtype == jnp.float32 for x in (loss, *terms.values()))
    warps = supervision != "depth" and uncertainty != "self"
    assert objective.needs_motions == (warps and "mono" in supervision)
    assert bool(objective.views) == warps == ("smoothness" in terms)
    first = {"log": "likelihood", "self": "likelihood"}.get(
        uncertainty, "photometric" if warps else "depth"
    )
    assert set(terms) - {"smoothness"} == {first} | (
        {"regression"} if uncertainty == "repr" else set()
    )


@pytest.mark.slow
def test_gradients_are_finite_where_the_camera_drives_through_the_scene():
    batch = CONSTANT.replace(image=noise(0), previous=noise(1), following=noise(2))
    through = STILL.at[:, :3, 3].set(jnp.array([0.5, -0.2, -2.0])[None])

    def loss(disparities, log_sigmas, motion):
        output = DepthOutput(tuple(map(to_depth, disparities)), disparities, log_sigmas)
        motions = {"previous": motion, "following": -motion}
        loss, terms = Objective("mono", "log")(output, batch, motions=motions, key=KEY)
        return loss, (loss, terms)

    output = predict([np.linspace(0, 1, 16)[None, None]], [np.linspace(-90, 90, 16)[None, None]])
    gradients, (total, terms) = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(
        output.disparities, output.log_sigmas, through
    )
    np.testing.assert_allclose(total, sum(terms.values()), rtol=1e-6)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((gradients, total)))


OUTPUT = predict([0.2, 0.3], [0.0, 0.0])


@pytest.mark.parametrize(
    ("objective", "changes", "given", "message"),
    [
        (
            Objective("mono"),
            {"previous": None},
            {"motions": MOTIONS, "key": KEY},
            "needs previous:",
        ),
        (Objective("mono"), {}, {}, "needs motions=, key=: give the batch"),
        (Objective("mono"), {}, {"motions": {"previous": STILL}, "key": KEY}, "needs motions="),
        (Objective("stereo"), {"stereo_offset": None}, {"key": KEY}, "needs stereo_offset"),
        (Objective("stereo"), {"intrinsics": None}, {"key": KEY}, "needs intrinsics"),
        (Objective("depth"), {"depth": None}, {}, "needs depth"),
        (Objective("mono", "self"), {}, {}, "with uncertainty 'self' needs teacher=:"),
        (Objective("mono", "self"), {}, {"teacher": measured([1.0])}, "teacher predicts no disp"),
        (Objective("depth", "self"), {}, {"teacher": measured([1.0])}, "teacher predicts maps of"),
        (Objective("depth"), {"depth": jnp.zeros((1, 4, 4))}, {}, r"depth has shape \(1, 4, 4\)"),
        (Objective("depth"), {"stereo": gray(0).astype(jnp.float16)}, {}, "stereo is float16"),
    ],
)
def test_errors_say_what_is_missing(objective, changes, given, message):
    with pytest.raises(grumo_jax.GrumoError, match=message):
        objective(OUTPUT, CONSTANT.replace(**changes), **given)


def test_errors_name_options_and_heads():
    with pytest.raises(grumo_jax.GrumoError, match=r"supervision is 'lidar'; .*'mono_stereo'"):
        Objective("lidar")
    with pytest.raises(grumo_jax.GrumoError, match="uncertainty is 'sigma'; it must be one of"):
        Objective("mono", "sigma")
    with pytest.raises(grumo_jax.GrumoError, match="ssim_weight is 2; it must lie between 0 and 1"):
        Objective("mono", ssim_weight=2)
    with pytest.raises(grumo_jax.GrumoError, match="build it with predict_uncertainty=True"):
        Objective("depth", "log")(predict([0.2]), CONSTANT)
    with pytest.raises(grumo_jax.GrumoError, match="network predicts no disparity"):
        Objective("stereo")(DepthOutput(OUTPUT.depths), CONSTANT, key=KEY)
    with pytest.raises(grumo_jax.GrumoError, match=r"maps of shapes \(1, 4, 8\); expected"):
        Objective("depth")(DepthOutput(OUTPUT.depths[1:]), CONSTANT)
