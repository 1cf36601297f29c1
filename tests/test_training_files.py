"""What a run's folder holds: whatever happens to a file there is noticed, and named."""

import importlib
import io
import json

import numpy as np
import pytest
from training_runs import run, stop_after

from grumo_jax._internal.hashing import hash_bytes
from grumo_jax.errors import CheckpointError, GrumoError
from grumo_jax.training.folder import open_run, read_settings, run_seal
from grumo_jax.training.log import CsvLog
from grumo_jax.training.loop import TrainingInterrupted
from grumo_jax.training.saving import (
    latest_leaves,
    list_states,
    load_latest,
    read_leaves,
    save_state,
)
from grumo_jax.training.settings import Settings

training = importlib.import_module("grumo_jax.training.train")  # not the function of that name
STATE = {"weights": np.ones((2, 3), np.float32)}
IDENTITY = {**Settings().to_json(), "grumo_jax": "1", "definitions": {"training": 1}, "init": None}


def forge_state(folder, step=2, run="", **arrays):
    """A state whose hash is right, whatever it holds."""
    content = io.BytesIO()
    np.savez(content, **{"['weights']": STATE["weights"], "position": np.array([8]), **arrays})
    return forge(folder, content.getvalue(), step, run)


def forge(folder, content, step=2, run=""):
    digest = hash_bytes(run.encode(), content)
    file = folder / f"step_{step:09d}.state"
    file.write_bytes(f"grumo_jax training state 2 {digest} {run}\n".encode() + content)
    return file


def started(folder, identity=IDENTITY):
    """A run that has saved a state."""
    with open_run(folder, identity):
        save_state(folder / "checkpoints", 1, [4], STATE, run=run_seal(folder))
    return folder


def npy():
    file = io.BytesIO()
    np.save(file, STATE["weights"])
    return file.getvalue()


# --- run.json


@pytest.mark.usefixtures("small_networks")
def test_a_run_records_version_and_definitions_and_is_not_continued_with_others(
    tmp_path, monkeypatch
):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, should_stop=stop_after(1))
    recorded = json.loads((tmp_path / "run.json").read_text())
    assert recorded["grumo_jax"] == training.__version__
    assert recorded["definitions"] == {"training": 1, "metrics": training.METRIC_DEFINITIONS}
    with monkeypatch.context() as later:
        later.setattr(training, "__version__", "99")
        with pytest.raises(GrumoError, match=r'\(grumo_jax was ".*" and is now "99"\)'):
            run(tmp_path)
    monkeypatch.setattr(training, "DEFINITION", 2)
    with pytest.raises(GrumoError, match=r'definitions was .*"training": 1.* now .*"training": 2'):
        run(tmp_path)


def test_what_was_not_recorded_is_said(tmp_path):
    started(tmp_path)
    newer = {**IDENTITY, "teacher": None}
    with (
        pytest.raises(GrumoError, match=r"\(teacher was not recorded and is now null\)"),
        open_run(tmp_path, newer),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.replace('"seed": 0', '"seed": 1'), "changed since it was written"),
        (lambda x: x.replace('"seed": 0', '"seed": "0"'), "changed since it was written"),
        (lambda x: x.replace('"seed": 0', '"seed": NaN'), "damaged"),
        (lambda x: x.replace('"seed": 0', '"seed": 0, "seed": 0'), "damaged"),
        (lambda x: x.replace('"hue": 0.1,', ""), "changed since it was written"),
        (lambda x: x[:40], "damaged"),
        (lambda x: "[]", "damaged"),
        (lambda x: "[" * 10**5, "damaged"),
        (lambda x: "", "damaged"),
        (lambda x: json.dumps(IDENTITY), "written by another version of grumo_jax, which did not"),
    ],
)
def test_a_changed_description_is_refused(tmp_path, change, said):
    file = started(tmp_path) / "run.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(GrumoError, match=rf"run\.json: {said}"):
        read_settings(tmp_path)
    with pytest.raises(GrumoError, match=rf"run\.json: {said}"), open_run(tmp_path, IDENTITY):
        pass


@pytest.mark.parametrize(
    "change", [{"seed": "0"}, {"size": [10**9, -3]}, {"num_layers": None}, {"zoom": [1, 1, 1]}]
)
def test_forged_settings_are_named(tmp_path, change):
    started(tmp_path, {**IDENTITY, **change})
    with pytest.raises(GrumoError, match=rf"run\.json: the setting {next(iter(change))} is"):
        read_settings(tmp_path)


def test_other_line_ends_and_layouts_are_the_same_description(tmp_path):
    file = started(tmp_path) / "run.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_settings(tmp_path) == Settings()


# --- states


