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
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import write_text
from heatmap import draw_heatmap
from pydnet import NETWORK, SIZE, load_pydnet

from grumo_jax import (
    FeatureDropout,
    FeatureNoise,
    Flip,
    GradientUncertainty,
    Gray,
    Noise,
    Rotate,
    choose_layers,
)
from grumo_jax.data import KittiRaw
from grumo_jax.data.sample import Source
from grumo_jax.estimators import BASELINES, Estimator, named_estimator
from grumo_jax.evaluation import PROTOCOLS
from grumo_jax.evaluation.evaluate import Run
from grumo_jax.evaluation.measure import measure_uncertainty
from grumo_jax.evaluation.pictures import draw_pictures
from grumo_jax.evaluation.targets import batch_targets
from grumo_jax.images import write_atomically
from grumo_jax.report import Column, Table, summarize, write_report
from grumo_jax.scores import normalize, resize

METHODS = ("grad", "grad-averaged", "grad-variance", "post", "var", "in-drop", *BASELINES)
REFERENCES = {
    "flip": Flip(),
    "gray": Gray(),
    "noise": Noise(),
    "rotate": Rotate(),
    "feature dropout": FeatureDropout(),
    "feature noise": FeatureNoise(),
}
SPACES = ("depth", "log_depth", "disparity")
REDUCTIONS = ("max", "norm", "sum")


def evaluate_methods(variables: Any, source: Source, folder: Path) -> Run:
    """The main table: methods and baselines."""
    estimators: dict[str, Estimator] = {name: named_estimator(name, NETWORK) for name in METHODS}
    estimators["grad, norm"] = GradientUncertainty.paper(NETWORK, reduction="norm")
    protocol = PROTOCOLS["kitti-mono"]
    one = jax.devices()[:1]
    run = Run.of(estimators, variables, source, protocol, size=SIZE, batch_size=1, devices=one)
    about = {"base_model": "PyDNet", "checkpoint": "mobile PyDNet trained on KITTI"}
    progress = sys.stderr.isatty()
    results = run.to_file(folder / "results.jsonl", about, workers=2, progress=progress)
    draw_pictures(run, results, 2, ["grad", "grad-averaged", "post", "var", "in-drop"])
    page, tables = write_report(folder, [summarize(results)])
    print(tables[0].to_markdown())
    print(f"report: {page}")
    return run


def evaluate_settings(run: Run) -> tuple[list[str], np.ndarray]:
    """AUSE of every layer, reference, space and reduction by itself.

    Returns:
        Names of the layers, coarse to fine, and mean AUSE (space, reduction, layer, reference,
        metric), the metrics being abs_rel, rmse, a1.
    """
    images = jax.numpy.zeros((1, *SIZE, 3))
    layers = list(choose_layers(NETWORK, run.variables, images, "decoder"))
    found = []
    for index in range(len(run.source)):
        prepared = run.prepare(run.source[index])
        targets = batch_targets([prepared], run.protocol, SIZE)
        image, key = prepared.image[None], jax.random.key(run.seed)
        found.append(
            [
                [
                    _areas(run, space, reduction, layers, image, targets, key)
                    for reduction in REDUCTIONS
                ]
                for space in SPACES
            ]
        )
        print(f"{index + 1} of {len(run.source)} images", file=sys.stderr)
    return layers, np.mean(found, axis=0)


def _areas(
    run: Run, space: Any, reduction: Any, layers: list[str], image: Any, targets: Any, key: Any
) -> np.ndarray:
    """AUSE (layer, reference, metric) of one image."""
    estimator = GradientUncertainty(
        NETWORK,
        layers=tuple(layers),
        reference=tuple(REFERENCES.values()),
        space=space,
        reduction=reduction,
    )
    estimate: Any = estimator(run.variables, image, key)
    judge = partial(measure_uncertainty, NETWORK, estimate.depth, targets, run.protocol)
    maps = {name: resize(normalize(s), SIZE) for name, s in estimate.layer_scores.items()}
    areas = [[judge(m[i]).ause for i in range(len(REFERENCES))] for m in maps.values()]
    return np.array([[[a[m][0] for m in ("abs_rel", "rmse", "a1")] for a in row] for row in areas])


def settings_table(layers: list[str], areas: np.ndarray) -> Table:
    """One row for each layer: AUSE of abs_rel with the flip, by space and reduction."""
    columns = [Column("layer")]
    columns += [
        Column(reduction, "lower", group=space) for space in SPACES for reduction in REDUCTIONS
    ]
    rows = [[layer, *areas[:, :, i, 0, 0].ravel().tolist()] for i, layer in enumerate(layers)]
    title = "AUSE of abs_rel, one layer at a time, reference: flip"
    return Table(title, columns, rows, name="settings")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="KITTI raw")
    parser.add_argument("--weights", type=Path, required=True, help="PyDNet's weights, .npz")
    parser.add_argument("--out", type=Path, default=Path("results/real_kitti"))
    options = parser.parse_args()
    source = KittiRaw(options.data_dir, "velodyne")
    run = evaluate_methods(load_pydnet(options.weights), source, options.out / "methods")
    layers, areas = evaluate_settings(run)
    table = settings_table(layers, areas)
    write_text(options.out / "settings.md", table.to_markdown())
    figure = draw_heatmap(layers, list(REFERENCES), SPACES, areas[:, 0, :, :, 0])
    write_atomically(
        options.out / "settings.png", lambda s: figure.savefig(s, dpi=120, format="png")
    )
    print(table.to_markdown())


if __name__ == "__main__":
    main()
