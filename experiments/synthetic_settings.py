"""Why Grad does not lead: its settings one at a time, on the streets of the synthetic world.

Command: python experiments/synthetic_settings.py RUNS/Repr_0/model --data-dir WORLD --limit 60
Data:    street/test; depths up to 80 m, median scaling. Any Monodepth2 checkpoint.
Time:    2 minutes for 60 clips on one CPU core.
Result:  docs/leaderboard.md, "Where Grad does not lead". Written: settings.md and .csv, with the
         leaderboard's measures.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import mistakes_in_one_sentence, write_text
from synthetic import measures_of, open_clips

from grumo_jax import (
    FeatureDropout,
    GradientUncertainty,
    Gray,
    Noise,
    Rotate,
    choose_layers,
    load_checkpoint,
)
from grumo_jax.estimators import BASELINES, named_estimator
from grumo_jax.evaluation import PROTOCOLS, evaluate
from grumo_jax.evaluation.checkpoints import describe_checkpoints
from grumo_jax.report import Column, Summary, Table, summarize
from grumo_jax.report.table import Value


def settings(model: Any, variables: Any) -> dict[str, GradientUncertainty]:
    """The papers' recipe, the same without the weight of log σ, and single changes to that."""
    images = np.zeros((1, *model.input_size, 3), np.float32)
    layers = choose_layers(model.as_depth_network(), variables, images, "decoder")
    changes: dict[str, dict[str, Any]] = {
        "without log σ": {},
        "log depth": {"space": "log_depth"},
        "disparity": {"space": "disparity"},
        "gray": {"references": Gray()},
        "noise": {"references": Noise()},
        "rotate": {"references": Rotate()},
        "feature dropout": {"references": FeatureDropout()},
        **{f"layer {number}": {"layers": layer} for number, layer in enumerate(layers)},
    }
    plain = {name: GradientUncertainty(model, **change) for name, change in changes.items()}
    return {
        "papers": GradientUncertainty.paper(model),
        **plain,
        "variance loss": GradientUncertainty.variance(model),
        "averaged": GradientUncertainty.averaged(model),
        "averaged, without log σ": GradientUncertainty.averaged(model, uncertainty_weight=0.0),
    }


def tabulate(summary: Summary) -> Table:
    """The leaderboard's measures, a row for each setting."""
    measures = {name: measures_of(summary, name) for name in summary.estimators}
    rows: list[list[Value]] = [[name, *found.values()] for name, found in measures.items()]
    columns = [Column("setting"), *map(Column, next(iter(measures.values())))]
    title = f"Settings of Grad, {summary.base_model}; clips: {len(summary.images)}"
    return Table(title, columns, rows, name="settings")


def main() -> None:
    """Evaluate all settings together, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the world is prepared")
    parser.add_argument("--split", default="street/test")
    parser.add_argument("--limit", type=int, help="evaluate so many clips, at even distances")
    parser.add_argument("--out", type=Path, default=Path("results/synthetic_settings"))
    options = parser.parse_args()
    with mistakes_in_one_sentence():
        model, variables = load_checkpoint(options.checkpoint)
        source = open_clips(options.data_dir, options.split, options.limit)
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


if __name__ == "__main__":
    main()
