"""Differences between estimators, curves, and pages of pictures."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest
from results_files import found, write

from grumo_jax.errors import ResultsError
from grumo_jax.report import (
    compare,
    gain_table,
    summarize,
)
from grumo_jax.report.curves import (
    plot_all_bands,
    plot_bands,
    plot_sparsification_error,
    plot_sparsification_grid,
)
from grumo_jax.report.gain import scene
from grumo_jax.report.pages import error_over_photo, plot_case


def test_bootstrap_is_that_of_a_loop(tmp_path):
    values = np.random.default_rng(5).uniform(size=(12, 2))
    images = {
        f"{chr(97 + i)}": {"grad": found(a), "var": found(b)} for i, (a, b) in enumerate(values)
    }
    summary = summarize(write(tmp_path / "r.jsonl", images))
    difference, samples = values[:, 0] - values[:, 1], 300
    result = compare(summary, "grad", "var", "ause.rmse", samples=samples, seed=7)
    draws = np.random.default_rng(7)
    means = [np.mean(difference[draws.integers(12, size=12)]) for _ in range(samples)]
    expected = [difference.mean(), *np.percentile(means, (2.5, 97.5))]
    np.testing.assert_allclose([result.mean, result.low, result.high], expected, rtol=1e-12)
    assert result.images == 12
    assert result.lower == np.mean(difference < 0)


def test_bootstrap_of_groups_is_that_of_a_loop(tmp_path):
    values = np.random.default_rng(5).uniform(size=12)
    names = [f"{'aab'[i % 3]}/{i}" for i in range(12)]
    images = {n: {"grad": found(v), "var": found(0.5)} for n, v in zip(names, values, strict=True)}
    summary = summarize(write(tmp_path / "r.jsonl", images))
    groups = [[v - 0.5 for n, v in zip(names, values, strict=True) if n[0] == g] for g in "ab"]
    draws, means = np.random.default_rng(0), []
    for _ in range(200):
        means.append(np.mean(np.concatenate([groups[g] for g in draws.integers(2, size=2)])))
    result = compare(summary, "grad", "var", group=scene, samples=200)
    np.testing.assert_allclose([result.low, result.high], np.percentile(means, (2.5, 97.5)))


def test_comparisons_that_cannot_be_made(mixed):
    summary = summarize(mixed)
    for names, message in {
        ("grad", "var", "ause.rmse"): "no estimator 'var', but grad, depth",
        ("grad", "depth", "ause.sq_rel"): "no 'ause.sq_rel' of images",
    }.items():
        with pytest.raises(ResultsError, match=message):
            compare(summary, *names)
    assert compare(summary, "grad", "depth", "detection.auroc").images == 1
    assert compare(summary, "grad", "grad", other=summary).mean == 0


def test_gain_is_bold_where_the_interval_is(tmp_path):
    images = {str(i): {"grad": found(0.5), "var": found(0.3 + 0.01 * i)} for i in range(10)}
    table = gain_table([summarize(write(tmp_path / "r.jsonl", images))])
    assert re.search(r"\*\*−0\.155 \[−0\.17\d, −0\.13\d\]\*\*", table.to_markdown())
    # AURG rises by as much: higher is better.
    assert re.search(r"\*\*\+0\.155 \[\+0\.13\d, \+0\.17\d\]\*\*", table.to_markdown())
    row = next(csv.DictReader(io.StringIO(table.to_csv())))
    assert float(row["ause.rmse.mean"]) == pytest.approx(-0.155)


def gains(path, names, better="var"):
    images = {n: {"grad": found(0.5), better: found(0.3 + 0.01 * i)} for i, n in enumerate(names)}
    return gain_table([summarize(write(path, images))])


def test_gain_says_what_its_intervals_are_worth(tmp_path):
    few = gains(tmp_path / "few.jsonl", [f"drive/{i}" for i in range(9)])
    assert few.notes == ["Mono: means of 9 images, too few for intervals."]
    assert "−0.160" in few.to_markdown()
    assert "**−" not in few.to_markdown()
    assert "[" not in few.to_markdown()
    row = next(csv.DictReader(io.StringIO(few.to_csv())))
    assert (row["ause.rmse.low"], row["ause.rmse.high"]) == ("", "")
    alike = gains(tmp_path / "alike.jsonl", [f"drive/{i}" for i in range(10)])
    assert "all of one drive or folder; frames of one drive look alike" in alike.notes[0]
    assert "too narrow" in alike.notes[0]
    single = gains(tmp_path / "single.jsonl", [str(i) for i in range(10)], "depth")
    assert single.notes == ["Mono: intervals from 4000 bootstrap samples of single images."]
    assert "**−" not in single.to_markdown()  # baselines are never bold


def test_plots(mixed):
    summary = summarize(mixed)
    other = dataclasses.replace(
        summary, configuration={**summary.configuration, "base_model": "Other"}
    )
    figure, axes = plot_sparsification_error([summary, other], "rmse")
    assert axes.figure is figure
    assert len(axes.lines) == 4
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0, 0.5, 0])
    assert axes.lines[0].get_color() != axes.lines[2].get_color()
    assert axes.lines[0].get_linestyle() == axes.lines[2].get_linestyle()
    assert axes.get_xlabel() == "fraction of removed pixels"
    assert {t.get_text() for t in axes.get_legend().get_texts()} == {
        "Mono", "Other", "grad", "depth"
    }  # fmt: skip
    _, bands = plot_bands(summary, "abs_rel")
    assert [t.get_text() for t in bands.get_xticklabels()] == ["0–10 m", "10–80 m"]
    for drawn in (plot_all_bands(summary), plot_sparsification_grid(summary)):
        drawn.savefig(io.BytesIO(), dpi=40)


def test_pages_show_sparse_errors(tmp_path):
    image = np.full((40, 120, 3), 0.5)
    error = np.full((40, 120), np.nan)
    error[10, 20], error[30, 80] = 0.1, 0.4
    painted = error_over_photo(image, error, np.isfinite(error))
    changed = np.any(painted != painted[0, 0], axis=-1)
    assert changed[9:12, 20].all()
    assert 2 < changed.sum() < 40
    assert painted[30, 80].sum() > painted[10, 20].sum()
    maps = {"grad": np.ones((40, 120)), "var": np.zeros((40, 120))}
    figure = plot_case(image, np.ones((40, 120)), error, maps, measure="abs_rel", title="a")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["image", "depth"]
    assert titles[2].startswith("abs_rel, brightest from 0.39")
    assert titles[3:5] == ["grad", "var"]
    nothing = plot_case(image, np.ones((40, 120)), np.full((40, 120), np.nan), {})
    assert nothing.axes[2].get_title() == "error: no ground truth"
