"""One step of a training, and what happens where it is not finite."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close, exchanges
from training_runs import (
    ONE,
    PACE,
    SETTINGS,
    TINY,
    Fake,
    arrays_of,
    begin,
    last_state,
    rows,
    run,
    stop_after,
)

import grumo_jax
from grumo_jax._internal.meshes import replicated, shared
from grumo_jax.networks import checkpoint
from grumo_jax.training.devices import make_mesh
from grumo_jax.training.feeding import Fit
from grumo_jax.training.loop import TrainingDiverged, TrainingInterrupted
from grumo_jax.training.settings import Settings
from grumo_jax.training.step import make_step
from grumo_jax.training.train import Weights, train_members

pytestmark = pytest.mark.usefixtures("small_networks")


# What is not finite


def test_infinite_updates_stop_the_run(tmp_path):
    with pytest.raises(TrainingDiverged) as caught:
        run(tmp_path, SETTINGS.replace({"learning_rate": 1e30}))
    assert "step 1: update_norm is inf; neither this step nor any after it" in str(caught.value)
    assert "no state was saved before" in str(caught.value)
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "model").exists()


def test_infinite_losses_are_named_with_the_last_good_state(tmp_path, monkeypatch):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, should_stop=stop_after(3))
    good = last_state(tmp_path).read_bytes()
    monkeypatch.setattr(Fit, "__call__", poisoned(Fit.__call__))
    with pytest.raises(TrainingDiverged) as caught:
        run(tmp_path)
    assert "step 4: loss is inf, depth is inf" in str(caught.value)
    assert "step_000000003.state" in str(caught.value)
    assert last_state(tmp_path).read_bytes() == good
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["1", "2", "3"]


def poisoned(fit):
    def fill(self, sample):
        arrays = fit(self, sample)
        return {**arrays, "depth": np.full_like(arrays["depth"], np.inf)}

    return fill


def test_no_step_is_taken_after_a_bad_one():
    step, (good, other) = make_step(SETTINGS, 6), arrays_of(SETTINGS, 2)
    bad = {**good, "depth": np.full_like(good["depth"], np.inf)}
    before = jax.device_get(begin(SETTINGS))
    state, metrics = step(begin(SETTINGS), bad, None)
    assert not np.isfinite(metrics["loss"])
    state, metrics = step(state, other, None)
    assert np.isfinite(metrics["loss"])
    assert state.diverged
    jax.tree.map(np.testing.assert_array_equal, state, before.replace(diverged=state.diverged))
    assert state.step == 0


# One step


def test_steps_depend_on_seed_and_number_alone():
    step, (arrays,) = make_step(SETTINGS, 6), arrays_of(SETTINGS)
    first, again = (step(begin(SETTINGS), arrays, None)[1]["loss"] for _ in range(2))
    assert first == again
    later = begin(SETTINGS).replace(step=jnp.int32(1))
    assert step(later, arrays, None)[1]["loss"] != first


ALIGNED = Settings("mono", **TINY, motion="alignment", initial_motion=0.01, jitter=0.0)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SETTINGS, id="depth"),
        pytest.param(ALIGNED, id="mono, aligned", marks=pytest.mark.slow),
    ],
)
def test_devices_share_the_batch(settings):
    (arrays,) = arrays_of(settings)
    results = []
    for number in (1, 2):
        mesh = make_mesh(jax.devices()[:number], 4)
        state = jax.device_put(begin(settings), replicated(mesh))
        placed = jax.device_put(arrays, shared(mesh))
        step = jax.jit(make_step(settings, 6, mesh=mesh)).lower(state, placed, None).compile()
        assert exchanges(step) == (set() if number == 1 else {"all-reduce"}), "nothing but sums"
        state, metrics = step(state, placed, None)
        assert len(state.step.sharding.device_set) == number
        results.append(jax.device_get((state.params, state.batch_stats, metrics)))
    assert_trees_close(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_pairs_of_frames_stay_on_their_devices():
    settings, mesh = Settings("mono", **TINY), make_mesh(jax.devices()[:2], 4)
    (arrays,) = arrays_of(settings)
    placed = jax.device_put(arrays, shared(mesh))
    state = jax.device_put(begin(settings), replicated(mesh))
    step = jax.jit(make_step(settings, 6, mesh=mesh)).lower(state, placed, None).compile()
    assert exchanges(step) == {"all-reduce"}


def test_devices_that_cannot_share_evenly_are_refused():
    with pytest.raises(grumo_jax.GrumoError) as caught:
        make_mesh(jax.devices()[:4], 6)
    assert str(caught.value).startswith("a batch of 6 images cannot be shared evenly between 4")
    assert "make it 8 (--batch 8)" in str(caught.value)


def test_moving_average():
    settings = SETTINGS.replace({"average_decay": 0.2})
    step, batches = make_step(settings, 6), arrays_of(settings, 3)
    state = begin(settings, average=True)
    kernel = expected = np.asarray(state.params["depth"]["conv"]["kernel"])
    for number, arrays in enumerate(batches, start=1):
        state, _ = step(state, arrays, None)
        share = min(0.2, (1 + number) / (10 + number))
        kernel = np.asarray(state.params["depth"]["conv"]["kernel"])
        expected = share * expected + (1 - share) * kernel
    average = state.variables["params"]["conv"]["kernel"]
    np.testing.assert_allclose(average, expected, rtol=1e-5)
    assert not np.allclose(average, kernel)


def test_gradients_are_limited():
    settings = SETTINGS.replace({"gradient_clip": 1e-9, "learning_rate": 1.0})
    # With gradients far below Adam's ε the update is gradient / ε.
    _, metrics = make_step(settings, 6)(begin(settings), arrays_of(settings)[0], None)
    assert metrics["gradient_norm"] > 1e-3
    assert metrics["update_norm"] < 0.2


def test_bfloat16_keeps_parameters_and_loss_in_float32(tmp_path):
    result = run(tmp_path, SETTINGS.replace({"bfloat16": True}))
    assert {leaf.dtype for leaf in jax.tree.leaves(result.variables)} == {jnp.dtype("float32")}
    exact = run(tmp_path / "exact")
    losses = [
        [float(row["loss"]) for row in rows(folder / "log.csv")]
        for folder in (tmp_path, tmp_path / "exact")
    ]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.05)
    assert exact.model == result.model


def test_self_supervised_steps_train_both_networks():
    settings = Settings("mono", "log", **TINY, auto_mask=False, jitter=0.0)
    before = jax.device_get(begin(settings).params)
    state, metrics = make_step(settings, 6)(begin(settings), arrays_of(settings)[0], None)
    others = {"loss", "learning_rate", "gradient_norm", "update_norm"}
    assert set(metrics) - others == {"likelihood", "smoothness"}
    assert not state.diverged
    assert state.step == 1
    for network in ("depth", "pose"):
        changed = state.params[network]["conv"]["kernel"] != before[network]["conv"]["kernel"]
        assert changed.all()


def test_self_learns_from_its_teacher(tmp_path):
    run(tmp_path / "teacher")
    settings = SETTINGS.replace({"base_model": "self"})
    with pytest.raises(grumo_jax.GrumoError, match="name it: --teacher"):
        run(tmp_path / "student", settings)
    with pytest.raises(grumo_jax.GrumoError, match="only self has one"):
        run(tmp_path / "student", weights=Weights(teacher=tmp_path / "teacher"))
    weights = Weights(teacher=tmp_path / "teacher")
    with pytest.raises(grumo_jax.GrumoError, match=r"teacher: is of another .* output depth and"):
        run(tmp_path / "student", settings.replace({"supervision": "stereo"}), weights=weights)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "half", should_stop=stop_after(1))
    with pytest.raises(grumo_jax.GrumoError, match=r"half: that training is not finished"):
        run(tmp_path / "student", settings, weights=Weights(teacher=tmp_path / "half"))
    # Needs no depth of its own.
    result = run(tmp_path / "student", settings, Fake(has_depth=False), weights=weights)
    assert result.model.predict_uncertainty
    assert "likelihood" in rows(tmp_path / "student" / "log.csv")[0]
    recorded = json.loads((tmp_path / "student" / "run.json").read_text())["teacher"]
    assert recorded == checkpoint.checkpoint_hash(tmp_path / "teacher" / "model")


def test_snapshots(tmp_path):
    changes = {"base_model": "snap", "schedule": "cyclic", "cycles": 3, "snapshots": 2}
    result = run(tmp_path, SETTINGS.replace(changes))
    assert [path.name for path in result.snapshots] == ["snapshot_1", "snapshot_2"]
    first, second = (grumo_jax.load_checkpoint(path)[1] for path in result.snapshots)
    assert_trees_close(second, result.variables)
    assert not np.allclose(first["params"]["conv"]["kernel"], second["params"]["conv"]["kernel"])
    rates = [float(row["learning_rate"]) for row in rows(tmp_path / "log.csv")]
    np.testing.assert_allclose(rates, [1e-3, 5e-4] * 3, rtol=1e-5)


def test_boot_trains_members_of_other_seeds(tmp_path):
    settings = SETTINGS.replace({"base_model": "boot", "steps": 2})
    options = {**PACE, "devices": ONE, "workers": 0}
    results = train_members(settings, Fake(), tmp_path, members=2, **options)
    assert [r.checkpoint.parent.name for r in results] == ["member_0", "member_1"]
    kernels = [r.variables["params"]["conv"]["kernel"] for r in results]
    assert not np.allclose(*kernels)
    seeds = [json.loads((tmp_path / f"member_{i}/run.json").read_text())["seed"] for i in (0, 1)]
    assert seeds == [0, 1]
    with pytest.raises(grumo_jax.GrumoError, match="2 members or more"):
        train_members(settings, Fake(), tmp_path, members=1)


def test_statistics_are_those_of_many_batches(tmp_path):
    result = run(tmp_path / "many", SETTINGS.replace({"steps": 1, "statistics_batches": 8}))
    images = jnp.stack([jnp.asarray(Fake()[i].image, jnp.float32) / 255 for i in range(10)])
    kernel = result.variables["params"]["conv"]["kernel"]
    features = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = jnp.mean(features, axis=(0, 1, 2))
    found = result.variables["batch_stats"]["norm"]["mean"]
    # Some images were mirrored, and of some there were more: about the same.
    np.testing.assert_allclose(found, expected, atol=0.05)
