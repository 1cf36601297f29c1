"""`grumo evaluate`: from a checkpoint and a folder to a report, and its sentences."""

import json

import numpy as np
import pytest
from PIL import Image

import grumo_jax


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("rgb", "depth"):
        (tmp_path / kind).mkdir()
    for name in "abc":
        pixels = rng.integers(0, 256, (40, 72, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "rgb" / f"{name}.png")
        np.save(tmp_path / "depth" / f"{name}.npy", rng.uniform(1, 30, (40, 72)))
    return tmp_path


@pytest.mark.slow
def test_from_a_folder_to_a_report(grumo, checkpoint, data):
    (data / "rgb" / "b.png").write_bytes(b"no photo")
    command = ["evaluate", checkpoint, "--dataset", "folder", "--data-dir", data / "rgb"]
    command += ["--depth-dir", data / "depth", "--protocol", "median", "--out", data / "out"]
    command += ["--estimator", "post", "--base-model", "Tiny", "--batch-size", "1"]
    command += ["--pictures", "1"]
    code, out, err = grumo(*command)
    assert code == 1
    assert "means over 2 of 3 images; 1 damaged" in out
    assert f"grumo: left out {data / 'rgb' / 'b.png'}: damaged or no image" in err
    lines = (data / "out" / "results.jsonl").read_text().splitlines()
    header = json.loads(lines[0])["configuration"]
    assert header["base_model"] == "Tiny"
    assert header["checkpoint"].startswith("tiny (")
    assert list(header["estimators"]) == ["post", "post-depth", "depth", "row", "constant"]
    pictures = sorted((data / "out" / "pictures").glob("*.png"))
    assert [file.name for file in pictures] == ["000000.png", "000002.png"]
    assert "Tiny" in (data / "out" / "report.html").read_text()
    # Again: nothing is computed or drawn anew, nothing changes.
    before, kept = (data / "out" / "results.jsonl").read_bytes(), pictures[0].read_bytes()
    pictures[0].write_bytes(b"old")
    assert grumo(*command)[0] == 1
    assert (data / "out" / "results.jsonl").read_bytes() == before
    assert pictures[0].read_bytes() == b"old"
    code, _, err = grumo(*command, "--seed", "7")
    assert code == 2
    assert "seed was 0 and is now 7" in err
    # Pictures of another evaluation are not left to be taken for this one's.
    (data / "out" / "results.jsonl").unlink()
    assert grumo(*command, "--seed", "7")[0] == 1
    assert pictures[0].read_bytes() == kept


def test_depth_may_go_by_order_and_what_is_without_depth_is_said(grumo, small_checkpoint, data):
    for new, old in zip(("x0", "x1", "x2"), "abc", strict=True):
        (data / "depth" / f"{old}.npy").rename(data / "depth" / f"{new}.npy")
    np.save(data / "depth" / "x1.npy", np.full((40, 72), np.nan))
    command = ["evaluate", small_checkpoint, "--dataset", "folder", "--data-dir", data / "rgb"]
    command += ["--depth-dir", data / "depth", "--protocol", "median", "--out", data / "out"]
    command += ["--estimator", "post", "--no-baselines", "--pictures", "0"]
    code, _, err = grumo(*command)
    assert code == 2
    assert "rename them, or pair them by order (pair='order', --pair order)" in err
    code, out, err = grumo(*command, "--pair", "order")
    assert code == 0
    assert "means over 2 of 3 images; 1 without valid pixels" in out
    assert "grumo: 1 image not counted: no true depth within the protocol's range; is it in" in err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--depth-dir": None}, "a folder of photos needs its true depth: give --depth-dir"),
        ({"--split": "eigen"}, "a folder of photos has no splits"),
        ({"--dataset": "kitti"}, "--depth-dir is for --dataset folder; kitti has its own depth"),
        ({"--dataset": "nyu"}, "the protocol median is not for nyu; see --help"),
        ({"--data-dir": "nowhere"}, "nowhere: no such folder"),
        ({"--estimator": "guess"}, "there is no estimator 'guess'; choose one of grad,"),
        (
            {"--dataset": "kitti", "--depth-dir": None, "--pair": "order"},
            "--pair is for --dataset folder; kitti has its own depth",
        ),
        ({"--pair": "size"}, "pair is 'size'; expected 'name' or 'order'"),
        ({"--out": "file.txt"}, "file.txt: a file; --out names the folder for the results"),
    ],
)
def test_mistakes_get_one_sentence(grumo, small_checkpoint, data, monkeypatch, change, sentence):
    monkeypatch.chdir(data)
    (data / "file.txt").write_text("")
    options = {
        "--dataset": "folder",
        "--data-dir": "rgb",
        "--depth-dir": "depth",
        "--protocol": "median",
        "--estimator": "post",
        **change,
    }
    given = [part for pair in options.items() if pair[1] is not None for part in pair]
    code, out, err = grumo("evaluate", small_checkpoint, *given)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_an_ensemble_needs_one_network(grumo, checkpoint, tiny, data):
    other = data / "other"
    model = tiny[0].clone(input_size=(64, 64))
    grumo_jax.save_checkpoint(other, model, tiny[1])
    command = ["--dataset", "folder", "--data-dir", data / "rgb", "--depth-dir", data / "depth"]
    command += ["--protocol", "median", "--out", data / "out"]
    code, _, err = grumo("evaluate", checkpoint, other, *command)
    assert code == 2
    assert f"{other}: another network than {checkpoint}; an ensemble is of one network" in err
    code, _, err = grumo("evaluate", checkpoint, checkpoint, *command, "--estimator", "post")
    assert "several checkpoints are evaluated as one ensemble" in err
