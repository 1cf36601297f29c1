"""Ablation over a data set: a file that survives, and its tables and heat maps."""

import csv
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ablation_grids import grid_of, settings_of
from PIL import Image

from grumo_jax.ablation import Grid, Signal, Site, ablate
from grumo_jax.errors import GrumoError, ResultsError
from grumo_jax.evaluation import Protocol, evaluate
from grumo_jax.evaluation.results import ResultsWriter
from grumo_jax.references import Flip, Gray, GroundTruth, Noise
from grumo_jax.report import summarize, summarize_ablation, write_ablation
from grumo_jax.report.heatmap import plot_layers_reductions, plot_layers_signals

SIZE = (32, 64)
METRES = Protocol("test", limit_truth=True, crop=None, size=SIZE)


# --- over a data set


GRID = grid_of(Signal("flip", (Flip(),)), Signal("both", (Flip(), Gray()), space="log_depth"))


@pytest.fixture(scope="module")
def run(small, sparse_photos):
    def run(path, grid=GRID, **options):
        network, variables = small
        options = {"protocol": METRES, "devices": jax.devices()[:1], "batch_size": 2, **options}
        options = {"source": sparse_photos, "variables": variables, **options}
        return ablate(grid, network, path=path, **options)

    return run


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("ablation") / "whole.jsonl", about={"base_model": "small"})


@pytest.mark.defaults
def test_rows_are_what_evaluation_gives(whole, small, sparse_photos, tmp_path):
    network, variables = small
    places = [(0, 0, 1), (1, 3, 0)]
    settings = dict(settings_of(GRID, network))
    estimators = {str(place): settings[place] for place in places}
    options = {"protocol": METRES, "devices": jax.devices()[:1]}
    expected = evaluate(estimators, variables, sparse_photos, tmp_path / "results.jsonl", **options)
    assert len(list(expected.rows())) == 5
    for row, other in zip(whole.rows(), expected.rows(), strict=True):
        assert (row["id"], row["size"]) == (other["id"], other["size"])
        for place in places:
            entry = other["estimators"][str(place)]
            assert row["pixels"] == entry["pixels"]
            for area, metric in itertools.product(("ause", "aurg"), ("abs_rel", "rmse", "a1")):
                found = np.array(row[area][metric])[place]
                assert found == pytest.approx(entry[area][metric], abs=2e-4, rel=2e-4)


@pytest.mark.slow
def test_devices_change_nothing(whole, run, tmp_path):
    four = run(tmp_path / "four.jsonl", devices=jax.devices()[:4], batch_size=4)
    for row, expected in zip(four.rows(), whole.rows(), strict=True):
        np.testing.assert_allclose(row["ause"]["abs_rel"], expected["ause"]["abs_rel"], atol=1e-5)


@pytest.mark.parametrize("cut", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_it_resumes_to_the_same_bytes(whole, run, tmp_path, cut):
    path = tmp_path / "cut.jsonl"
    lines = whole.path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:cut]) + lines[cut][:20])
    run(path, about={"base_model": "small"})
    assert path.read_bytes() == whole.path.read_bytes()


def test_a_damaged_line_is_named(whole, run, tmp_path):
    path = tmp_path / "damaged.jsonl"
    lines = whole.path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[3:4]]))
    with pytest.raises(ResultsError, match="line 3 is damaged; delete it and all after it"):
        list(run(path, about={"base_model": "small"}).rows())


def test_another_grid_is_refused(whole, run):
    other = dataclasses.replace(GRID, reductions=("max",))
    said = r'another configuration \(reductions was \["max", "norm"\] and is now \["max"\]\)'
    with pytest.raises(ResultsError, match=said):
        run(whole.path, other, about={"base_model": "small"})
    other = dataclasses.replace(
        GRID, signals=(GRID.signals[0], dataclasses.replace(GRID.signals[1], space="depth"))
    )
    with pytest.raises(ResultsError, match=r"signals: both was .*log_depth.* and is now .*'depth'"):
        run(whole.path, other, about={"base_model": "small"})


