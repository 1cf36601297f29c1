"""What bfloat16 costs in accuracy: AUSE of the same network in both precisions.

    python benchmarks/bfloat16.py checkpoints/synthetic-mono --data-dir WORLD --limit 40

Prepared clips of the synthetic world, median scaling. Images whose forward pass runs in bfloat16
are measured as the others are, in float32.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import grumo_jax
from grumo_jax.data import at_most, open_source
from grumo_jax.estimators import Estimator, named_estimator
from grumo_jax.evaluation import PROTOCOLS, evaluate
from grumo_jax.report import Summary, summarize

NAMES = ("grad", "grad-averaged", "post", "var")
AREAS = ("errors.abs_rel", "ause.abs_rel", "ause.rmse", "ause.a1")


def main() -> None:
    """Evaluate twice and print both, and the differences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--split", default="street/test")
    parser.add_argument("--limit", type=int, default=40)
    options = parser.parse_args()
    source = at_most(open_source("synthetic", options.data_dir, options.split), options.limit)
    summaries = [measure(options.checkpoint, source, dtype) for dtype in (None, jnp.bfloat16)]
    print(f"{jax.devices()[0].platform}, jax {jax.__version__}, {source.name}")
    print("| estimator | " + " | ".join(AREAS) + " |\n|---|" + "---|" * len(AREAS))
    for name in NAMES:
        means = [summary.estimators[name].means for summary in summaries]
        cells = [f"{means[0][a]:.4f} → {means[1][a]:.4f}" for a in AREAS]
        print(f"| {name} | " + " | ".join(cells) + " |")


def measure(checkpoint: Path, source: Any, dtype: Any) -> Summary:
    """Means over all images in one precision."""
    model, variables = grumo_jax.load_checkpoint(checkpoint, dtype=dtype)
    estimators: dict[str, Estimator] = {name: named_estimator(name, model) for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        results = evaluate(estimators, variables, source, path, protocol=PROTOCOLS["median"])
        return summarize(results)


if __name__ == "__main__":
    main()
