"""Evaluation: right numbers, in a file that survives whatever happens to the run."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import SmallNet
from PIL import Image

import grumo_jax
from grumo_jax.data import ImageFolder, Sample
from grumo_jax.errors import ResultsError
from grumo_jax.evaluation import Protocol, evaluate, named_protocol, read_results
from grumo_jax.evaluation.batches import Batches
from grumo_jax.evaluation.definitions import METRIC_DEFINITIONS
from grumo_jax.evaluation.measure import measure
from grumo_jax.evaluation.targets import Prepare, batch_targets, inside_crop, read_at

SIZE = (32, 64)
METRES = Protocol("test", limit_truth=True, crop=None, size=SIZE, bands=(0.0, 10.0, 40.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven photos of two sizes with sparse depth."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for kind in ("rgb", "depth"):
        (root / kind).mkdir()
    for i in range(7):
        size = (40, 72) if i % 2 else (44, 80)
        blocks = rng.integers(0, 256, (5, 9, 3), np.uint8)
        Image.fromarray(blocks).resize(size[::-1]).save(root / "rgb" / f"{i}.png")
        depth = rng.uniform(2, 40, size) * (rng.random(size) < 0.4)
        np.save(root / "depth" / f"{i}.npy", depth.astype(np.float32))
    return root


@pytest.fixture(scope="module")
def source(folder):
    return ImageFolder(folder / "rgb", folder / "depth")


@pytest.fixture(scope="module")
def estimators(small):
    network = small[0]
    return {
        "grad": grumo_jax.GradientUncertainty(network, reduction="norm"),
        "post": grumo_jax.PostProcessing(network),
        "var": grumo_jax.TestTimeVariance(network),
    }


@pytest.fixture(scope="module")
def run(small, source, estimators):
    """Function path, … → results of a whole evaluation."""

    def run(path, **options):
        options = {"protocol": METRES, "devices": jax.devices()[:1], "batch_size": 2, **options}
        chosen, data = options.pop("estimators", estimators), options.pop("source", source)
        variables = options.pop("variables", small[1])
        return evaluate(chosen, variables, data, path, **options)

    return run


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("results") / "whole.jsonl")


# --- the numbers


@pytest.mark.parametrize("size", [(13, 29), (48, 130)])
def test_reading_at_points_is_resizing(size):
    protocol = dataclasses.replace(METRES, limit_truth=False)
    truth = np.ones(size, np.float32)
    sample = Sample("all", np.zeros((*size, 3), np.uint8), truth)
    targets = batch_targets([Prepare(protocol, SIZE)(sample)], protocol, SIZE)

    @jax.jit
    def resize_and_read(maps):
        resized = jax.image.resize(maps, (1, *size), "bilinear", antialias=False)
        return resized.ravel(), read_at(maps, targets)[0, : truth.size]

    resized, read = resize_and_read(jax.random.uniform(jax.random.key(0), (1, *SIZE)))
    np.testing.assert_allclose(read, resized, atol=1e-5)


def test_rows_are_what_the_full_maps_give(whole, small, source, estimators):
    """The long way: maps resized to the photo, scaled, clipped, and measured where truth is."""
    _, variables = small
    row = list(whole.rows())[3]
    sample = source[row["index"]]
    image = Prepare(METRES, SIZE)(sample).image
    estimate = estimators["grad"](variables, jnp.asarray(image[None]))

    @jax.jit
    def resize(maps):
        return jax.image.resize(maps, (1, *sample.depth.shape), "bilinear", antialias=False)

    known = sample.depth > 0
    scale = np.median(sample.depth[known]) / np.median(resize(estimate.depth)[0][known])
    depth = np.clip(scale / np.asarray(resize(1 / estimate.depth)), 1e-3, 80)
    truth = sample.depth[None]
    errors = jax.jit(grumo_jax.depth_errors)(truth, depth)
    areas = jax.jit(grumo_jax.sparsification)(truth, depth, resize(estimate.uncertainty))
    entry = row["estimators"]["grad"]
    assert (row["id"], row["size"], entry["pixels"]) == ("3", [40, 72], known.sum())
    assert entry["scale"] == pytest.approx(scale, rel=1e-5)
    for metric, value in entry["errors"].items():
        assert value == pytest.approx(float(getattr(errors, metric)[0]), abs=1e-5, rel=1e-5)
    for metric in ("abs_rel", "rmse", "a1"):
        assert entry["ause"][metric] == pytest.approx(float(areas.ause[metric][0]), abs=1e-4)
    assert sum(entry["bands"]["pixels"]) == known.sum()


@pytest.mark.slow
def test_devices_batches_and_companions_change_nothing(whole, run, estimators, tmp_path):
    alone = {"grad": estimators["grad"]}
    others = [
        (run(tmp_path / "four.jsonl", devices=jax.devices()[:4], batch_size=4), 1e-6),
        (run(tmp_path / "alone.jsonl", estimators=alone, batch_size=3), 1e-3),
    ]
    for results, tolerance in others:
        for row, expected in zip(results.rows(), whole.rows(), strict=True):
            found, expected = (r["estimators"]["grad"] for r in (row, expected))
            # Where two pixels are as uncertain but for rounding, either may come first.
            for group, near in (("errors", tolerance), ("ause", 1e-3), ("aurg", 1e-3)):
                assert found[group] == pytest.approx(expected[group], rel=near, abs=near)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": -2}, "batch_size is -2; it must be 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"devices": []}, "devices is empty; name at least one"),
    ],
)
def test_nothing_to_go_through_with_is_refused(run, tmp_path, options, message):
    with pytest.raises(grumo_jax.GrumoError, match=message):
        run(tmp_path / "results.jsonl", **options)
    assert not (tmp_path / "results.jsonl").exists()


def test_no_single_number_is_taken_for_a_size(source):
    class Square(SmallNet):
        input_size: int = 224

    assert Batches.of(grumo_jax.wrap(Square()), source, METRES).size == SIZE


def test_protocols():
    assert named_protocol("kitti-mono").for_source("eigen").crop == "eigen"
    improved = named_protocol("kitti-stereo").for_source(None)
    assert (improved.crop, improved.limit_truth, improved.scale) == (None, False, 5.4)
    with pytest.raises(grumo_jax.GrumoError, match="no protocol 'kitty'; choose one of kitti-mono"):
        named_protocol("kitty")


def test_nyu_takes_the_centre_of_the_half_size_picture():
    truth = np.random.default_rng(0).uniform(0, 12, (480, 640)).astype(np.float32)
    protocol = named_protocol("nyu")
    sample = Sample("a", np.zeros((480, 640, 3), np.uint8), truth)
    prepared = Prepare(protocol, protocol.size)(sample)
    expected = truth[1::2, 1::2][8:232, 16:304]
    assert prepared.image.shape == (224, 288, 3)
    np.testing.assert_array_equal(prepared.depth, expected[expected > 0])
    targets = batch_targets([prepared], protocol, protocol.size)
    assert targets.counts.sum() == ((expected > 1e-3) & (expected < 10)).sum()


def test_the_median_is_taken_over_all_that_is_known():
    """Beyond 80 m and outside of the crop, too."""
    truth = np.full((40, 60), 100, np.float32)
    truth[20, 10:20] = 10
    sample = Sample("a", np.zeros((40, 60, 3), np.uint8), truth)
    protocol = dataclasses.replace(named_protocol("kitti-mono").for_source("eigen"), bands=())
    targets = batch_targets([Prepare(protocol, (40, 60))(sample)], protocol, (40, 60))
    depth = jnp.full((1, 40, 60), 2.0)

    @jax.jit
    def scale_and_pixels(depth):
        measures = measure(grumo_jax.DepthNetwork(None), depth, depth, targets, protocol)
        return measures.scale[0], measures.errors.pixels[0]

    assert scale_and_pixels(depth) == (50, 10)
    with pytest.raises(grumo_jax.GrumoError, match="only KITTI's programs write them"):
        dataclasses.replace(named_protocol("nyu"), through_png16=True)
    rounded = dataclasses.replace(protocol, through_png16=True)
    with pytest.raises(grumo_jax.GrumoError, match="the network predicts depth"):
        measure(grumo_jax.DepthNetwork(None), depth, depth, targets, rounded)


def test_eigen_crop_by_hand():
    rows, columns = np.array([152, 153, 370, 371]), np.array([43, 44, 1196, 1197])
    inside = [
        inside_crop(rows, np.full(4, 600), (375, 1242), "eigen"),
        inside_crop(np.full(4, 200), columns, (375, 1242), "eigen"),
    ]
    # int(0.40810811 · 375) = 153, int(0.99189189 · 375) = 371; int(0.0359… · 1242) = 44, … 1197
    assert [i.tolist() for i in inside] == [[False, True, True, False]] * 2


def test_stereo_scale_and_clipping():
    network = grumo_jax.DepthNetwork(None)
    sample = Sample("a", np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 54, np.float32))
    protocol = dataclasses.replace(named_protocol("kitti-stereo").for_source(None), bands=())
    targets = batch_targets([Prepare(protocol, (2, 2))(sample)], protocol, (2, 2))
    depth = jnp.array([[[10.0, 10.0], [10.0, 1e9]]])

    @jax.jit
    def abs_rel(depth):
        return measure(network, depth, depth, targets, protocol).errors.abs_rel

    # 10 · 5.4 is right; the fourth is clipped to 80.
    np.testing.assert_allclose(abs_rel(depth), (80 - 54) / 54 / 4, rtol=1e-5)


# --- the file


@pytest.mark.parametrize("cut", [0, 1, 20, 3000, 9999, -1, -500])
def test_a_file_cut_anywhere_is_continued_to_the_same_bytes(whole, run, tmp_path, cut):
    complete = whole.path.read_bytes()
    path = tmp_path / "cut.jsonl"
    path.write_bytes(complete[:cut])
    assert run(path).path.read_bytes() == complete


KILLED = """
import sys, time
sys.path[:0] = sys.argv[4:]
from pathlib import Path
import jax
import grumo_jax
from grumo_jax.data import ImageFolder
from grumo_jax.evaluation import Protocol, evaluate
from helpers import SmallNet, draw_variables
class Slow(ImageFolder):
    def __getitem__(self, index):
        time.sleep(float(sys.argv[3]))
        return super().__getitem__(index)