def test_a_grid_that_does_not_fit_leaves_no_file(run, small, tmp_path):
    path = tmp_path / "results.jsonl"
    for layer, said in (("up9", "there is no layer 'up9'"), ("down1", None)):
        grid = Grid((Signal("truth", GroundTruth()),), (Site("there", layer),))
        with pytest.raises(GrumoError, match=said or "GroundTruth cannot be ablated over a data"):
            run(path, dataclasses.replace(grid, signals=GRID.signals) if said else grid)
    without = dataclasses.replace(small[0], log_sigma=None)
    grid = grid_of(Signal("σ", (), loss="uncertainty", uncertainty_weight=1))
    with pytest.raises(GrumoError, match="predicts no log σ; leave out its weights"):
        grid.check(without, small[1], jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32))
    assert not path.exists()


def test_16_bit_files_are_of_disparity(small, sparse_photos, tmp_path):
    network, variables = small
    network = dataclasses.replace(network, predicts="depth")
    rounded = dataclasses.replace(METRES, name="kitti", through_png16=True)
    with pytest.raises(GrumoError, match="the network predicts depth; 16-bit files"):
        ablate(
            GRID, network, variables, sparse_photos, tmp_path / "results.jsonl", protocol=rounded
        )
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.slow
def test_seeds_matter_to_what_draws(run, tmp_path):
    grid = grid_of(Signal("noise", (Noise(),)), reductions=("max",))
    rows = [next(iter(run(tmp_path / f"{seed}.jsonl", grid, seed=seed).rows())) for seed in (0, 1)]
    assert rows[0]["ause"] != rows[1]["ause"]


def broken(depth, references):
    return jnp.full((depth.shape[0], 1), jnp.nan) * jnp.mean(depth)


ODD = grid_of(
    Signal("flip", (Flip(),), space="disparity"),
    Signal("broken", (Flip(),), loss=broken),
    reductions=("max",),
)


@pytest.fixture(scope="module")
def odd(small):
    """A network that finds one pixel infinitely far away."""

    def read(output):
        return output["depth"].at[:, 3, 5].set(jnp.inf)

    return dataclasses.replace(small[0], depth=read)


