"""Heat maps of an ablation: layers against signals, layers against reductions."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from grumo_jax.metrics import METRICS
from grumo_jax.plots import as_written
from grumo_jax.report.ablation import AblationSummary

MOST_PANELS = 6
MOST_COLUMNS = 10
"""With more columns, panels are stacked instead of side by side."""
LETTERS_PER_INCH = 11


def plot_layers_signals(summary: AblationSummary) -> Figure:
    """AUSE of every layer and signal at the first reduction, a panel for each metric."""
    panels = {f"AUSE of {m}": summary.comparable(f"ause.{m}")[:, :, 0].T for m in METRICS}
    title = f"{summary.title}: layer × signal, reduction {summary.reductions[0]}"
    return draw_heatmaps(summary.sites, summary.signals, panels, title=title, shared=False)


def plot_layers_reductions(summary: AblationSummary) -> Figure:
    """AUSE of abs_rel of every layer and reduction, a panel for each of the first signals."""
    values = summary.comparable("ause.abs_rel")
    panels = dict(zip(summary.signals[:MOST_PANELS], values, strict=False))
    title = f"{summary.title}: layer × reduction, AUSE of abs_rel"
    if len(summary.signals) > MOST_PANELS:
        title += f" (first {MOST_PANELS} of {len(summary.signals)} signals)"
    return draw_heatmaps(summary.sites, summary.reductions, panels, title=title, shared=True)


def draw_heatmaps(
    rows: Sequence[str],
    columns: Sequence[str],
    panels: dict[str, np.ndarray],
    *,
    title: str,
    shared: bool,
) -> Figure:
    """Draw values (rows, columns) with their numbers; bright is low, and low is good.

    Args:
        rows, columns: names.
        panels: {heading: values}; NaN cells are left empty.
        title: above the figure.
        shared: use one colour range for all panels. The best cell of each range is framed.
    """
    down = len(panels) if len(columns) > MOST_COLUMNS else 1
    across = len(panels) // down
    size = (2.2 + (0.7 + 0.62 * len(columns)) * across, down * (1.7 + 0.27 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    together = np.concatenate([values.ravel() for values in panels.values()])
    for cell, (heading, values) in zip(axes, panels.items(), strict=True):
        _draw(cell, values, _limits(together if shared else values))
        cell.set_xticks(
            range(len(columns)), columns, rotation=45, ha="right", fontsize=8, parse_math=False
        )
        cell.set_title(heading, fontsize=9)
    axes[0].set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    explained = f"{title}. Bright is low, the lowest is framed"
    figure.suptitle(textwrap.fill(explained, round(LETTERS_PER_INCH * size[0])), fontsize=10)
    as_written(figure)
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The colour range: a few very bad settings must not make all others look alike."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    return float(finite.min()), float(np.percentile(finite, 90))


def _draw(axes: Axes, values: np.ndarray, limits: tuple[float, float]) -> None:
    low, high = limits
    axes.imshow(values, cmap="viridis_r", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if value > (low + high) / 2 else "black"
            axes.text(j, i, _short(value), ha="center", va="center", fontsize=7, color=color)
            if value == low:
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec="red", lw=1.8))


def _short(value: float) -> str:
    """Three digits, without the 0 before the point.

    >>> _short(0.0412), _short(1.239)
    ('.041', '1.24')
    """
    return f"{value:.3f}".removeprefix("0") if abs(value) < 1 else f"{value:.2f}"
