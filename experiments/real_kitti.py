"""Real network, real frames: every estimator, layer and reference on a KITTI drive.

Command: python experiments/real_kitti.py --data-dir KITTI --weights PYDNET.npz
Data:    KITTI raw with at least one drive and its scans (every frame with a scan is evaluated;
         projected velodyne, Eigen crop, 80 m, median scaling); a mobile PyDNet trained on KITTI.
Time:    one CPU core, 30 s an image.
Result:  docs/results.md. Written: methods/ (tables, curves, pictures, report.html), settings.md
         and settings.png (layer × reference × space × reduction).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import write_text
from matplotlib.figure import Figure
from pydnet import NETWORK, SIZE, load_pydnet

from grumo_jax import GradientUncertainty
from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.ablation import Grid, ablate
from grumo_jax.data import KittiRaw
from grumo_jax.data.sample import Source
from grumo_jax.estimators import BASELINES, Estimator, named_estimator
from grumo_jax.evaluation import PROTOCOLS
from grumo_jax.evaluation.evaluate import Run
from grumo_jax.losses import Space
from grumo_jax.references import NAMED_REFERENCES
from grumo_jax.report import (
    AblationSummary,
    Column,
    Table,
    summarize,
    summarize_ablation,
    write_report,
)
from grumo_jax.report.heatmap import draw_heatmaps
from grumo_jax.report.pictures import draw_pictures
from grumo_jax.report.table import Value
from grumo_jax.scores import Reduction

METHODS = ("grad", "grad-averaged", "grad-variance", "post", "var", "in-drop", *BASELINES)
ABOUT = {"base_model": "PyDNet", "checkpoint": "mobile PyDNet trained on KITTI"}
SPACES: tuple[Space, ...] = ("depth", "log_depth", "disparity")
REDUCTIONS: tuple[Reduction, ...] = ("max", "norm", "sum")


def evaluate_methods(variables: Any, source: Source, folder: Path) -> None:
    """The main table: methods and baselines."""
    estimators: dict[str, Estimator] = {name: named_estimator(name, NETWORK) for name in METHODS}
    estimators["grad, norm"] = GradientUncertainty.paper(NETWORK, reduction="norm")
    protocol = PROTOCOLS["kitti-mono"]
    progress = sys.stderr.isatty()
    run = Run.of(estimators, variables, source, protocol, about=ABOUT, size=SIZE, progress=progress)
    results = run.to_file(folder / "results.jsonl")
    draw_pictures(run, results, 2, ["grad", "grad-averaged", "post", "var", "in-drop"])
    page, tables = write_report(folder, [summarize(results)])
    print(tables[0].to_markdown())
    print(f"report: {page}")


def ablate_settings(variables: Any, source: Source, folder: Path) -> AblationSummary:
    """AUSE of every layer, reference, space and reduction by itself."""
    grid = Grid.of(
        NETWORK,
        variables,
        jax.ShapeDtypeStruct((1, *SIZE, 3), "float32"),
        references=NAMED_REFERENCES,
        losses=["squared"],
        spaces=SPACES,
        reductions=REDUCTIONS,
    )
    results = ablate(
        grid,
        NETWORK,
        variables,
        source,
        folder / "settings.jsonl",
        protocol=PROTOCOLS["kitti-mono"],
        about=ABOUT,
        size=SIZE,
        progress=sys.stderr.isatty(),
    )
    return summarize_ablation(results)


def by_space(summary: AblationSummary) -> np.ndarray:
    """AUSE of abs_rel (space, reference, layer, reduction)."""
    areas = summary.means["ause.abs_rel"]
    return areas.reshape(len(SPACES), len(NAMED_REFERENCES), *areas.shape[1:])


def settings_table(summary: AblationSummary) -> Table:
    """One row for each layer: AUSE of abs_rel with the flip, by space and reduction."""
    columns = [Column("layer")]
    columns += [
        Column(reduction, "lower", group=space) for space in SPACES for reduction in REDUCTIONS
    ]
    flip = by_space(summary)[:, 0]
    rows: list[list[Value]] = [
        [layer, *flip[:, i].ravel().tolist()] for i, layer in enumerate(summary.sites)
    ]
    title = "AUSE of abs_rel, one layer at a time, reference: flip"
    return Table(title, columns, rows, name="settings")


def draw_settings(summary: AblationSummary) -> Figure:
    """Layers against references with the reduction max, a panel for each space."""
    values = by_space(summary)[..., 0].swapaxes(1, 2)
    panels = {f"loss in {s.replace('_', ' ')}": v for s, v in zip(SPACES, values, strict=True)}
    title = "AUSE of abs_rel, one layer and one reference at a time (max)"
    return draw_heatmaps(summary.sites, list(NAMED_REFERENCES), panels, title=title, shared=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="KITTI raw")
    parser.add_argument("--weights", type=Path, required=True, help="PyDNet's weights, .npz")
    parser.add_argument("--out", type=Path, default=Path("results/real_kitti"))
    options = parser.parse_args()
    source = KittiRaw(options.data_dir, "velodyne")
    variables = load_pydnet(options.weights)
    evaluate_methods(variables, source, options.out / "methods")
    summary = ablate_settings(variables, source, options.out)
    table, figure = settings_table(summary), draw_settings(summary)
    write_text(options.out / "settings.md", table.to_markdown())
    write_atomically(
        options.out / "settings.png", lambda s: figure.savefig(s, dpi=120, format="png")
    )
    print(table.to_markdown())


if __name__ == "__main__":
    main()
