"""`grumo train`: the installed program, killed and resumed, and its sentences."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from layouts import write_nyu

import grumo_jax
from grumo_jax.cli.train import stop_on_signals

pytest.importorskip("h5py", reason="h5py is not installed (extra: data)")
GRUMO = Path(sys.executable).with_name("grumo")
SMALL = {
    "size": "32,64",
    "encoder_widths": "4,4,4,8,8",
    "decoder_widths": "4,4,4,4,4",
    "zoom": "1,1",
    "rotation_degrees": "0",
    "jitter": "0",
}
OPTIONS = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
OPTIONS += ["--steps", "60", "--batch", "4", "--learning-rate", "1e-3", "--no-validate"]
OPTIONS += ["--log-every", "1", "--save-every", "10"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu")
    write_nyu(folder, [f"train/attic/{i:05d}" for i in range(2, 8)])
    return folder


@pytest.fixture
def start(data, tmp_path):
    """Function: start the installed program on a run's folder below tmp_path."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run(name):
        command = [GRUMO, "train", "nyu", "--data-dir", data, "--out", tmp_path / name, *OPTIONS]
        return subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **cache},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


def wait_for_state_after(folder, process, step):
    """Wait until a state later than `step` is saved, and return its step."""
    for _ in range(12000):
        steps = [int(f.stem.split("_")[1]) for f in (folder / "checkpoints").glob("step_*.state")]
        if steps and max(steps) > step:
            return max(steps)
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("no state was saved in two minutes")


def rows(folder):
    with (folder / "log.csv").open(newline="") as stream:
        return [{**row, "steps_per_second": None} for row in csv.DictReader(stream)]


@pytest.mark.soak
def test_killed_terminated_and_resumed_runs_end_the_same(start, tmp_path):
    whole = start("whole")
    out, err = whole.communicate()
    assert (whole.returncode, err) == (0, "")
    assert out == f"saved to {tmp_path}/whole/model\n"
    parts = tmp_path / "parts"

    killed = start("parts")
    saved = wait_for_state_after(parts, killed, 0)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL

    stopped = start("parts")
    wait_for_state_after(parts, stopped, saved)
    stopped.send_signal(signal.SIGTERM)
    _, err = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM
    assert err.startswith("grumo: stopped after step ")
    assert "give the same command again to resume" in err
    assert len(err.splitlines()) == 1

    resumed = start("parts")
    _, err = resumed.communicate()
    assert (resumed.returncode, err) == (0, "")
    assert [row["step"] for row in rows(parts)] == [str(i) for i in range(1, 61)]
    assert rows(parts) == rows(tmp_path / "whole")
    states = [f / "checkpoints" / "step_000000060.state" for f in (parts, tmp_path / "whole")]
    assert states[0].read_bytes() == states[1].read_bytes()
    losses = [float(row["loss"]) for row in rows(parts)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    model, variables = grumo_jax.load_checkpoint(parts / "model")
    assert model.input_size == (32, 64)
    depth = model.apply(variables, np.zeros((1, 32, 64, 3), np.float32)).depth
    assert np.isfinite(depth).all()
    jax.tree.map(
        np.testing.assert_array_equal,
        variables,
        grumo_jax.load_checkpoint(tmp_path / "whole" / "model")[1],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kitti",), "there is no preset 'kitti'; there are: kitti-mono, kitti-stereo"),
        (("nyu", "--set", "lr=1"), "there is no setting 'lr'; there are: supervision"),
        (("nyu", "--set", "seed"), "'seed' is no setting; expected name=value"),
        (("nyu", "--set", "flip=2"), "the setting flip is 2.0; expected 0 to 1"),
        (("nyu", "--batch", "0"), "the setting batch_size is 0; expected more than 0"),
        (("nyu", "--base-model", "self"), "name it: --teacher"),
        (("nyu", "--teacher", "{data}"), "only self has one"),
        (("nyu", "--init", "nowhere"), "nowhere: no such directory"),
        (("nyu", "--encoder", "nowhere.pth"), "nowhere.pth: no such file"),
        (("nyu", "--save-every", "0"), "save_every is 0; expected 1 or more"),
        (("nyu", "--base-model", "boot", "--members", "1"), "train 2 members or more"),
        (("nyu", "--set", "base_model=boot", "--members", "1"), "train 2 members or more"),
        (("nyu", "--members", "3"), "--members is for the base model boot, not plain"),
        (("nyu", "--base-model", "snap", "--steps", "3"), "3 steps are too few for 20 cycles"),
        (("nyu", "--set", "train_split=none"), "train_split is None; expected a name"),
        (("kitti-mono",), "--split-files"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_sentence(grumo, data, tmp_path, arguments, message):
    filled = [a.format(data=data) for a in arguments]
    code, _, err = grumo(
        "train", *filled, "--data-dir", data, "--out", tmp_path / "run", "--no-validate"
    )
    assert code == 2
    assert err.startswith("grumo: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_second_signal_ends_the_program(request):
    # Shells start programs in the background with Ctrl-C ignored.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, outside))
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_synthetic_world_is_rendered_once(grumo, tmp_path, monkeypatch):
    from grumo_jax.data import prepared

    asked, found = [], [None, tmp_path]
    monkeypatch.setattr(prepared, "prepare", lambda *args, **_: asked.append(args))
    monkeypatch.setattr(prepared, "find_prepared", lambda *_: found.pop(0))
    command = ("train", "synthetic-depth", "--data-dir", tmp_path, "--out", tmp_path / "run")
    for _ in range(2):
        # Ends at a mistake that is noticed after the data were opened.
        assert grumo(*command, "--save-every", "0")[0] == 2
    assert asked == [("synthetic", "street", tmp_path, tmp_path / "prepared")]
    assert grumo(*command, "--save-every", "0", "--no-render")[0] == 2
    assert found == []


def test_several_processes_do_not_render(grumo, tmp_path, monkeypatch):
    # As an attribute of the package, it is the command.
    module = sys.modules["grumo_jax.cli.train"]
    monkeypatch.setattr(module, "join", lambda hosts: None)
    command = ("train", "synthetic-depth", "--data-dir", tmp_path, "--out", tmp_path / "run")
    status, _, err = grumo(*command, "--hosts", "auto")
    assert status == 2
    assert f"first give: grumo prepare synthetic --data-dir {tmp_path} --split street" in err


def test_other_commands_do_not_need_the_extra():
    names = "{'grumo_jax.training', 'tensorboardX'}"
    code = f"import sys, grumo_jax.cli; print({names} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
