"""Several processes on one machine evaluate together; one of them is killed."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import grumo_jax
from grumo_jax.errors import GrumoError
from grumo_jax.evaluation import read_results
from grumo_jax.hosts import exchange, join

GRUMO = """
import os, sys
from grumo_jax.cli import main
from grumo_jax.evaluation.evaluate import Run

rows, calls = Run.rows, []

def killed(self, items):
    calls.append(items)
    if len(calls) > 2:
        os.kill(os.getpid(), 9)
    return rows(self, items)

if sys.argv.pop(1) == "killed":
    Run.rows = killed
main()
"""
IMAGES = 9


@pytest.fixture(scope="module")
def data(tiny, tmp_path_factory):
    """A checkpoint and a folder of photos with depth, one of them damaged."""
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
    return root


def start(data, out, *options, fate="lives"):
    """One process of `grumo evaluate`."""
    command = [sys.executable, "-c", GRUMO, fate, "evaluate", data / "tiny", "--out", out]
    command += ["--dataset", "folder", "--data-dir", data / "rgb", "--depth-dir", data / "depth"]
    command += ["--protocol", "median", "--estimator", "post", "--pictures", "1", *options]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*map(str, command)], env=environment, stdout=pipe, stderr=pipe, text=True
    )


def together(data, out, fates):
    """Two processes: [(status, stdout, stderr)]."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    running = [
        start(data, out, "--hosts", f"{address},{i}/2", fate=fate) for i, fate in enumerate(fates)
    ]
    said = [process.communicate(timeout=300) for process in running]
    # Gloo announces itself on standard output.
    own = [
        "".join(line for line in out.splitlines(keepends=True) if not line.startswith("[Gloo]"))
        for out, _ in said
    ]
    return [
        (process.returncode, out, err)
        for process, out, (_, err) in zip(running, own, said, strict=True)
    ]


def test_killed_then_continued_is_what_one_process_gives(data, tmp_path):
    start(data, tmp_path / "alone").communicate(timeout=300)
    (first, out, err), (second, *_) = together(data, tmp_path / "both", ("lives", "killed"))
    assert (first, second) == (2, -9)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("grumo: another process of this run has ended or cannot be reached")
    path = tmp_path / "both" / "results.jsonl"
    assert len(list(read_results(path).rows())) == 4, "two rounds of two"

    (first, out, err), (second, nothing, silent) = together(
        data, tmp_path / "both", ("lives", "lives")
    )
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


def test_a_refused_file_ends_all_processes(data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.jsonl").write_text("no results\n")
    (first, _, err), (second, _, other) = together(data, tmp_path / "out", ("lives", "lives"))
    assert first == 2
    assert "no results file of grumo_jax" in err
    # JAX itself ends the others when process 0 is gone, unless they notice before.
    assert second != 0
    assert "another process" in other or "another task died" in other


@pytest.mark.parametrize("hosts", ["here", "localhost:1,2/2", "localhost,0/2", "localhost:1,0"])
def test_mistakes_are_said(hosts):
    said = rf"--hosts {hosts}: expected auto, or ADDRESS:PORT,I/N with I from 0 to N - 1"
    with pytest.raises(GrumoError, match=said):
        join(hosts)


def test_alone_there_is_nothing_to_exchange():
    assert exchange({"a": [1]}) == [{"a": [1]}]
