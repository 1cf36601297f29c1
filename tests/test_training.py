"""A training from start to end, however often it is interrupted."""

import itertools
import struct

import jax
import numpy as np
import pytest
from helpers import assert_trees_close
from training_runs import SETTINGS, Fake, Small, flip_byte, last_state, rows, run, stop_after

import grumo_jax
from grumo_jax.training.folder import open_run
from grumo_jax.training.log import CsvLog, RunLog
from grumo_jax.training.loop import TrainingInterrupted
from grumo_jax.training.saving import load_latest, save_state
from grumo_jax.training.settings import Settings

pytestmark = pytest.mark.usefixtures("small_networks")


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
    save_state(tmp_path, 2, [8], {"a": np.ones(1000, np.float32)})
    flip_byte(tmp_path / "step_000000002.state")
    told = []
    with pytest.raises(grumo_jax.GrumoError, match=r"not one state in it can be used; .*: damaged"):
        load_latest(tmp_path, {"a": np.ones(1000, np.float32)}, told.append)
    assert len(told) == 1


def test_states_of_other_networks_are_refused(tmp_path):
    save_state(tmp_path, 2, [8], {"a": np.ones(3, np.float32)})
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


def test_what_failed_before_anything_was_saved_may_be_corrected(tmp_path):
    log = SETTINGS.replace({"base_model": "log"})
    with pytest.raises(grumo_jax.GrumoError, match="has no depth"):
        run(tmp_path, log, Fake(has_depth=False))
    # Found out before the first step, and not at the first validation.
    with pytest.raises(grumo_jax.GrumoError, match="nothing to validate on"):
        run(tmp_path, log, validation=Fake(3, damaged=range(3)))
    assert not (tmp_path / "log.csv").exists()
    # Two steps were done when this one was killed; the log's columns change.
    (tmp_path / "log.csv").write_text("step,loss,likelihood\n1,2.0,2.0\n")
    run(tmp_path)
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == list("123456")


def test_settings_newer_than_the_run_had_their_defaults(tmp_path):
    settings = Settings().to_json()
    with open_run(tmp_path, {k: v for k, v in settings.items() if k != "hue"}):
        save_state(tmp_path / "checkpoints", 1, [4], {})
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


# Files


def test_tables_are_cut_where_a_run_resumes(tmp_path):
    file = tmp_path / "log.csv"
    table = CsvLog(file)
    for step in (1, 2, 3):
        table.append({"step": step, "loss": 0.1 * step})
    with file.open("a") as stream:
        stream.write("4,0.")
    CsvLog(file, 2).append({"step": 3, "loss": 7.0})
    assert file.read_text() == "step,loss\n1,0.1\n2,0.2\n3,7\n"
    with pytest.raises(grumo_jax.GrumoError, match="has the columns step, loss"):
        CsvLog(file, 3).append({"step": 4, "a1": 7.0})


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
