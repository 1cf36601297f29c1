"""Plots of sparsification curves and bands of depth. Functions take axes or make a figure.

Colours are Okabe and Ito's, safe for colour-blind readers; lines differ in their dashes, too. With
one base model each method has a colour; with several each base model has a colour and each method
its dashes. Baselines are thin, with markers.
"""

from collections.abc import Sequence
from itertools import filterfalse
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grumo_jax.metrics import METRICS
from grumo_jax.plots import Drawn, as_written
from grumo_jax.report.summary import EstimatorSummary, Summary
from grumo_jax.report.tables import is_baseline, labels, order

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A4B2A")
GRAY = "#6E6E6E"
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (9, 2.5)),
    (0, (3, 1.2, 1, 1.2, 1, 1.2)),
    (0, (2.5, 2.5)),
    (0, (8, 1.5, 3, 1.5)),
)
_MARKERS = ("o", "s", "^", "x", "d", "v")

Style = dict[str, Any]


def plot_sparsification_error(
    summaries: Sequence[Summary], metric: str, *, legend: bool = True, axes: Axes | None = None
) -> Drawn:
    """Draw mean sparsification minus that of the oracle, for every base model and estimator.

    Args:
        summaries: of results.
        metric: "abs_rel", "rmse" or "a1".
        legend: whether to draw a legend, to the right.
        axes: where to draw; a new figure by default.
    """
    axes = axes or Figure(figsize=(7, 3.8), layout="constrained").subplots()
    styles = line_styles(summaries)
    for label, summary in zip(labels(summaries), summaries, strict=True):
        for name, estimator in order(summary.estimators).items():
            if metric in estimator.curves and metric in estimator.oracle:
                error = estimator.curves[metric] - estimator.oracle[metric]
                axes.plot(_removed(error), error, **styles[label, name])
    _label(axes, metric, "sparsification error")
    if legend:
        handles = legend_handles(summaries)
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        as_written(axes.figure)
    return axes.figure, axes


