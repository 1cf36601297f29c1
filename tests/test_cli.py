"""The installed command-line program."""

import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from golden.weights import draw_states
from helpers import need_shared
from PIL import Image

import grumo_jax
from grumo_jax.cli import export, main, predict
from grumo_jax.cli.measuring import MeasuringOptions
from grumo_jax.cli.options import check_out
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import GradientUncertainty, named_estimator
from grumo_jax.predictor import Predictor

GRUMO = Path(sys.executable).with_name("grumo")


def installed_grumo(*arguments, cwd=None):
    return subprocess.run(
        [GRUMO, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in {"a.png": (40, 60), "more/b.jpg": (33, 100)}.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / name)
    return folder


def test_help_teaches(monkeypatch, capsys):
    result = installed_grumo("--help")
    assert result.returncode == 0
    commands = ("demo", "train", "predict", "convert", "layers", "prepare", "evaluate", "report")
    for command in commands:
        assert command in result.stdout
        monkeypatch.setattr(sys, "argv", ["grumo", command, "--help"])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        assert len(capsys.readouterr().out) > 300


def test_the_version_is_one_everywhere(grumo):
    assert grumo("--version") == (0, f"grumo {grumo_jax.__version__}\n", "")
    root = Path(__file__).parents[1]
    assert f"version: {grumo_jax.__version__}\n" in (root / "CITATION.cff").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "grumo_jax/version.py"


@pytest.fixture(scope="module")
def broken_checkpoint(small_checkpoint):
    """The small network with weights that are NaN."""
    model, variables = grumo_jax.load_checkpoint(small_checkpoint)
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), variables)
    folder = small_checkpoint.with_name("broken")
    grumo_jax.save_checkpoint(folder, model, broken)
    return folder


@pytest.mark.filterwarnings("ignore::grumo_jax.errors.GrumoWarning")
def test_weights_of_nan_are_said_and_nothing_is_written(grumo, broken_checkpoint, photos, tmp_path):
    out = tmp_path / "out"
    options = ("--estimator", "post", "--format", "png", "--format", "npy")
    status, said, err = grumo("predict", broken_checkpoint, photos, "--out", out, *options)
    assert status == 1
    assert said.startswith("0 of 2 photos done")
    for name in ("a.png", "more/b.jpg"):
        assert f"grumo: skipped {photos / name}: depth or uncertainty of post is not finite" in err
    assert not list(tmp_path.glob("out/**/*.*"))


def test_photos_without_depth_are_skipped(grumo, small_checkpoint, photos, tmp_path, monkeypatch):
    whole = Predictor.predict

    def predict(self, given, key):
        for prediction, change in zip(whole(self, given, key), (-1, 1), strict=False):
            yield dataclasses.replace(prediction, depth=change * prediction.depth)

    monkeypatch.setattr(Predictor, "predict", predict)
    out = tmp_path / "out"
    options = ("--estimator", "post", "--format", "npy", "--batch-size", 2, "--out", out)
    status, said, err = grumo("predict", small_checkpoint, photos, *options)
    assert (status, said[:18]) == (1, "1 of 2 photos done")
    assert f"skipped {photos / 'a.png'}: the predicted depth is nowhere more than 0" in err
    assert [file.name for file in out.rglob("*_depth.npy")] == ["b_depth.npy"]


def test_the_papers_recipe_is_the_default_of_every_command():
    for command in (predict, export):
        assert inspect.signature(command).parameters["estimator"].default == "grad"
    assert importlib.import_module("grumo_jax.cli.demo").ESTIMATOR == "grad"
    assert named_estimator("grad", "model") == GradientUncertainty.paper("model")


@pytest.mark.slow
def test_predict_writes_every_format(checkpoint, photos, tmp_path):
    formats = [part for name in ("npz", "npy", "png", "panel") for part in ("--format", name)]
    result = installed_grumo("predict", checkpoint, photos, "--out", tmp_path / "out", *formats)
    assert result.returncode == 0, result.stderr
    assert "2 of 2 photos done" in result.stdout
    assert result.stderr == ""
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    endings = (".npz", "_depth.npy", "_uncertainty.npy", "_depth.png", "_uncertainty.png")
    assert written == {f"{name}{e}" for name in ("a", "more/b") for e in (*endings, "_panel.png")}
    with np.load(tmp_path / "out" / "a.npz") as maps:
        assert {name: maps[name].shape for name in maps} == dict.fromkeys(
            ("depth", "uncertainty", "raw"), (40, 60)
        )
        stored = np.asarray(Image.open(tmp_path / "out" / "a_depth.png"))
        np.testing.assert_allclose(stored / 256, maps["depth"], atol=1 / 256)


