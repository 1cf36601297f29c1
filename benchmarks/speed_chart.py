"""A chart of what `speed.py` measured: milliseconds for one image, a panel for each file.

python benchmarks/speed_chart.py kitti.json nyu.json --out docs/images/speed.png
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {"grumo_jax": "#0072B2", "PyTorch plain": "#A0A0A0", "PyTorch optimised": "#E69F00"}
WIDTH = 0.26


def main() -> None:
    """Draw the chart."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("speed.png"))
    options = parser.parse_args()
    figure = Figure(figsize=(6.4 * len(options.files), 3.4), layout="constrained")
    panels = figure.subplots(1, len(options.files), squeeze=False)[0]
    for axes, file in zip(panels, options.files, strict=True):
        draw(axes, json.loads(file.read_text()))
    panels[0].set_ylabel("ms an image, one CPU core")
    panels[0].legend(frameon=False)
    figure.savefig(options.out, dpi=130)


def draw(axes: Axes, measured: dict[str, Any]) -> None:
    """Bars of one file, batch 1, with their values."""
    ms = measured["batches"]["1"]["ms"]
    names = list(ms["grumo_jax"])
    for number, (side, color) in enumerate(COLORS.items()):
        places = [i + (number - 1) * WIDTH for i in range(len(names))]
        bars = axes.bar(places, [ms[side][n] for n in names], WIDTH, color=color, label=side)
        axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=1)
    broken = [name.replace(", ", ",\n").replace(" ev", "\nev") for name in names]
    axes.set_xticks(range(len(names)), broken, fontsize=9)
    axes.set_title("{}×{}, {}".format(*measured["size"], measured["dtype"]))
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
