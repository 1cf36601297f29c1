"""Why Grad does not lead: its settings one at a time, on the streets of the synthetic world.

Command: python experiments/synthetic_settings.py RUNS/Repr_0/model --data-dir WORLD --limit 60
Data:    street/test; depths up to 80 m, median scaling. Any Monodepth2 checkpoint.
Time:    2 minutes for 60 clips on one CPU core.
Result:  docs/leaderboard.md, "Where Grad does not lead". Written: settings.md and .csv, with AUSE
         over all pixels and within regions.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import Part, write_text

from grumo_jax import (
    FeatureDropout,
    GradientUncertainty,
    Gray,
    Noise,
    Rotate,
    choose_layers,
    load_checkpoint,
)
from grumo_jax.data import Source
from grumo_jax.data.prepared import open_prepared
from grumo_jax.data.sample import REGIONS
from grumo_jax.errors import GrumoError, one_sentence
from grumo_jax.estimators import BASELINES, named_estimator
from grumo_jax.evaluation import PROTOCOLS, evaluate
from grumo_jax.evaluation.checkpoints import describe_checkpoints
from grumo_jax.report import Column, Summary, Table, summarize
from grumo_jax.report.table import Value

METRICS = ("abs_rel", "rmse", "a1")


def settings(model: Any, variables: Any) -> dict[str, GradientUncertainty]:
    """The papers' recipe, the same without the weight of log σ, and single changes to that."""
    images = np.zeros((1, *model.input_size, 3), np.float32)
    layers = choose_layers(model.as_depth_network(), variables, images, "decoder")
    changes: dict[str, dict[str, Any]] = {
        "without log σ": {},
        "log depth": {"space": "log_depth"},
        "disparity": {"space": "disparity"},
        "gray": {"reference": Gray()},
        "noise": {"reference": Noise()},
        "rotate": {"reference": Rotate()},
        "feature dropout": {"reference": FeatureDropout()},
        **{f"layer {number}": {"layers": layer} for number, layer in enumerate(layers)},
    }
    plain = {name: GradientUncertainty(model, **change) for name, change in changes.items()}
    return {
        "papers": GradientUncertainty.paper(model),
        **plain,
        "variance loss": GradientUncertainty.variance(model),
        "recommended, without log σ": GradientUncertainty.averaged(model, uncertainty_weight=0.0),
    }


def tabulate(summary: Summary) -> Table:
    """AUSE over all pixels by metric, and of abs_rel within regions."""
    columns = [Column("setting"), *(Column(f"{metric} AUSE", "lower") for metric in METRICS)]
    columns += [Column(f"{region}: abs_rel AUSE", "lower") for region in REGIONS]
    rows: list[list[Value]] = [[n, *_values(summary, n)] for n in summary.estimators]
    title = f"Settings of Grad, {summary.base_model}, {summary.images} clips"
    return Table(title, columns, rows, name="settings")


def _values(summary: Summary, name: str) -> Iterator[float]:
    found = summary.estimators[name]
    yield from (found.means[f"ause.{metric}"] for metric in METRICS)
    yield from (found.regions[region]["ause.abs_rel"] for region in REGIONS)


def main() -> None:
    """Evaluate all settings together, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the world is prepared")
    parser.add_argument("--split", default="street/test")
    parser.add_argument("--limit", type=int, help="evaluate so many clips, at even distances")
    parser.add_argument("--out", type=Path, default=Path("results/synthetic_settings"))
    options = parser.parse_args()
    try:
        model, variables = load_checkpoint(options.checkpoint)
        source: Source = open_prepared("synthetic", options.data_dir, options.split)
        if options.limit is not None:
            source = Part(source, min(options.limit, len(source)), source.name)
        baselines = {name: named_estimator(name, model) for name in BASELINES}
        about = {
            "base_model": options.checkpoint.resolve().parent.name,
            "checkpoint": describe_checkpoints([options.checkpoint]),
        }
        results = evaluate(
            settings(model, variables) | baselines,
            variables,
            source,
            options.out / "results.jsonl",
            protocol=PROTOCOLS["median"],
            about=about,
            progress=sys.stderr.isatty(),
        )
        table = tabulate(summarize(results))
        write_text(options.out / "settings.md", table.to_markdown())
        write_text(options.out / "settings.csv", table.to_csv())
        print(table.to_markdown())
    except (GrumoError, OSError) as error:
        print(one_sentence(error), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
