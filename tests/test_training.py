"""The training loop on a small source, with a network that compiles in a moment."""

import csv
import itertools
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_trees_close

import grumo_jax
from grumo_jax import checkpoint, synthetic
from grumo_jax.data import Sample
from grumo_jax.errors import DataError
from grumo_jax.training import state as state_module
from grumo_jax.training.feeding import Chosen, Fit, feed, resize_intrinsics
from grumo_jax.training.folder import open_run
from grumo_jax.training.geometry import predict_motions
from grumo_jax.training.log import RunLog, Table
from grumo_jax.training.loop import TrainingDiverged, TrainingInterrupted
from grumo_jax.training.saving import load_latest, save_state
from grumo_jax.training.settings import Settings
from grumo_jax.training.starting import insert_encoder, start_variables
from grumo_jax.training.state import (
    Networks,
    initial_state,
    initial_variables,
    make_optimiser,
    make_schedule,
    snapshot_steps,
)
from grumo_jax.training.step import make_mesh, make_step, replicated, shared
from grumo_jax.training.train import Weights, train, train_members
from grumo_jax.training.validation import Validation

TINY = {
    "size": (32, 64),
    "encoder_widths": (4, 4, 4, 8, 8),
    "decoder_widths": (4, 4, 4, 4, 4),
    "pose_encoder_widths": (4, 4, 4, 8, 8),
    "pose_width": 8,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "schedule": "constant",
}
SETTINGS = Settings("depth", **TINY, steps=6, statistics_batches=2, jitter=0.0)
ONE = jax.devices()[:1]
PACE = {"log_every": 1, "evaluate_every": 3, "save_every": 2}


class Small(nn.Module):
    """A network of two layers that can be trained, saved and loaded as Monodepth2 is."""

    predict_uncertainty: bool = False
    output: str = "depth"
    dtype: object = None

    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.Conv(4, (3, 3), use_bias=False, dtype=self.dtype, name="conv")(images)
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")
        x = nn.relu(norm(x.astype(jnp.float32)))
        heads = nn.Conv(2, (3, 3), dtype=self.dtype, name="head_0")(x).astype(jnp.float32)
        log_sigmas = (heads[..., 1],) if self.predict_uncertainty else None
        if self.output == "depth":
            return grumo_jax.DepthOutput((heads[..., 0],), None, log_sigmas)
        disparity = nn.sigmoid(heads[..., 0])
        return grumo_jax.DepthOutput((1 / (0.01 + disparity),), (disparity,), log_sigmas)


