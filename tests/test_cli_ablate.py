"""`grumo ablate`: from a checkpoint and a folder to tables and heat maps, and its sentences."""

import csv
import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def command(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        for kind in ("rgb", "depth"):
            (tmp_path / kind).mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (40, 72, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "rgb" / f"{name}.png")
        np.save(tmp_path / "depth" / f"{name}.npy", rng.uniform(1, 30, (40, 72)))
    options = ["--dataset", "folder", "--data-dir", tmp_path / "rgb", "--protocol", "median"]
    options += ["--depth-dir", tmp_path / "depth", "--out", tmp_path / "out"]
    return ["ablate", checkpoint, *options]


@pytest.mark.slow
def test_from_a_folder_to_tables(grumo, command, tmp_path):
    options = ["--layer", "6", "--layer", "decoder/head_0", "--combine", "mean"]
    options += ["--reduction", "norm", "--reference", "flip", "--reference", "gray"]
    options += ["--loss", "squared", "--loss", "uncertainty", "--space", "log_depth"]
    options += ["--weight", "3", "--seed", "7", "--batch-size", "5"]
    code, out, err = grumo(*command, *options)
    assert (code, err) == (0, "")
    assert "Best 9 of 9 settings: tiny, folder/rgb" in out
    assert "all 9 settings: " in out
    with (tmp_path / "out" / "settings.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["signal"] for row in rows} == {"flip", "gray", "uncertainty"}
    layers = {"6 decoder/up_1_0/conv", "decoder/head_0", "together, mean"}
    assert {row["layer"] for row in rows} == layers
    assert {row["images"] for row in rows} == {"3"}
    files = {file.name for file in (tmp_path / "out").iterdir()}
    heat_maps = {"layers_signals.png", "layers_reductions.png"}
    assert files >= {"ablation.jsonl", "tables.md", "settings.csv", *heat_maps}
    before = (tmp_path / "out" / "ablation.jsonl").read_bytes()
    about = json.loads(before.splitlines()[0])["configuration"]
    assert (about["seed"], about["batch_size"]) == (7, 4), "three images on four devices"
    assert all("uncertainty_weight=3.0" in signal for signal in about["signals"].values())
    assert grumo(*command, *options)[0] == 0
    assert (tmp_path / "out" / "ablation.jsonl").read_bytes() == before
    code, _, err = grumo("report", tmp_path / "out" / "ablation.jsonl", "--out", tmp_path / "r")
    assert code == 2
    assert "an ablation, not an evaluation; `grumo ablate` writes its tables" in err


def test_no_other_results_are_overwritten(grumo, command, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.jsonl").write_text("of an evaluation")
    code, _, err = grumo(*command)
    assert code == 2
    assert "out: holds other results, results.jsonl; choose another folder" in err


@pytest.mark.slow
def test_a_preset_is_one_of_the_papers_tables(grumo, command, tmp_path):
    code, out, err = grumo(*command, "--preset", "multi-layer", "--limit", "2")
    assert (code, err) == (0, "")
    assert "Best 10 of 13 settings: tiny, folder/rgb" in out
    with (tmp_path / "out" / "settings.csv").open() as stream:
        layers = {row["layer"] for row in csv.DictReader(stream)}
    assert layers >= {"6 decoder/up_1_0/conv", "4, 6, 8, std", "all, max"}


@pytest.mark.slow
def test_damaged_images_are_named(grumo, command, tmp_path):
    (tmp_path / "rgb" / "b.png").write_bytes(b"no photo")
    few = ["--layer", "6", "--reduction", "max", "--reference", "flip", "--loss", "squared"]
    code, out, err = grumo(*command, *few, "--limit", "1")
    assert (code, "rgb, 1 of 3 images" in out) == (0, True)
    (tmp_path / "out" / "ablation.jsonl").unlink()
    code, out, err = grumo(*command, *few)
    assert code == 1
    assert "Means over 2 of 3 images; 1 damaged or failed." in out
    assert f"grumo: left out {tmp_path / 'rgb' / 'b.png'}: damaged or no image" in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--layer", "11"], "there is no decoder layer 11; the decoder's layers are 0 … 10"),
        (["--layer", "conv"], "there is no layer 'conv'"),
        (["--reference", "mirror"], "no reference 'mirror'; choose of flip, gray, noise, rotate,"),
        (["--reduction", "min"], "reduction is 'min'; it must be one of"),
        (["--loss", "l1"], "loss is 'l1'; it must be one of"),
        (["--space", "metres"], "space is 'metres'; it must be one of"),
        (["--combine", "sum"], "combine is 'sum'; it must be one of"),
        (["--preset", "table"], "preset is 'table'; it must be one of 'layers', 'reductions',"),
        (
            ["--preset", "layers", "--layer", "6", "--weight", "1"],
            "--preset makes all choices; leave out your own of layers, uncertainty_weights",
        ),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(grumo, command, tmp_path, options, sentence):
    code, out, err = grumo(*command, *options)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