def plot_all_sparsification_errors(summaries: Sequence[Summary]) -> Figure:
    """Draw sparsification errors of all three metrics side by side, with one legend."""
    handles = legend_handles(summaries)
    lines = -(-len(handles) // 6)
    figure = Figure(figsize=(11.5, 3.5 + 0.24 * lines), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        plot_sparsification_error(summaries, metric, legend=False, axes=axes)
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    as_written(figure)
    return figure


def plot_sparsification(
    estimator: EstimatorSummary,
    metric: str,
    *,
    color: str = COLORS[0],
    axes: Axes | None = None,
) -> Drawn:
    """Draw the mean error of the pixels kept: by the estimator, by the oracle, at random.

    The area between estimator and oracle, which is AUSE, is shaded.

    Args:
        estimator: means of one estimator.
        metric: "abs_rel", "rmse" or "a1".
        color: of the estimator's line.
        axes: where to draw; a new figure by default.
    """
    axes = axes or Figure(figsize=(4.2, 3.2), layout="constrained").subplots()
    curve, oracle = estimator.curves[metric], estimator.oracle[metric]
    removed = _removed(curve)
    axes.fill_between(removed, oracle, curve, color=color, alpha=0.15, linewidth=0)
    axes.plot(removed, curve, color=color, label=estimator.name)
    axes.plot(removed, oracle, color="black", linewidth=1, label="oracle")
    # Leaving out pixels at random changes nothing on average.
    axes.axhline(curve[0], color=GRAY, linestyle=(0, (4, 3)), linewidth=1, label="random")
    _label(axes, metric, "error of what is kept")
    return axes.figure, axes


def plot_sparsification_grid(summary: Summary) -> Figure:
    """Draw `plot_sparsification` of every estimator (rows) and metric (columns)."""
    estimators = {n: e for n, e in order(summary.estimators).items() if set(METRICS) <= {*e.curves}}
    figure = Figure(figsize=(9, 1.5 * max(len(estimators), 1) + 0.5), layout="constrained")
    if not estimators:
        return figure
    grid = figure.subplots(len(estimators), len(METRICS), sharex=True, sharey="col", squeeze=False)
    for row, (name, estimator) in zip(grid, estimators.items(), strict=True):
        for axes, metric in zip(row, METRICS, strict=True):
            color = GRAY if is_baseline(name) else COLORS[0]
            plot_sparsification(estimator, metric, color=color, axes=axes)
            axes.set(title="", xlabel="", ylabel=name if metric == METRICS[0] else "")
    for axes, metric in zip(grid[0], METRICS, strict=True):
        axes.set_title(_named(metric))
    for axes in grid[-1]:
        axes.set_xlabel("fraction of removed pixels")
    handles = [
        Line2D([], [], color=COLORS[0], label="method"),
        Line2D([], [], color=GRAY, label="baseline"),
        Line2D([], [], color="black", linewidth=1, label="oracle"),
        Line2D([], [], color=GRAY, linestyle=(0, (4, 3)), linewidth=1, label="random"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    as_written(figure)
    return figure


def plot_bands(
    summary: Summary, metric: str, *, legend: bool = True, axes: Axes | None = None
) -> Drawn:
    """Draw AUSE within bands of true depth: methods as dots, baselines as gray marks.

    Args:
        summary: of one base model.
        metric: "abs_rel", "rmse" or "a1".
        legend: whether to draw a legend, to the right.
        axes: where to draw; a new figure by default.
    """
    axes = axes or Figure(figsize=(7, 3.6), layout="constrained").subplots()
    bands, styles = [*summary.bands.values()], line_styles([summary])
    shown = {
        name: np.array([band.means[f"ause.{metric}"] for band in estimator.bands])
        for name, estimator in order(summary.estimators).items()
        if estimator.bands
    }
    methods = [name for name in shown if not is_baseline(name)]
    for name, values in shown.items():
        style = styles[summary.base_model, name]
        if is_baseline(name):
            axes.plot(np.arange(len(values)), values, **_band_style(style, baseline=True))
            continue
        # Side by side, so that the dots of one band do not overlap.
        shift = (methods.index(name) - (len(methods) - 1) / 2) * 0.6 / max(len(methods), 1)
        axes.plot(np.arange(len(values)) + shift, values, **_band_style(style, baseline=False))
    axes.set_xticks(range(len(bands)), bands)
    for edge in np.arange(len(bands) - 1) + 0.5:
        axes.axvline(edge, color="#DDDDDD", linewidth=0.8, zorder=0)
    axes.set(title=f"{_named(metric)} by depth", xlabel="true depth", ylabel="AUSE (lower: better)")
    axes.set_xlim(-0.5, len(bands) - 0.5)
    highest = [np.nanmax(values, initial=0.0) for values in shown.values()]
    axes.set_ylim(0, 1.1 * max(highest, default=0.0) or 1.0)
    across = axes.get_xaxis_transform()  # x of the data, y from 0 at the bottom to 1 at the top
    for place, parts in enumerate(zip(*(summary.estimators[n].bands for n in shown), strict=True)):
        if not any(part.images for part in parts):
            axes.text(place, 0.05, "no pixels", ha="center", color=GRAY, transform=across)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        as_written(axes.figure)
    return axes.figure, axes


def plot_all_bands(summary: Summary, metrics: Sequence[str] = ("abs_rel", "rmse")) -> Figure:
    """Draw `plot_bands` of several metrics side by side, with one legend."""
    figure = Figure(figsize=(11.5, 4), layout="constrained")
    grid = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(grid, metrics, strict=True):
        plot_bands(summary, metric, legend=False, axes=axes)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False)
    as_written(figure)
    return figure


def line_styles(summaries: Sequence[Summary]) -> dict[tuple[str, str], Style]:
    """{(label of base model, estimator): style}; the same in every plot."""
    styles, several = _styles(summaries), len(summaries) > 1
    return {
        (label, name): {**styles[name], **({"color": _of(COLORS, place)} if several else {})}
        for place, (label, summary) in enumerate(zip(labels(summaries), summaries, strict=True))
        for name in summary.estimators
    }


def legend_handles(summaries: Sequence[Summary]) -> list[Line2D]:
    """Legend entries: colours of base models if there are several, then estimators."""
    styles, models = _styles(summaries), list[Line2D]()
    if len(summaries) > 1:
        for place, label in enumerate(labels(summaries)):
            models.append(Line2D([], [], color=_of(COLORS, place), linewidth=4, label=label))
        for name in filterfalse(is_baseline, styles):
            styles[name] |= {"color": "black", "linewidth": 1.5}
    return [*models, *(Line2D([], [], **style) for style in styles.values())]


def _styles(summaries: Sequence[Summary]) -> dict[str, Style]:
    """{estimator: style} of one base model: methods, then baselines."""
    names = order({name: None for summary in summaries for name in summary.estimators})
    styles = dict[str, Style]()
    for place, name in enumerate(filterfalse(is_baseline, names)):
        line = {"linestyle": _of(_DASHES, place), "linewidth": 1.7}
        styles[name] = {"label": name, "color": _of(COLORS, place), **line}
    for place, name in enumerate(filter(is_baseline, names)):
        marks = {"marker": _of(_MARKERS, place), "markersize": 4, "markevery": (3 * place, 12)}
        line = {"linewidth": 0.9, "markerfacecolor": "none"}
        styles[name] = {"label": name, "color": GRAY, **line, **marks}
    return styles


def _of(choices: Sequence[Any], place: int) -> Any:
    return choices[place % len(choices)]


def _band_style(style: Style, *, baseline: bool) -> Style:
    if baseline:
        kept = {key: value for key, value in style.items() if key != "markevery"}
        return {**kept, "linestyle": (0, (1, 2)), "markersize": 6}
    return {"color": style["color"], "label": style["label"], "linestyle": "", "marker": "o"}


def _removed(curve: np.ndarray) -> np.ndarray:
    return np.linspace(0, 1, len(curve))


def _named(metric: str) -> str:
    return "outliers (δ ≥ 1.25)" if metric == "a1" else metric


def _label(axes: Axes, metric: str, what: str) -> None:
    axes.set(title=_named(metric), xlabel="fraction of removed pixels", ylabel=what)
    axes.set_xlim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.04)