def test_unreadable_photos_are_skipped_and_the_status_says_so(
    grumo, small_checkpoint, photos, tmp_path
):
    (photos / "broken.jpg").write_bytes(b"not an image")
    out = tmp_path / "out"
    options = ("--format", "npz", "--estimator", "in-drop", "--batch-size", "2")
    status, said, err = grumo("predict", small_checkpoint, photos, "--out", out, *options)
    assert status == 1
    assert "2 of 3 photos done" in said
    assert err.strip() == f"grumo: skipped {photos}/broken.jpg: damaged or no image"
    assert (out / "a.npz").exists()
    assert (out / "more" / "b.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "nowhere", "."), "nowhere: no such directory"),
        (("predict", "{checkpoint}", "nothing.jpg"), "nothing.jpg: no such file or folder"),
        (("predict", "{checkpoint}", "{photos}", "--estimator", "gard"), "no estimator 'gard'"),
        (("predict", "{checkpoint}", "{photos}", "--layer", "up"), "there is no layer 'up'"),
        (
            ("predict", "{checkpoint}", "{photos}", "--estimator", "post", "--layer", "up"),
            "--layer is for grad",
        ),
        (
            ("predict", "{checkpoint}", "{photos}", "--out", "{photos}/a.png"),
            "a.png: a file; --out names the folder",
        ),
        (
            ("predict", "{checkpoint}", "{photos}", "--out", "{photos}/a.png/maps"),
            "a.png: a file; --out names the folder",
        ),
        (("predict", "{monodepth2}", "{photos}", "--size", "50", "60"), "multiples of 32"),
        (("layers", "{photos}"), "no checkpoint of grumo_jax"),
        (("convert", "nowhere", "out"), "nowhere: not a directory"),
        (("convert", "{photos}", "out"), "encoder.pth: no such file"),
    ],
)
def test_mistakes_end_in_one_sentence(
    grumo, checkpoint, small_checkpoint, photos, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    paths = {"checkpoint": small_checkpoint, "monodepth2": checkpoint, "photos": photos}
    status, _, err = grumo(*(argument.format(**paths) for argument in arguments))
    assert status == 2
    assert err.startswith("grumo: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "predictions").exists()


def test_a_folder_that_cannot_be_written_to_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(GrumoError, match=f"{tmp_path}: no permission to write there; name"):
        check_out(tmp_path / "new" / "results")


def test_layers(grumo, checkpoint):
    _, said, _ = grumo("layers", checkpoint)
    lines = said.splitlines()
    assert len(lines) == 12
    assert lines[7].split() == ["6", "decoder/up_1_0/conv", "ReflectionConv", "8×16×4", "float32"]
    assert "encoder/layer1/block0/conv1" in grumo("layers", checkpoint, "--all")[1]


@pytest.mark.slow
def test_convert_then_predict(photos, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    encoder, decoder = draw_states(10, uncertainty=True)
    (tmp_path / "weights").mkdir()
    sizes = {"height": 64, "width": 96}
    for name, state in {"encoder.pth": encoder | sizes, "depth.pth": decoder}.items():
        tensors = {k: torch.as_tensor(v) if k not in sizes else v for k, v in state.items()}
        torch.save(tensors, tmp_path / "weights" / name)
    result = installed_grumo("convert", tmp_path / "weights", tmp_path / "network")
    assert result.returncode == 0, result.stderr
    assert "ResNet-18, disparity and uncertainty, 64×96, 14.3 M parameters" in result.stdout
    options = ("--estimator", "grad", "--format", "npz")
    predicted = installed_grumo(
        "predict", tmp_path / "network", photos / "a.png", *options, cwd=tmp_path
    )
    assert predicted.returncode == 0, predicted.stderr
    assert (tmp_path / "predictions" / "a.npz").exists()
    again = installed_grumo("convert", tmp_path / "weights", tmp_path / "network")
    assert again.returncode == 2
    assert "already exists" in again.stderr


@pytest.mark.slow
def test_real_photo(checkpoint, tmp_path):
    photo = need_shared("real", "nyu_pairs", "rgb", "rgb_00050.jpg")
    result = installed_grumo("predict", checkpoint, photo, "--out", tmp_path, "--estimator", "var")
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / "rgb_00050_panel.png") as panel:
        assert panel.width > 1000


def test_importing_the_package_does_no_work():
    code = "import sys, grumo_jax; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("command", ["evaluate", "ablate"])
def test_options_of_measuring_are_those_of_both_commands(grumo, command):
    code, out, _ = grumo(command, "--help")
    assert code == 0
    named = re.findall(r"^  --([\w-]+)", out.partition("Options:")[2], re.MULTILINE)
    shared = [field.name.replace("_", "-") for field in dataclasses.fields(MeasuringOptions)]
    assert [name for name in named if name in shared] == shared
    # What must be given stands first.
    assert named[:3] == ["dataset", "data-dir", "protocol"]
