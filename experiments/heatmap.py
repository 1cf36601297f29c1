"""Heat maps of layer × reference, a panel for each loss space."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def draw_heatmap(
    rows: Sequence[str], columns: Sequence[str], panels: Sequence[str], values: np.ndarray
) -> Figure:
    """Draw values (panel, row, column) with their numbers; dark is low, and low is good."""
    figure = Figure(
        figsize=(1.6 + 0.75 * len(columns) * len(panels), 1.6 + 0.24 * len(rows)),
        layout="constrained",
    )
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    low, high = np.min(values), np.percentile(values, 95)
    for cell, name, panel in zip(axes, panels, values, strict=True):
        image = cell.imshow(panel, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for (i, j), value in np.ndenumerate(panel):
            bright = value > (low + high) / 2
            cell.text(
                j, i, f"{1000 * value:.0f}", ha="center", va="center", fontsize=7,
                color="black" if bright else "white",
            )  # fmt: skip
        cell.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=8)
        cell.set_title(f"loss in {name.replace('_', ' ')}", fontsize=10)
    axes[0].set_yticks(range(len(rows)), rows, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.6, label="AUSE of abs_rel")
    figure.suptitle(
        "AUSE of abs_rel · 1000, one layer and one reference at a time (max)", fontsize=11
    )
    return figure
