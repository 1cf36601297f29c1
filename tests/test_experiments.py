"""The experiments, end to end on small generated data."""

import ast
import csv
import dataclasses
import functools
import importlib
import re
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import grumo_jax
from grumo_jax.data import Part
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import named_estimator
from grumo_jax.evaluation import read_results
from grumo_jax.report import Summary
from grumo_jax.synthetic.source import SyntheticWorld
from grumo_jax.training.state import Networks

FOLDER = Path(__file__).parents[1] / "experiments"
FILES = sorted(f for f in FOLDER.glob("*.py") if '__name__ == "__main__"' in f.read_text())
BASELINES = {"post-depth", "depth", "row", "constant"}


@pytest.fixture(scope="module")
def checkpoints(tiny, tmp_path_factory):
    """A folder with a small network, under the name of the one that comes along and of others."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = tiny[0].clone(input_size=(32, 64))
    grumo_jax.save_checkpoint(folder / "synthetic", model, tiny[1])
    for name in ("Self", "Boot_0", "Boot_1", "Boot_10"):
        shutil.copytree(folder / "synthetic", folder / name)
    return folder


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


@pytest.fixture
def experiment(checkpoints, generated, monkeypatch):
    """Function: run an experiment with a small network, on small generated pictures."""
    monkeypatch.syspath_prepend(str(FOLDER))
    common = importlib.import_module("common")
    monkeypatch.setattr(common, "shipped_checkpoint", lambda name: checkpoints / name)
    small = functools.partial(common.write_kitti, size=(96, 320))
    monkeypatch.setattr(common, "write_kitti", small)
    one_device = functools.partial(common.evaluate, devices=jax.devices()[:1])
    monkeypatch.setattr(common, "evaluate", one_device)

    def run(name, out, *arguments, only=None):
        if only:
            # Each estimator takes seconds to compile.
            monkeypatch.setattr(common, "methods", functools.partial(estimators_of, only))
        if generated.joinpath("kitti_2").exists():
            shutil.copytree(generated, out / "generated", dirs_exist_ok=True)
        arguments = [*map(str, arguments), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [f"experiments/{name}.py", *arguments])
        common.run(importlib.import_module(name).EXPERIMENT)
        if out.joinpath("generated").exists():
            shutil.copytree(out / "generated", generated, dirs_exist_ok=True)

    return run


def estimators_of(names, base_model, model):
    return {name: named_estimator(name, model) for name in names}


def rows(file):
    with file.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.soak
def test_main_table_on_generated_data(experiment, tmp_path, capsys):
    experiment("kitti_mono", tmp_path, "--generated", "--limit", "2", only=("learned", "grad"))
    text = (tmp_path / "experiment.md").read_text()
    assert text in capsys.readouterr().out
    assert text.startswith("# Main KITTI table")
    assert "Command: `experiments/kitti_mono.py --generated --limit 2" in text
    assert "generated data in place of kitti/eigen_benchmark, protocol kitti-mono" in text
    assert "synthetic: synthetic (" in text
    assert "2 of 2 images" in text
    assert "Difference to grad" in text
    assert "Not all of the official data and weights" in text
    names = {row["estimator"] for row in rows(tmp_path / "main.csv")}
    assert names == {"learned", "grad"} | BASELINES
    for name in ("settings.png", "curves.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 200
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_checkpoints_are_found_by_base_model(experiment, checkpoints, tmp_path):
    common = sys.modules["common"]
    module = importlib.import_module("kitti_stereo")
    options = common.parse(
        module.EXPERIMENT, ["--data-dir", str(tmp_path), "--checkpoints", str(checkpoints)]
    )
    found, missing = common.find_networks(options)
    assert {name: [p.name for p in paths] for name, paths in found.items()} == {
        "Self": ["Self"],
        "Boot": ["Boot_0", "Boot_1", "Boot_10"],
    }
    assert missing == ["Post", "Log", "Drop"]
    model, variables = common.load_members(found["Boot"])
    assert list(common.with_baselines({}, model, 3)) == ["ensemble"]
    assert variables["params"]["encoder"]["conv1"]["kernel"].shape[0] == 3
    options.checkpoints = tmp_path
    with pytest.raises(GrumoError, match="no checkpoint called Post, Log, Self, Drop or Boot_0"):
        common.find_networks(options)


@pytest.fixture
def runs(tiny, tmp_path):
    """What train_synthetic.py leaves: two trainings of Post, and snapshots of one."""
    model = tiny[0].clone(input_size=(32, 64))
    folder = tmp_path / "runs"
    names = ("Post_0/model", "Post_1/model", "Snap_0/snapshot_9", "Snap_0/snapshot_10")
    for i, name in enumerate(names):
        variables = jax.tree.map(lambda x, i=i: x * (1 + 0.05 * i), tiny[1])
        grumo_jax.save_checkpoint(folder / name, model, variables)
    return folder


@pytest.mark.soak
def test_leaderboard(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("synthetic")
    small = SyntheticWorld("street/test", size=(32, 64), number=2)
    monkeypatch.setattr(module, "open_prepared", lambda *arguments: small)
    monkeypatch.setattr(
        module, "methods", lambda name, model: {"post": named_estimator("post", model)}
    )
    # Each estimator takes seconds to compile.
    monkeypatch.setattr(sys.modules["common"], "BASELINES", ("row",))
    one_device = functools.partial(module.evaluate, devices=jax.devices()[:1])
    monkeypatch.setattr(module, "evaluate", one_device)
    out = tmp_path / "out"
    arguments = ["--data-dir", str(tmp_path), "--runs", str(runs), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["experiments/synthetic.py", *arguments])
    module.main()
    assert (out / "leaderboard.md").read_text().strip() in capsys.readouterr().out
    found = {(row["base model"], row["estimator"]): row for row in rows(out / "leaderboard.csv")}
    assert {name for name, _ in found} == {"Post", "Boot", "Snap"}
    post = found["Post", "post"]
    assert post["trainings"] == "2"
    both = [read_results(out / f"Post_{seed}" / "results.jsonl").rows() for seed in (0, 1)]
    ause = [
        np.mean([row["estimators"]["post"]["ause"]["abs_rel"] for row in results])
        for results in both
    ]
    assert float(post["AUSE"]) == pytest.approx(np.mean(ause), rel=1e-5)
    assert float(post["AUSE sd"]) == pytest.approx(np.std(ause, ddof=1), rel=1e-3)
    assert found["Snap", "ensemble"]["AUSE sd"] == ""
    assert float(found["Snap", "ensemble"]["shadow AUSE"]) >= 0
    for name in ("leaderboard.png", "report.html"):
        assert (out / name).stat().st_size > 10_000


@pytest.mark.slow
def test_settings_of_grad_on_the_synthetic_world(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("synthetic_settings")
    small = SyntheticWorld("street/test", size=(32, 64), number=2)
    monkeypatch.setattr(sys.modules["synthetic"], "open_prepared", lambda *arguments: small)
    every = module.settings

    def few(model, variables):
        found = every(model, variables)
        # Eleven layers, of which the papers' is the seventh.
        assert sum(name.startswith("layer ") for name in found) == 11
        return {name: found[name] for name in ("papers", "without log σ", "layer 6")}

    monkeypatch.setattr(module, "settings", few)
    monkeypatch.setattr(module, "BASELINES", ("row",))
    one_device = functools.partial(module.evaluate, devices=jax.devices()[:1])
    monkeypatch.setattr(module, "evaluate", one_device)
    checkpoint, out = runs / "Post_0" / "model", tmp_path / "out"
    arguments = [str(checkpoint), "--data-dir", str(tmp_path), "--limit", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["experiments/synthetic_settings.py", *arguments])
    module.main()
    text = (out / "settings.md").read_text()
    assert text.startswith("**Settings of Grad, Post_0; clips: 1**")
    assert text in capsys.readouterr().out
    found = {row["setting"]: row for row in rows(out / "settings.csv")}
    assert list(found) == ["papers", "without log σ", "layer 6", "row"]
    assert found["layer 6"]["AUSE"] == found["without log σ"]["AUSE"] != found["papers"]["AUSE"]
    monkeypatch.setattr(sys, "argv", [*sys.argv[:5], "0"])
    with pytest.raises(SystemExit):
        module.main()
    assert capsys.readouterr().err == "the limit is 0; expected 1 or more\n"


def test_each_method_has_one_colour_in_all_panels(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("synthetic")
    found = module._colors(["post", "grad", "row", "learned", "grad", "depth", "row"])
    assert found == {"post": "C0", "grad": "C1", "learned": "C2", "row": "0.3", "depth": "0.5"}


def test_base_models_start_from_the_base_of_their_seed(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("train_synthetic")
    runs = module.all_runs(2)
    assert len(runs) == 14
    assert runs[:3] == ["Base_0", "Base_1", "Post_0"]
    for run in runs:
        settings, weights = module.settings_of(run, 400), module.weights_of(run, Path("runs"))
        name, seed = run.split("_")
        assert settings.seed == int(seed)
        assert settings.steps == (400 if name == "Base" else 100)
        assert weights.init == (None if name == "Base" else Path(f"runs/Base_{seed}/model"))
        assert weights.teacher == (Path(f"runs/Post_{seed}/model") if name == "Self" else None)


def test_entries_are_found_by_their_whole_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("synthetic")
    for name in ("Post_0/model", "Post_10/model", "Post_2/model", "Post_0_old/model", "Log_1"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("snapshot_9", "snapshot_10", "snapshot_10.partial"):
        (tmp_path / "Snap_3" / name).mkdir(parents=True)
    found = {entry.folder: entry.checkpoints for entry in module.find_entries(tmp_path)}
    assert list(found) == ["Post_0", "Post_2", "Post_10", "Boot_0_of_3", "Snap_3"]
    assert [c.parent.name for c in found["Boot_0_of_3"]] == ["Post_0", "Post_2", "Post_10"]
    assert [c.name for c in found["Snap_3"]] == ["snapshot_9", "snapshot_10"]
    # With ensembles alone there is nothing to draw.
    ensemble = type("S", (), {"estimators": {"ensemble": None}})
    module.draw({"Snap": [ensemble]}, tmp_path / "leaderboard.png")
    assert not (tmp_path / "leaderboard.png").exists()


def test_unknown_trainings_are_named(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("train_synthetic")
    arguments = ["--data-dir", "world", "--out", "runs", "--only", "Log_0", "Foo_0"]
    monkeypatch.setattr(sys, "argv", ["experiments/train_synthetic.py", *arguments])
    with pytest.raises(SystemExit):
        module.main()
    assert "--only Foo_0: expected names such as" in capsys.readouterr().err


def test_nothing_trained_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("synthetic")
    arguments = ["--data-dir", str(tmp_path), "--runs", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["experiments/synthetic.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 2
    assert "no trained network; experiments/train_synthetic.py writes" in capsys.readouterr().err


def test_base_models_have_the_papers_methods(experiment):
    post_hoc = ["var", "in-drop", "grad", "grad-averaged"]
    methods = sys.modules["common"].methods
    learned = grumo_jax.Monodepth2(predict_uncertainty=True)
    assert list(methods("Post", grumo_jax.Monodepth2())) == ["post", *post_hoc]
    assert list(methods("Log", learned)) == ["learned", *post_hoc]
    assert list(methods("Drop", grumo_jax.Monodepth2(dropout_rate=0.2))) == ["drop"]


def test_published_numbers_stand_only_beside_official_ones(experiment, tmp_path):
    common = sys.modules["common"]
    module = importlib.import_module("kitti_mono").EXPERIMENT
    official = ["--data-dir", str(tmp_path), "--checkpoints", str(tmp_path), "--official"]
    whole = Summary(Path("r"), {"images": 1, "base_model": "Post"}, 1, {}, (), (), ())
    for more, expected in (
        ([], True),
        (["--split", "eigen_benchmark"], True),
        (["--limit", "5"], False),
        (["--split", "eigen"], False),
    ):
        options = common.parse(module, official + more)
        assert common.choose_protocol(module, options).through_png16
        assert bool(common.choose_published(module, options, [whole])) is expected
    options = common.parse(module, official)
    for changes in (
        {"rows": 0},
        {"problems": (("a", "a: damaged"),)},
        {"configuration": {**whole.configuration, "missing": ["b"]}},
    ):
        part = dataclasses.replace(whole, **changes)
        assert common.choose_published(module, options, [whole, part]) is None
    other = dataclasses.replace(whole, configuration={"images": 1, "base_model": "Log"})
    assert common.choose_published(module, options, [other]) == {}


def test_official_png_rounding_is_kittis(experiment, tmp_path):
    common = sys.modules["common"]
    nyu = importlib.import_module("nyu").EXPERIMENT
    official = ["--data-dir", str(tmp_path), "--checkpoints", str(tmp_path), "--official"]
    assert not common.choose_protocol(nyu, common.parse(nyu, official)).through_png16


def test_one_member_is_no_ensemble(experiment, checkpoints, tmp_path):
    common = sys.modules["common"]
    module = importlib.import_module("kitti_stereo").EXPERIMENT
    for name in ("Self", "Boot_0"):
        (tmp_path / name).mkdir()
    options = common.parse(module, ["--data-dir", str(tmp_path), "--checkpoints", str(tmp_path)])
    found, missing = common.find_networks(options)
    assert list(found) == ["Self"]
    assert missing == ["Post", "Log", "Drop", "Boot (only Boot_0)"]


def test_mistakes_and_full_disks_end_in_one_sentence(experiment, tmp_path, monkeypatch, capsys):
    common = sys.modules["common"]
    for error, said in (
        (GrumoError("no data"), "no data\n"),
        (OSError(28, "No space left on device"), "output: No space left on device\n"),
    ):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(common, "run_with", fail)
        with pytest.raises(SystemExit) as ended:
            experiment("kitti_mono", tmp_path, "--generated")
        assert (ended.value.code, capsys.readouterr().err) == (2, said)


def test_a_part_notices_that_its_source_changed(experiment):
    class Changing(list):
        ids, has_depth, fingerprint = ("a", "b"), True, "before"

    source = Changing("ab")
    part = Part(source, 1, "few")
    before = part.fingerprint
    assert part.fingerprint == before
    source.fingerprint = "after"
    assert part.fingerprint != before
    assert part.has_depth


def test_the_demo_is_trained_by_the_library_on_streets_and_rooms(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    demo = importlib.import_module("train_demo")
    source = demo.StreetsAndRooms(16, seed=0)
    assert [sum(i.startswith(kind) for i in source.ids) for kind in demo.KINDS] == [10, 6]
    assert len({source.fingerprint, demo.StreetsAndRooms(16, seed=1).fingerprint}) == 2
    shipped, _ = grumo_jax.load_checkpoint(grumo_jax.shipped_checkpoint("synthetic"))
    model = Networks.of(demo.SETTINGS).depth
    for name in ("encoder_widths", "decoder_widths", "input_size", "predict_uncertainty"):
        assert getattr(model, name) == getattr(shipped, name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_experiment_says_how_to_run_it(file, monkeypatch):
    about = ast.get_docstring(ast.parse(file.read_text()))
    assert f"Command: python experiments/{file.name}" in about
    for part in ("Data:", "Time:"):
        assert re.search(rf"^{part}", about, re.MULTILINE), part
    assert f"`{file.name}`" in (FOLDER / "README.md").read_text()
    monkeypatch.syspath_prepend(str(FOLDER))
    importlib.import_module(file.stem)


@pytest.mark.slow
def test_run_time(experiment, tmp_path, checkpoints, capsys):
    module = importlib.import_module("run_time")
    options = ("--checkpoint", checkpoints / "Self", "--size", 32, 64, "--rounds", 2)
    table = module.main([*map(str, (*options, "--estimator", "post", "--out", tmp_path))])
    assert [row[0] for row in table.rows] == ["forward", "post", "ensemble of 8"]
    assert table.rows[0][-1] == 1
    assert (tmp_path / "run_time.md").read_text() in capsys.readouterr().out
