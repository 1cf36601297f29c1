"""The experiments on single activations and pixels, on a small picture."""

import importlib
import sys

import numpy as np
import pytest
from PIL import Image

import grumo_jax


@pytest.fixture
def run(tiny, tmp_path, monkeypatch, capsys):
    """Function experiment, options → (status, stderr); a tiny network on a tiny street."""
    folder = tmp_path / "tiny"
    grumo_jax.save_checkpoint(folder, tiny[0].clone(input_size=(32, 64)), tiny[1])

    def run(name, *options):
        arguments = ["--checkpoint", str(folder), "--out", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", [f"experiments/{name}.py", *arguments])
        status = 0
        try:
            importlib.import_module(name).main()
        except SystemExit as ended:
            status = ended.code
        return status, capsys.readouterr().err

    return run


@pytest.mark.soak
def test_locations(run, tmp_path):
    assert run("ablate_locations", "--layer", "2", "--patch", "1") == (0, "")
    with Image.open(tmp_path / "ablate_locations.png") as picture:
        assert min(picture.size) > 300
    effects = np.load(tmp_path / "ablate_locations.npz")
    replacements = ("zero", "mean", "noise", "reference")
    names = {f"{r}_{e}" for r in replacements for e in ("depth", "uncertainty", "error")}
    assert set(effects) == names
    assert all(e.shape == (2, 4) and np.isfinite(e).all() for e in effects.values())
    assert (effects["zero_depth"] > 0).all()


@pytest.mark.soak
def test_influence(run, tmp_path):
    assert run("influence", "--layers", "6", "8", "--step", "16") == (0, "")
    with Image.open(tmp_path / "influence.png") as picture:
        assert min(picture.size) > 300


def test_mistakes_get_one_sentence(run):
    said = "there is no decoder layer 11; the decoder's layers are 0 … 10\n"
    assert run("ablate_locations", "--layer", "11") == (2, said)
    assert run("influence", "--street", "-1")[0] == 2