source = Slow(Path(sys.argv[1]) / "rgb", Path(sys.argv[1]) / "depth")
network = grumo_jax.wrap(SmallNet(), predicts="disparity")
variables = draw_variables(SmallNet(), jax.ShapeDtypeStruct((1, 32, 64, 3), "float32"))
chosen = {"var": grumo_jax.TestTimeVariance(network), "row": grumo_jax.RowBaseline(network)}
evaluate(chosen, variables, source, sys.argv[2], protocol=Protocol("t", size=(32, 64)), workers=1)
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(folder, tmp_path):
    def start(path, delay):
        tests = str(Path(__file__).parent)
        command = [sys.executable, "-c", KILLED, str(folder), str(path), str(delay), tests]
        return subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"})

    killed, complete = tmp_path / "killed.jsonl", tmp_path / "complete.jsonl"
    process = start(killed, 0.5)
    other = start(complete, 0)
    deadline = time.monotonic() + 120
    while not (killed.exists() and killed.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not read_results(killed).finished
    assert start(killed, 0).wait() == 0
    assert other.wait() == 0
    assert killed.read_bytes() == complete.read_bytes()


def test_another_configuration_is_refused(whole, run, small, tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    path.write_bytes(whole.path.read_bytes())
    assert whole.configuration["grumo_jax"] == grumo_jax.__version__
    assert whole.configuration["definitions"] == {
        "estimators": dict.fromkeys(("grad", "post", "var"), 1),
        "metrics": METRIC_DEFINITIONS,
    }
    with monkeypatch.context() as later:
        later.setattr(grumo_jax.GradientUncertainty, "definition", 2)
        later.setitem(METRIC_DEFINITIONS, "spearman", 2)
        said = (
            "estimators: grad was 1 and is now 2; definitions: metrics: spearman was 1 and is now 2"
        )
        with pytest.raises(ResultsError, match=said):
            run(path)
    with pytest.raises(ResultsError, match=r"another configuration \(seed was 0 and is now 1\)"):
        run(path, seed=1)
    with pytest.raises(ResultsError, match=r"\(variables was .* and is now"):
        run(path, variables=jax.tree.map(lambda leaf: leaf + 1e-6, small[1]))
    with pytest.raises(ResultsError, match='checkpoint was null and is now "a"'):
        run(path, about={"checkpoint": "a"})
    assert path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("content", [b"something else\n", b"no newline", b'{"a": 1}\n', b"\xff\n"])
def test_what_is_no_results_file_is_left_alone(run, tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"notes\.txt: no results file of grumo_jax"):
        run(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("extra", [b"\0\0\n", b'{"index": 3}\n'])
def test_a_damaged_file_is_not_continued(whole, run, tmp_path, extra):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(whole.path.read_bytes().splitlines(keepends=True)[:2]) + extra)
    with pytest.raises(ResultsError, match="line 3 is damaged; delete it and all after it"):
        run(path)


def test_two_runs_do_not_write_to_one_file(whole, tmp_path):
    from grumo_jax.evaluation.results import ResultsWriter

    path = tmp_path / "results.jsonl"
    with (
        ResultsWriter(path, {"images": 1}),
        pytest.raises(ResultsError, match="another run is writing to it"),
        ResultsWriter(path, {"images": 1}),
    ):
        pass


# --- what is broken


def test_damaged_images_are_named_and_the_rest_is_not_affected(folder, run, whole, tmp_path):
    for kind in ("rgb", "depth"):
        (tmp_path / kind).mkdir()
        for file in (folder / kind).iterdir():
            (tmp_path / kind / file.name).write_bytes(file.read_bytes())
    damaged = tmp_path / "rgb" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    (tmp_path / "depth" / "5.npy").unlink()
    source = ImageFolder(tmp_path / "rgb", tmp_path / "depth")
    results = run(tmp_path / "results.jsonl", source=source)
    rows, expected = list(results.rows()), list(whole.rows())
    assert results.configuration["missing"] == ["5"]
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4", "6"]
    assert rows[2]["problem"] == f"{damaged}: damaged or no image"
    assert rows[0] == expected[0]
    assert results.finished


def test_what_is_not_finite_is_a_problem_and_not_a_number(small, run, tmp_path):
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, small[1])
    with pytest.warns(grumo_jax.GrumoWarning, match="100 % is negative, 0 or not finite"):
        row = next(run(tmp_path / "results.jsonl", variables=broken).rows())
    assert row["problem"] == "0: depth or uncertainty of grad, post, var is not finite"
    json.dumps(row, allow_nan=False)


def test_images_without_truth_count_nothing(small, run, folder, tmp_path):
    (tmp_path / "depth").mkdir()
    for file in (folder / "depth").iterdir():
        np.save(tmp_path / "depth" / file.name, np.zeros_like(np.load(file)))
    source = ImageFolder(folder / "rgb", tmp_path / "depth")
    for row in run(tmp_path / "results.jsonl", source=source).rows():
        json.dumps(row, allow_nan=False)
        entry = row["estimators"]["grad"]
        assert entry["pixels"] == entry["errors"]["abs_rel"] == entry["ause"]["rmse"] == 0
        assert entry["detection"] is None


def test_an_unknown_reader_gets_one_sentence(tmp_path):
    with pytest.raises(ResultsError, match="no such file"):
        read_results(tmp_path / "nothing.jsonl")