class Fake:
    """Pictures of coarse noise seen from several places, at depths that brightness tells."""

    crop, missing = None, ()

    def __init__(self, number=10, *, has_depth=True, damaged=(), depth=1.0):
        self.name, self.ids = "fake/train", tuple(f"frame {i}" for i in range(number))
        self.has_depth, self.damaged, self.depth = has_depth, damaged, depth
        self.fingerprint = f"{number}"

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        if index in self.damaged:
            raise DataError(f"{self.ids[index]}: damaged")
        rng = np.random.default_rng(index)
        wide = rng.integers(0, 256, (4, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        views = {name: wide[:, 8 + by : 72 + by] for name, by in _SHIFTS.items()}
        image = views.pop("image")
        depth = self.depth * (1 + image.mean(axis=-1, dtype=np.float32) / 64)
        depth = depth.astype(np.float32) if self.has_depth else None
        camera = np.array([[40, 0, 31.5], [0, 40, 15.5], [0, 0, 1]], np.float32)
        return Sample(self.ids[index], image, depth, camera, **views, stereo_offset=0.54)


_SHIFTS = {"image": 0, "previous": -2, "following": 2, "stereo": 4}


_NETWORKS = Networks.__dict__["of"]


@pytest.fixture
def real_networks(small_networks, monkeypatch):
    """Take back that networks are small; for what compiles nothing."""
    monkeypatch.setattr(Networks, "of", _NETWORKS)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    def of(cls, settings):
        output = "depth" if settings.supervision == "depth" else "disparity"
        dtype = jnp.bfloat16 if settings.bfloat16 else None
        depth = Small(settings.predicts_uncertainty, output, dtype)
        needs_pose = state_module.make_objective(settings).needs_pose
        return cls(depth, SmallPose() if needs_pose else None)

    monkeypatch.setattr(Networks, "of", classmethod(of))
    monkeypatch.setitem(checkpoint.MODELS, "Small", Small)


class SmallPose(nn.Module):
    """Two layers from two frames to a motion."""

    dtype: object = None

    @nn.compact
    def __call__(self, first, second, *, train=False):
        x = nn.Conv(4, (3, 3), strides=4, name="conv")(jnp.concatenate([first, second], axis=-1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        return 0.01 * jnp.mean(nn.Conv(6, (1, 1), name="pose")(x), axis=(1, 2))


def run(out, settings=SETTINGS, source=None, **options):
    options = {**PACE, "devices": ONE, "workers": 0, **options}
    return train(settings, source or Fake(), out, **options)


def rows(file):
    with file.open(newline="") as stream:
        return [
            {k: v for k, v in row.items() if k != "steps_per_second"}
            for row in csv.DictReader(stream)
        ]


def last_state(folder):
    return sorted((folder / "checkpoints").iterdir())[-1]


def flip_byte(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def begin(settings, **options):
    optimiser = make_optimiser(settings, make_schedule(settings, 6))
    return initial_state(initial_variables(settings), optimiser, **options)


def arrays_of(settings, number=1):
    batches = feed(Fake(), Fit.of(settings), settings.batch_size, seed=0, workers=0)
    return [fed.arrays for fed in itertools.islice(batches, number)]


# What a run gives


def test_a_run_leaves_log_pictures_states_and_a_network(tmp_path):
    result = run(tmp_path / "run", validation=Fake(5))
    assert result.steps == 6
    assert result.checkpoint == tmp_path / "run" / "model"
    logged = rows(tmp_path / "run" / "log.csv")
    assert [row["step"] for row in logged] == list("123456")
    names = ["step", "loss", "depth", "learning_rate", "gradient_norm", "update_norm"]
    assert list(logged[0]) == names
    assert all(np.isfinite(float(v)) for row in logged for v in row.values())
    validated = rows(tmp_path / "run" / "validation.csv")
    assert [list(row) for row in validated] == [["step", "abs_rel", "rmse", "a1"]] * 2
    assert [row["step"] for row in validated] == ["3", "6"]
    assert [f.name for f in sorted((tmp_path / "run" / "pictures").iterdir())] == [
        "step_000000003.png",
        "step_000000006.png",
    ]
    assert [f.name for f in sorted((tmp_path / "run" / "checkpoints").iterdir())] == [
        "step_000000004.state",
        "step_000000006.state",
    ]
    model, variables = grumo_jax.load_checkpoint(result.checkpoint)
    assert model == Small()
    assert_trees_close(variables, result.variables)


def test_loss_decreases(tmp_path):
    settings = SETTINGS.replace({"steps": 60, "learning_rate": 0.02, "schedule": "cosine"})
    run(tmp_path, settings)
    losses = [float(row["loss"]) for row in rows(tmp_path / "log.csv")]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_finished_runs_are_left_alone(tmp_path):
    first = run(tmp_path)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*") if f.is_file()}
    again = run(tmp_path, should_stop=lambda: pytest.fail("a step was done"))
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert_trees_close(first.variables, again.variables)


# Interruption and damage


def stop_after(number):
    counter = itertools.count(1)
    return lambda: next(counter) == number


class Killed(BaseException):
    """What ends a run without its noticing."""


def kill_after(number):
    counter = itertools.count(1)

    def ask():
        if next(counter) == number:
            raise Killed
        return False

    return ask


def assert_same_runs(one, other):
    assert last_state(one).read_bytes() == last_state(other).read_bytes()
    for name in ("log.csv", "validation.csv"):
        assert rows(one / name) == rows(other / name)
    models = [grumo_jax.load_checkpoint(folder / "model")[1] for folder in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, *models)


@pytest.mark.parametrize("changes", [{}, {"average_decay": 0.9, "jitter": 0.5}], ids=str)
def test_resumed_runs_are_the_same_to_the_bit(tmp_path, changes):
    settings = SETTINGS.replace(changes)
    # Sample 3 cannot be read: positions are not multiples of the batch size.
    source, validation = Fake(damaged=(3,)), Fake(4)
    run(tmp_path / "whole", settings, source, validation=validation)
    with pytest.raises(TrainingInterrupted, match=r"after step 1 of 6.*same command again"):
        run(tmp_path / "parts", settings, source, validation=validation, should_stop=stop_after(1))
    with pytest.raises(Killed):
        run(tmp_path / "parts", settings, source, validation=validation, should_stop=kill_after(4))
    assert last_state(tmp_path / "parts").name == "step_000000004.state"
    run(tmp_path / "parts", settings, source, validation=validation)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_damaged_states_fall_back(tmp_path):
    run(tmp_path / "whole", validation=Fake(4))
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "parts", validation=Fake(4), should_stop=stop_after(5))
    flip_byte(last_state(tmp_path / "parts"))
    told = []
    run(tmp_path / "parts", validation=Fake(4), report=told.append)
    assert len(told) == 1
    assert "step_000000005.state: damaged" in told[0]
    assert "falling back" in told[0]
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


def test_states_that_are_all_damaged_are_refused(tmp_path):
    save_state(tmp_path, 2, 8, {"a": np.ones(1000, np.float32)})
    flip_byte(tmp_path / "step_000000002.state")
    told = []
    with pytest.raises(grumo_jax.GrumoError, match="not one state in it is undamaged"):
        load_latest(tmp_path, {"a": np.ones(1000, np.float32)}, told.append)
    assert len(told) == 1


def test_states_of_other_networks_are_refused(tmp_path):
    save_state(tmp_path, 2, 8, {"a": np.ones(3, np.float32)})
    told = []
    with pytest.raises(grumo_jax.GrumoError):
        load_latest(tmp_path, {"a": np.ones(4, np.float32)}, told.append)
    assert "another network or optimiser" in told[0]


def test_other_settings_are_refused(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, should_stop=stop_after(1))
    with pytest.raises(grumo_jax.GrumoError) as caught:
        run(tmp_path, SETTINGS.replace({"learning_rate": 0.5}))
    assert "(learning_rate was 0.001 and is now 0.5)" in str(caught.value)
    with pytest.raises(grumo_jax.GrumoError, match='contents was "10" and is now "11"'):
        run(tmp_path, source=Fake(11))


def test_settings_newer_than_the_run_had_their_defaults(tmp_path):
    settings = Settings().to_json()
    with open_run(tmp_path, {k: v for k, v in settings.items() if k != "hue"}):
        pass
    with open_run(tmp_path, settings):
        pass
    with (
        pytest.raises(grumo_jax.GrumoError, match=r"hue was 0.1 and is now 0.2"),
        open_run(tmp_path, {**settings, "hue": 0.2}),
    ):
        pass


def test_folders_of_something_else_or_in_use_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(grumo_jax.GrumoError, match="holds other files"):
        run(tmp_path)
    with (
        open_run(tmp_path / "run", {}),
        pytest.raises(grumo_jax.GrumoError, match="another process is training"),
        open_run(tmp_path / "run", {}),
    ):
        pass


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
    jax.tree.map(
        np.testing.assert_array_equal,
        state.params | state.batch_stats,
        before.params | before.batch_stats,
    )
    assert state.step == 0


# One step


def test_steps_depend_on_seed_and_number_alone():
    step, (arrays,) = make_step(SETTINGS, 6), arrays_of(SETTINGS)
    first, again = (step(begin(SETTINGS), arrays, None)[1]["loss"] for _ in range(2))
    assert first == again
    later = begin(SETTINGS).replace(step=jnp.int32(1))
    assert step(later, arrays, None)[1]["loss"] != first


def test_devices_share_the_batch():
    (arrays,) = arrays_of(SETTINGS)
    results = []
    for number in (1, 2):
        mesh = make_mesh(jax.devices()[:number], 4)
        state = jax.device_put(begin(SETTINGS), replicated(mesh))
        placed = jax.device_put(arrays, shared(mesh))
        state, metrics = make_step(SETTINGS, 6, mesh=mesh)(state, placed, None)
        assert len(state.step.sharding.device_set) == number
        results.append(jax.device_get((state.params, state.batch_stats, metrics)))
    assert_trees_close(*results, rtol=1e-4, atol=1e-6)


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


# Validation


def test_validation_scales_as_the_supervision_asks_for():
    settings = Settings("stereo", **TINY)
    state = begin(settings)
    measured = {
        supervision: Validation(settings.replace({"supervision": supervision}), Fake(4)).measure(
            state
        )
        for supervision in ("stereo", "mono")
    }
    images = jnp.stack([jnp.asarray(Fake()[i].image, jnp.float32) / 255 for i in range(4)])
    truth = jnp.stack([jnp.asarray(Fake()[i].depth) for i in range(4)])
    depth = Small(output="disparity").apply(state.variables, images).depth
    medians = jnp.median(truth, axis=(1, 2)) / jnp.median(depth, axis=(1, 2))
    for supervision, scale in (("stereo", 5.4), ("mono", medians[:, None, None])):
        error = jnp.mean(jnp.abs(depth * scale - truth) / truth)
        np.testing.assert_allclose(measured[supervision]["abs_rel"], error, rtol=1e-4)


def test_without_ground_truth_the_loss_is_measured():
    settings = SETTINGS.replace({"base_model": "self"})
    state, teacher = begin(settings), Small()
    labels = begin(SETTINGS).variables
    measured = Validation(settings, Fake(6, has_depth=False), teacher).measure(state, labels)
    assert set(measured) == {"loss", "likelihood"}
    # The last batch is filled up.
    assert measured["loss"] == pytest.approx(measured["likelihood"])


def test_pictures_show_uncertainty_if_there_is_one():
    settings = Settings("depth", "log", **TINY)
    assert Validation(settings, Fake(2)).draw(begin(settings)).shape == (2 * 32, 3 * 64, 3)


# Data


def test_the_order_depends_on_the_seed_and_can_be_taken_up():
    def ids(seed, start=0, damaged=(), told=None):
        fit = lambda sample: {"id": np.int64(sample.id.split()[1])}  # noqa: E731
        report = (lambda s: None) if told is None else told.append
        fed = feed(Fake(damaged=damaged), fit, 4, seed=seed, start=start, workers=0, report=report)
        return [(batch.arrays["id"].tolist(), batch.position) for batch in itertools.islice(fed, 6)]

    whole = ids(3)
    assert whole == ids(3)
    assert whole != ids(4)
    assert ids(3, start=whole[1][1])[:4] == whole[2:]
    assert sorted([i for batch, _ in whole for i in batch][:10]) == list(range(10))
    told = []
    damaged = ids(3, damaged=(0, 7), told=told)
    assert {0, 7}.isdisjoint([i for batch, _ in damaged for i in batch])
    assert sorted(told) == ["frame 0: damaged", "frame 7: damaged"]
    assert ids(3, start=damaged[1][1], damaged=(0, 7))[:4] == damaged[2:]


def test_sources_of_no_use_are_refused():
    settings = Settings("depth", **TINY)
    with pytest.raises(DataError, match=r"frame \d: has no depth, which this training needs"):
        next(feed(Fake(has_depth=False), Fit.of(settings), 4, seed=0, workers=0))
    with pytest.raises(DataError, match="no samples to train on"):
        next(feed(Fake(0), Fit.of(settings), 4, seed=0, workers=0))


def test_samples_are_fitted_to_the_network():
    sample = Fake()[0]
    arrays = Fit((64, 32), ("previous", "stereo"))(sample)
    assert {k: (v.shape, v.dtype.name) for k, v in arrays.items()} == {
        "image": ((64, 32, 3), "uint8"),
        "previous": ((64, 32, 3), "uint8"),
        "stereo": ((64, 32, 3), "uint8"),
        "intrinsics": ((3, 3), "float32"),
        "stereo_offset": ((), "float32"),
    }
    np.testing.assert_allclose(
        arrays["intrinsics"], [[20, 0, 15.5], [0, 80, 31.5], [0, 0, 1]], rtol=1e-6
    )
    same = Fit((32, 64), depth=True)(sample)
    assert same["image"] is sample.image
    np.testing.assert_array_equal(same["depth"], sample.depth)
    limit = np.float32(np.median(sample.depth))
    near = Fit((32, 64), depth=True, farthest=float(limit))(sample)["depth"]
    np.testing.assert_array_equal(near > 0, sample.depth <= limit)


def test_resized_cameras_see_the_same_points():
    camera = np.array([[40, 0, 20], [0, 50, 10], [0, 0, 1]], np.float32)
    resized = resize_intrinsics(camera, (32, 64), (48, 32))
    point = np.array([0.3, -0.2, 1])
    (x, y, _), (new_x, new_y, _) = camera @ point, resized @ point
    # Positions from the picture's corner scale with the picture.
    np.testing.assert_allclose(
        [(new_x + 0.5) / 32, (new_y + 0.5) / 48], [(x + 0.5) / 64, (y + 0.5) / 32]
    )


def test_chosen_samples_are_spread():
    chosen = Chosen.spread(Fake(10), 4)
    assert chosen.ids == ("frame 0", "frame 2", "frame 5", "frame 7")
    assert chosen[2].id == "frame 5"
    assert len(Chosen.spread(Fake(2), 4)) == 2


# Settings, schedules, weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "1"}, "there is no setting 'lr'; there are: supervision, base_model, dataset"),
        ({"seed": "x"}, "the setting seed is 'x'; expected a whole number"),
        ({"seed": "-1"}, "the setting seed is -1; expected 0 to 4294967295"),
        ({"flip": "2"}, "the setting flip is 2.0; expected 0 to 1"),
        ({"size": "100,320"}, "the setting size is (100, 320); expected multiples of 32"),
        ({"size": "96"}, "the setting size is 96; expected 2 numbers with commas between them"),
        ({"learning_rate": "nan"}, "the setting learning_rate is 'nan'; expected a number"),
        ({"learning_rate": 0}, "the setting learning_rate is 0.0; expected more than 0"),
        ({"gradient_clip": "no"}, "expected a number or none"),
        ({"bfloat16": 1}, "the setting bfloat16 is 1; expected true or false"),
        ({"schedule": "cyclic"}, "does not go with the base model plain"),
        ({"encoder_widths": "4,4"}, "expected five widths"),
        ({"half_and_crop": "true"}, "half_and_crop is for supervision=depth"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_explained(changes, message):
    with pytest.raises(grumo_jax.GrumoError) as caught:
        Settings().replace(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_survive_json():
    from grumo_jax.training.presets import PRESETS

    for settings in PRESETS.values():
        assert Settings().replace(json.loads(json.dumps(settings.to_json()))) == settings


def test_epochs_count_whole_batches():
    assert Settings(epochs=20, batch_size=12).number_of_steps(39810) == 20 * 3317
    assert Settings(steps=7).number_of_steps(10) == 7


def test_schedules():
    base = {"learning_rate": 1.0}
    warm = make_schedule(Settings(**base, schedule="cosine", warmup_steps=10), 110)
    np.testing.assert_allclose(
        [warm(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.5, 0], atol=1e-6
    )
    snap = Settings(**base, base_model="snap", schedule="cyclic", cycles=4, snapshots=2)
    cyclic = make_schedule(snap, 10)
    rates = [float(cyclic(jnp.int32(s))) for s in range(10)]
    assert [s for s in range(1, 10) if rates[s] > rates[s - 1]] == [3, 5, 8]
    assert snapshot_steps(snap, 10) == {8: 2, 10: 3}


# Files


def test_tables_are_cut_where_a_run_resumes(tmp_path):
    file = tmp_path / "log.csv"
    table = Table(file)
    for step in (1, 2, 3):
        table.append({"step": step, "loss": 0.1 * step})
    with file.open("a") as stream:
        stream.write("4,0.")
    Table(file, 2).append({"step": 3, "loss": 7.0})
    assert file.read_text() == "step,loss\n1,0.1\n2,0.2\n3,7\n"
    with pytest.raises(grumo_jax.GrumoError, match="has the columns step, loss"):
        Table(file, 3).append({"step": 4, "a1": 7.0})


def test_event_files_can_be_read(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    with RunLog(tmp_path) as log:
        log.add("log.csv", 7, {"loss": 0.25})
        log.picture(7, np.full((2, 3, 3), 9, np.uint8))
    (file,) = (tmp_path / "events").iterdir()
    data, events = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    values = {v.tag: (e.step, v) for e in events for v in e.summary.value}
    assert values["training/loss"][0] == 7
    assert values["training/loss"][1].simple_value == 0.25
    picture = values["validation/pictures"][1].image
    assert (picture.height, picture.width) == (2, 3)


# What a run starts from


def torchvision_state(widths=(4, 4, 4, 8, 8)):
    """Random weights of a ResNet-18 in torchvision's names and shapes."""
    rng, state = np.random.default_rng(0), {}

    def conv(name, out, inputs, size):
        state[f"{name}.weight"] = rng.normal(size=(out, inputs, size, size)).astype(np.float32)

    def norm(name, width):
        for entry in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{entry}"] = rng.uniform(1, 2, width).astype(np.float32)
        state[f"{name}.num_batches_tracked"] = 7

    conv("conv1", widths[0], 3, 7)
    norm("bn1", widths[0])
    for i, (width, inputs) in enumerate(zip(widths[1:], widths, strict=False), start=1):
        for j, into in enumerate((inputs, width)):
            name = f"layer{i}.{j}"
            conv(f"{name}.conv1", width, into, 3)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn1", width)
            norm(f"{name}.bn2", width)
        if inputs != width or i > 1:
            conv(f"layer{i}.0.downsample.0", width, inputs, 1)
            norm(f"layer{i}.0.downsample.1", width)
    return state | {"fc.weight": np.zeros((10, widths[-1])), "fc.bias": np.zeros(10)}


def test_encoders_start_from_imagenet_weights(real_networks):
    state = torchvision_state()
    variables = initial_variables(Settings("mono", **TINY))
    result = insert_encoder(variables, state)
    depth, pose = (result[name]["params"]["encoder"] for name in ("depth", "pose"))
    first = state["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(depth["conv1"]["kernel"], first)
    # Two equal pictures give what one gives in the depth network.
    np.testing.assert_allclose(pose["conv1"]["kernel"].reshape(7, 7, 2, 3, 4).sum(axis=2), first)
    for encoder in (depth, pose):
        np.testing.assert_array_equal(
            encoder["layer2"]["block0"]["downsample_bn"]["scale"],
            state["layer2.0.downsample.1.weight"],
        )
    statistics = result["pose"]["batch_stats"]["encoder"]["bn1"]["mean"]
    np.testing.assert_array_equal(statistics, state["bn1.running_mean"])
    for name, kept in (("depth", "decoder"), ("pose", "squeeze")):
        jax.tree.map(
            np.testing.assert_array_equal,
            result[name]["params"][kept],
            variables[name]["params"][kept],
        )
    with pytest.raises(grumo_jax.GrumoError, match="encoder, for the depth network"):
        insert_encoder(variables, torchvision_state((4, 4, 4, 8, 16)))


def test_the_first_guess_is_the_initial_depth(real_networks):
    for supervision in ("depth", "stereo"):
        settings = Settings(supervision, **TINY, initial_depth=3.0)
        variables = initial_variables(settings)["depth"]
        for scale in range(4):
            bias = variables["params"]["decoder"][f"head_{scale}"]["bias"]
            model = Networks.of(settings).depth
            guess = bias if supervision == "depth" else model.disparity_to_depth(nn.sigmoid(bias))
            np.testing.assert_allclose(guess, 3.0, rtol=1e-5)
    same, other = (initial_variables(Settings("depth", **TINY, seed=s))["depth"] for s in (0, 1))
    kernel = same["params"]["decoder"]["up_4_0"]["conv"]["kernel"]
    np.testing.assert_allclose(jnp.std(kernel), (9 * 8) ** -0.5, rtol=0.2)
    assert not np.allclose(kernel, other["params"]["decoder"]["up_4_0"]["conv"]["kernel"])


def test_the_first_guess_is_the_initial_motion(real_networks):
    settings = Settings("mono", **TINY, initial_motion=0.25)
    variables = initial_variables(settings)["pose"]
    # Without the last layer's weights, what is left is its bias.
    head = {**variables["params"]["pose"], "kernel": 0 * variables["params"]["pose"]["kernel"]}
    variables = {**variables, "params": {**variables["params"], "pose": head}}
    frames = dict.fromkeys(("previous", "image", "following"), jnp.ones((1, *settings.size, 3)))
    pose = Networks.of(settings).pose
    motions = predict_motions(lambda a, b: pose.apply(variables, a, b), frames)
    for name, time in (("previous", -1), ("following", 1)):
        ahead = synthetic.make_camera().replace(position=jnp.array([0.0, -1.65, 0.25 * time]))
        expected = synthetic.motion(synthetic.make_camera(), ahead)
        np.testing.assert_allclose(motions[name][0], expected, atol=1e-6)


def test_networks_are_those_of_the_settings(real_networks):
    networks = Networks.of(Settings("stereo", "drop", **TINY, bfloat16=True))
    assert networks.depth.dtype == jnp.bfloat16
    assert networks.depth.dropout_rate == 0.2
    assert networks.depth.input_size == (32, 64)
    assert networks.pose is None
    assert Networks.of(Settings("mono", **TINY)).pose.dtype is None
    assert Networks.of(Settings("mono", "self", **TINY)).pose is None


def test_a_run_starts_from_another_run_finished_or_not(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "first", should_stop=stop_after(5))
    unfinished = start_variables(SETTINGS, init=tmp_path / "first")
    result = run(tmp_path / "first")
    finished = start_variables(SETTINGS, init=tmp_path / "first")
    jax.tree.map(np.testing.assert_array_equal, finished["depth"], result.variables)
    kernels = [v["depth"]["params"]["conv"]["kernel"] for v in (unfinished, finished)]
    assert not np.allclose(*kernels)
    again = start_variables(SETTINGS, init=result.checkpoint)
    jax.tree.map(np.testing.assert_array_equal, again["depth"], result.variables)
    run(tmp_path / "second", weights=Weights(init=tmp_path / "first"))
    recorded = json.loads((tmp_path / "second" / "run.json").read_text())["init"]
    assert recorded == checkpoint.checkpoint_hash(result.checkpoint)


def test_heads_that_were_not_stored_start_at_random(real_networks, tmp_path):
    plain = Settings("depth", **TINY, seed=1)
    stored = initial_variables(plain)["depth"]
    grumo_jax.save_checkpoint(tmp_path / "plain", Networks.of(plain).depth, stored)
    settings = plain.replace({"base_model": "log", "seed": 2})
    decoder = start_variables(settings, init=tmp_path / "plain")["depth"]["params"]["decoder"]
    own = initial_variables(settings)["depth"]["params"]["decoder"]
    np.testing.assert_array_equal(
        decoder["up_0_1"]["conv"]["kernel"], stored["params"]["decoder"]["up_0_1"]["conv"]["kernel"]
    )
    np.testing.assert_array_equal(
        decoder["uncertainty_head_0"]["kernel"], own["uncertainty_head_0"]["kernel"]
    )
    with pytest.raises(grumo_jax.GrumoError, match=r"has shape .* and this training needs"):
        start_variables(settings.replace({"decoder_widths": "8,4,4,4,4"}), init=tmp_path / "plain")