def test_states_of_another_run_are_not_taken(tmp_path):
    """A state that was copied here, or a description that was exchanged."""
    one, other = (
        started(tmp_path / name, {**IDENTITY, "seed": seed})
        for seed, name in enumerate(("one", "other"))
    )
    (one / "run.json").write_bytes((other / "run.json").read_bytes())
    with pytest.raises(CheckpointError, match="state of another run, or the run's description"):
        load_latest(one / "checkpoints", STATE, lambda _: None, run=run_seal(one))
    with pytest.raises(CheckpointError, match="state of another run"):
        latest_leaves(one / "checkpoints", run_seal(one))
    saved = load_latest(other / "checkpoints", STATE, lambda _: None, run=run_seal(other))
    assert (saved.step, saved.positions) == (1, (4,))


FORGED = {
    "NaN": ({"['weights']": np.full((2, 3), np.nan, np.float32)}, "weights.* no finite number"),
    "text": ({"['weights']": np.full((2, 3), "a")}, "weights.* no finite number"),
    "another type": ({"['weights']": np.ones((2, 3))}, "another network or optimiser"),
    "another size": ({"['weights']": np.ones(3, np.float32)}, "another network or optimiser"),
    "an entry too many": ({"more": np.ones(3)}, "another network or optimiser"),
    "no positions": ({"position": np.zeros(0, np.int64)}, "which samples were used"),
    "positions as text": ({"position": np.array(["8"])}, "position holds what is no finite"),
    "broken positions": ({"position": np.array([8.5])}, "which samples were used"),
    "negative positions": ({"position": np.array([-8])}, "-8 samples cannot have been used"),
    "a matrix of positions": ({"position": np.array([[8]])}, "which samples were used"),
    "objects": ({"['weights']": np.array([{}], object)}, "its arrays cannot be read"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_states_get_one_sentence(tmp_path, kind):
    arrays, said = FORGED[kind]
    forge_state(tmp_path, **arrays)
    with pytest.raises(CheckpointError, match=rf"step_000000002\.state: .*{said}"):
        load_latest(tmp_path, STATE, lambda _: None)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4" + bytes(90), npy()])
def test_what_is_no_archive_gets_one_sentence(tmp_path, content):
    file = forge(tmp_path, content)
    with pytest.raises(CheckpointError, match="its arrays cannot be read"):
        read_leaves(file)


def test_an_array_that_lies_about_its_size_is_refused(tmp_path):
    archive = io.BytesIO()
    np.savez(archive, **{"['weights']": STATE["weights"], "position": np.array([8])})
    lying = archive.getvalue().replace(b"(2, 3), }" + b" " * 8, b"(2, 30000000000), }"[:17])
    assert lying != archive.getvalue()
    with pytest.raises(CheckpointError, match="its arrays cannot be read"):
        read_leaves(forge(tmp_path, lying))


def test_states_of_another_step_or_beyond_the_last_are_refused(tmp_path):
    like = {"weights": STATE["weights"]}
    forge_state(tmp_path, step=9)
    with pytest.raises(CheckpointError, match="of another step than its name says"):
        load_latest(tmp_path, like, lambda _: None, steps=6)
    assert load_latest(tmp_path, like, lambda _: None, steps=9).step == 9


@pytest.mark.usefixtures("small_networks")
def test_a_renamed_or_diverged_state_falls_back(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path, should_stop=stop_after(3))
    first, second = list_states(tmp_path / "checkpoints")
    _, arrays = read_leaves(second)
    diverged = {**arrays, ".diverged": np.bool_(True)}
    content = io.BytesIO()
    np.savez(content, **diverged)
    forge(tmp_path / "checkpoints", content.getvalue(), 3, run_seal(tmp_path))
    first.rename(first.with_name("step_000000005.state"))
    with pytest.raises(CheckpointError, match="of a training that diverged"):
        run(tmp_path)


def test_states_of_before_versions_were_recorded_are_refused(tmp_path):
    (tmp_path / "step_000000002.state").write_bytes(b"grumo_jax training state 1 " + b"0" * 64)
    with pytest.raises(CheckpointError, match="written by another version of grumo_jax"):
        load_latest(tmp_path, STATE, lambda _: None)


# --- logs


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("step,loss\n1,0.1\n1,0.1\n2,0.2\n", 3),
        ("step,loss\n2,0.1\n1,0.1\n", 3),
        ("step,loss\n1,0.1\nabc\n2,0.2\n", 3),
        ("step,loss\n1,ten\n", 2),
        ("step,loss\n1,0.1,7\n", 2),
        ("step,loss\n\n1,0.1\n", 2),
        ("loss\n1\n", 2),
        ("\0\n\0\n", 2),
    ],
)
def test_a_line_that_is_no_row_of_a_log_is_named(tmp_path, text, number):
    file = tmp_path / "log.csv"
    file.write_text(text)
    with pytest.raises(GrumoError, match=rf"log\.csv: line {number} is no row of this log; move"):
        CsvLog(file, 9)
    assert file.read_text() == text
