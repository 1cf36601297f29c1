"""A figure of an experiment: AUSE of every estimator, base models side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.metrics import METRICS
from grumo_jax.report import BASELINES, Summary

MARKERS = "os^Dv"


def draw_settings(path: Path, summaries: Sequence[Summary]) -> None:
    """Draw a dot for each estimator and base model, a panel for each metric; baselines hollow."""
    names = list(dict.fromkeys(name for s in summaries for name in s.estimators))
    names.sort(key=lambda name: name in BASELINES)
    figure = Figure(figsize=(12, 1.4 + 0.27 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        for number, summary in enumerate(summaries):
            for name, estimator in summary.estimators.items():
                dot = _dot(number, "none" if name in BASELINES else "full")
                dot.set_data([estimator.means[f"ause.{metric}"]], [names.index(name)])
                axes.add_line(dot)
        axes.autoscale_view()
        axes.set_xlabel(f"AUSE of {metric}, lower is better")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    handles = [_dot(number, "full") for number in range(len(summaries))]
    labels = [summary.base_model for summary in summaries]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    write_atomically(path, lambda stream: figure.savefig(stream, dpi=120, format="png"))


def _dot(number: int, fill: Literal["full", "none"]) -> Line2D:
    marker, colour = MARKERS[number % len(MARKERS)], f"C{number}"
    return Line2D([], [], marker=marker, color=colour, fillstyle=fill, linestyle="none")
