"""Two processes on one machine evaluate and train together; one of them is killed."""

import csv
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from layouts import write_nyu
from PIL import Image
from processes import LIVES, Programs

import grumo_jax
from grumo_jax._internal import hosts
from grumo_jax._internal.hosts import exchange, join
from grumo_jax.errors import GrumoError
from grumo_jax.evaluation import read_results

IMAGES = 9
LOST = "grumo: another process of this run has ended or cannot be reached"
TRAINING = [
    *("--steps", "8", "--batch", "4", "--learning-rate", "1e-3", "--log-every", "1"),
    *("--save-every", "2", "--evaluate-every", "4", "--set", "size=32,64"),
    *("--set", "encoder_widths=4,4,4,8,8", "--set", "decoder_widths=4,4,4,4,4"),
    *("--set", "zoom=1,1", "--set", "rotation_degrees=0", "--set", "jitter=0"),
    *("--set", "statistics_batches=2"),
]


@pytest.fixture(scope="module")
def evaluation(tiny, tmp_path_factory):
    """`grumo evaluate` of a checkpoint on photos with depth, one of them damaged."""
    root = tmp_path_factory.mktemp("hosts")
    grumo_jax.save_checkpoint(root / "tiny", tiny[0].clone(input_size=(32, 64)), tiny[1])
    rng = np.random.default_rng(0)
    for kind in ("rgb", "depth"):
        (root / kind).mkdir()
    for i in range(IMAGES):
        pixels = rng.integers(0, 256, (40, 72, 3), np.uint8)
        Image.fromarray(pixels).save(root / "rgb" / f"{i}.png")
        np.save(root / "depth" / f"{i}.npy", rng.uniform(1, 30, (40, 72)))
    (root / "rgb" / "4.png").write_bytes(b"no photo")
    command = ["evaluate", root / "tiny", "--dataset", "folder", "--data-dir", root / "rgb"]
    command += ["--depth-dir", root / "depth", "--protocol", "median", "--estimator", "post"]
    return Programs(root, "grumo_jax.evaluation.evaluate.Run.rows", *command, "--pictures", "1")


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """`grumo train` of a tiny network."""
    pytest.importorskip("h5py", reason="h5py is not installed (extra: data)")
    root = tmp_path_factory.mktemp("nyu")
    # Those named 00001 are held out.
    write_nyu(root, [f"train/{room}/{i:05d}" for room in ("attic", "cellar") for i in range(1, 5)])
    command = ["train", "nyu", "--data-dir", root, *TRAINING]
    return Programs(root, "grumo_jax.training.loop.Loop._advance", *command)


@pytest.mark.soak
def test_killed_then_continued_is_what_one_process_gives(evaluation, tmp_path):
    evaluation.alone("--out", tmp_path / "alone")
    options = ("--out", tmp_path / "both")
    (first, out, err), (second, *_) = evaluation.together(*options, fates=(LIVES, (9, 3)))
    assert (first, second) == (2, -9)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(LOST)
    path = tmp_path / "both" / "results.jsonl"
    assert len(list(read_results(path).rows())) == 4, "two rounds of two"

    (first, out, err), (second, nothing, silent) = evaluation.together(*options)
    assert (first, second, nothing, silent) == (1, 0, "", "")
    assert "means over 8 of 9 images; 1 damaged" in out
    assert "4.png: damaged or no image" in err
    expected = read_results(tmp_path / "alone" / "results.jsonl").rows()
    for row, other in zip(read_results(path).rows(), expected, strict=True):
        assert (row["index"], row["id"]) == (other["index"], other["id"])
        if "estimators" in other:
            found, wanted = (r["estimators"]["post"]["ause"] for r in (row, other))
            assert found == pytest.approx(wanted, abs=1e-6)
    tables = [(tmp_path / name / "tables.md").read_text() for name in ("both", "alone")]
    assert tables[0] == tables[1]
    assert list((tmp_path / "both" / "pictures").glob("*.png"))


@pytest.mark.slow
def test_a_refused_file_ends_all_processes(evaluation, tmp_path):
    (tmp_path / "results.jsonl").write_text("no results\n")
    (first, _, err), (second, _, other) = evaluation.together("--out", tmp_path)
    assert first == 2
    assert "no results file of grumo_jax" in err
    # JAX itself ends the others when process 0 is gone, unless they notice before.
    assert second != 0
    assert "another process" in other or "another task died" in other


@pytest.mark.soak
def test_training_killed_and_stopped_and_continued_is_what_one_process_gives(training, tmp_path):
    alone = ("--out", tmp_path / "alone")
    assert training.alone(*alone, devices=2) == (0, f"saved to {tmp_path}/alone/model\n", "")
    both = ("--out", tmp_path / "both")
    states = tmp_path / "both" / "checkpoints"

    (first, out, err), (second, *_) = training.together(*both, fates=(LIVES, (9, 4)))
    assert (first, out, second) == (2, "", -9)
    assert err.startswith(LOST)
    assert max(states.iterdir()).name == "step_000000002.state"

    # One of them is asked to stop: all of them do, after the same step.
    (first, _, err), (second, *rest) = training.together(*both, fates=(LIVES, (signal.SIGTERM, 1)))
    assert (first, second, rest) == (143, 143, ["", ""])
    assert err.startswith("grumo: stopped after step 6 of 8")
    assert max(states.iterdir()).name == "step_000000006.state"

    (_, out, err), end = training.together(*both)
    assert (out, err, end) == (f"saved to {tmp_path}/both/model\n", "", (0, "", ""))
    for name in ("log.csv", "validation.csv"):
        tables = [read_table(tmp_path / run / name) for run in ("both", "alone")]
        np.testing.assert_allclose(*tables, rtol=1e-5)
    networks = [grumo_jax.load_checkpoint(tmp_path / run / "model")[1] for run in ("both", "alone")]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *networks)


def read_table(path):
    with path.open(newline="") as stream:
        rows = [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)
        ]
    return [[v for name, v in row.items() if name != "steps_per_second"] for row in rows]


@pytest.mark.parametrize(
    "place", ["here", "localhost:1,2/2", "localhost:99999,0/2", "localhost,0/2", "localhost:1,0"]
)
def test_mistakes_are_said(place):
    said = rf"--hosts {place}: expected auto, or ADDRESS:PORT,I/N with I from 0 to N - 1"
    with pytest.raises(GrumoError, match=said):
        join(place)


def test_another_run_is_refused(monkeypatch):
    others = [{"seed": 0, "grid": ["a"]}, {"seed": 7, "grid": ["a"]}]
    monkeypatch.setattr(hosts, "exchange", lambda run: others)
    with pytest.raises(
        GrumoError, match="process 1 was given another run than process 0, with another seed;"
    ):
        hosts.check_same(others[0])


def test_nobody_at_the_address(monkeypatch):
    monkeypatch.setattr(hosts, "START_SECONDS", 0)
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        place = f"localhost:{taken.getsockname()[1]},1/2"
        with pytest.raises(GrumoError, match=f"{place}: process 0 has not answered there for 0"):
            join(place)


@pytest.mark.slow
def test_the_others_do_not_come():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"localhost:{free.getsockname()[1]},0/2"
    program = (
        f"from grumo_jax._internal import hosts; hosts.START_SECONDS = 2; hosts.join({place!r})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    said = f"grumo: --hosts {place}: not all processes have come within 2 seconds; start every one"
    assert ended.returncode == 2
    assert f"{said} of them\n" in ended.stderr
    assert "Check failure" not in ended.stderr


def test_alone_there_is_nothing_to_exchange():
    assert exchange({"a": [1]}) == [{"a": [1]}]