@pytest.fixture(scope="module")
def ablated(odd, small, sparse_photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("ablation") / "odd.jsonl"
    options = {"protocol": METRES, "devices": jax.devices()[:1], "batch_size": 2}
    return ablate(ODD, odd, small[1], sparse_photos, path, **options)


@pytest.mark.filterwarnings("ignore::grumo_jax.GrumoWarning")
def test_depth_that_is_infinite_counts_as_in_evaluation(
    ablated, odd, small, sparse_photos, tmp_path
):
    """A depth that is infinite is wrong in both, and the rest of the image has its score."""
    estimators = {"first": next(ODD.estimators(odd))}
    options = {"protocol": METRES, "devices": jax.devices()[:1]}
    evaluated = evaluate(estimators, small[1], sparse_photos, tmp_path / "e.jsonl", **options)
    for row, other in zip(ablated.rows(), evaluated.rows(), strict=True):
        entry = other["estimators"]["first"]
        expected = entry["ause"]["abs_rel"]
        assert row["ause"]["abs_rel"][0][0][0] == pytest.approx(expected, abs=2e-4)
        assert (row["no_depth"], row["no_uncertainty"]) == (entry["no_depth"], 0)
    odd_pixels = sum(row["no_depth"] for row in ablated.rows())
    assert odd_pixels > 0
    said = f"up to {odd_pixels} pixels without a positive finite depth count as wrong"
    assert said in summarize_ablation(ablated).coverage


@pytest.mark.filterwarnings("ignore::grumo_jax.GrumoWarning")
def test_what_is_not_finite_is_null(ablated, tmp_path):
    """A loss that is NaN breaks its own maps and no others."""
    row = next(iter(ablated.rows()))
    assert np.isfinite(np.array(row["ause"]["rmse"], float)[0]).all()
    assert set(itertools.chain(*row["ause"]["rmse"][1])) == {None}
    summary = summarize_ablation(ablated)
    assert (summary.counts[0].min(), summary.counts[1].max()) == (4, 0)
    tables = write_ablation(tmp_path, summary)
    assert "Images on which a setting's map is not finite are left out" in tables[0].notes[1]


# --- the report


def test_the_tables(whole, tmp_path):
    summary = summarize_ablation(whole)
    assert (summary.images, summary.counts.min()) == (4, 4)
    assert summary.coverage == "means over 4 of 5 images; 1 without valid pixels"
    rows = [row for row in whole.rows() if row["pixels"]]
    expected = np.mean([row["aurg"]["a1"] for row in rows], axis=0)
    np.testing.assert_allclose(summary.means["aurg.a1"], expected, rtol=1e-6)
    best, signals, reductions = write_ablation(tmp_path, summary)
    areas = [row[3] for row in best.rows]
    assert areas == sorted(summary.means["ause.abs_rel"].ravel())[:10]
    assert [column.name for column in signals.columns] == ["layer", "flip", "both"]
    assert [column.name for column in reductions.columns] == ["layer", "max", "norm"]
    assert [c.bold for c in np.array(signals.cells(), object)[:, 2]].count(True) == 1
    with (tmp_path / "settings.csv").open() as stream:
        settings = list(csv.DictReader(stream))
    assert len(settings) == 20
    one = next(
        s for s in settings if (s["signal"], s["layer"], s["reduction"]) == ("both", "std", "norm")
    )
    assert float(one["aurg.a1"]) == pytest.approx(expected[1, 3, 1])
    for name in ("layers_signals", "layers_reductions"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_settings_of_fewer_images_are_not_ranked(whole, tmp_path):
    rows = list(whole.rows())
    rows[0]["ause"]["abs_rel"][1][0][0] = None
    for row in rows[1:]:
        row["ause"]["abs_rel"][1][0][0] = 1e-6
    path = tmp_path / "some.jsonl"
    write_rows(path, whole.configuration, rows)
    summary = summarize_ablation(path)
    assert np.nanargmin(summary.means["ause.abs_rel"]) == np.ravel_multi_index(
        (1, 0, 0), summary.counts.shape
    )
    best, signals, _ = write_ablation(tmp_path, summary)
    assert ["both", "up2", "max"] not in [row[:3] for row in best.rows]
    assert "images" in best.to_markdown().splitlines()[2]
    assert signals.cells()[0][2].value is None
    figure = plot_layers_signals(summary)
    assert "(1, 0)" not in frames_of(figure.axes[0])


def test_heat_maps_show_the_numbers(whole):
    summary = summarize_ablation(whole)
    values = summary.means["ause.abs_rel"]
    for figure, panels in (
        (plot_layers_signals(summary), [values[:, :, 0].T]),
        (plot_layers_reductions(summary), values),
    ):
        for axes, expected in zip(figure.axes, panels, strict=False):
            for text in axes.texts:
                column, row = map(int, text.get_position())
                assert float(text.get_text()) == pytest.approx(expected[row, column], abs=6e-4)
            assert len(axes.texts) == expected.size
            np.testing.assert_array_equal(axes.images[0].get_array(), expected)
            if expected.min() == np.min(panels):
                best = np.unravel_index(expected.argmin(), expected.shape)
                assert frames_of(axes) == [best]
    # Bright is low.
    assert axes.images[0].get_cmap().name == "viridis_r"


def write_rows(path, configuration, rows):
    with ResultsWriter(path, configuration) as writer:
        writer.append(rows)


def frames_of(axes):
    """(row, column) of the cells with a frame."""
    return [(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in axes.patches]


def test_files_of_the_wrong_kind_are_refused(whole, small, sparse_photos, tmp_path):
    with pytest.raises(ResultsError, match="an ablation, not an evaluation; `grumo ablate` writes"):
        summarize(whole)
    path = tmp_path / "other.jsonl"
    write_rows(path, {"images": 1}, [])
    with pytest.raises(ResultsError, match="an evaluation, not an ablation; `grumo report` makes"):
        summarize_ablation(path)
    for row in ({"pixels": 3}, {"problem": 7}, {**next(whole.rows()), "pixels": "3"}):
        path.unlink()
        write_rows(path, whole.configuration, [{**row, "index": 0, "id": "0"}])
        with pytest.raises(ResultsError, match="line 2 is no row of these results; delete the fil"):
            summarize_ablation(path)
