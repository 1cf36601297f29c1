"""Where the time of an evaluation goes: loading, network, or metrics.

    python benchmarks/evaluation_split.py kitti_raw --split velodyne
    python benchmarks/evaluation_split.py nyu --dataset nyu

Monodepth2 (ResNet-18, drawn weights) with Grad on real files, one image at a time, pinned to one
core where the platform is a CPU. Medians over images, after compilation; loading without reading
ahead, so that its whole cost shows.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax

import grumo_jax
from grumo_jax.data import open_source
from grumo_jax.evaluation import PROTOCOLS
from grumo_jax.evaluation.evaluate import Run
from grumo_jax.evaluation.rows import to_row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--dataset", choices=("kitti", "nyu"), default="kitti")
    parser.add_argument("--split")
    parser.add_argument("--images", type=int, default=12)
    options = parser.parse_args()
    source = open_source(options.dataset, options.data_dir, options.split)
    protocol = PROTOCOLS["kitti-mono" if options.dataset == "kitti" else "nyu"]
    model = grumo_jax.Monodepth2()
    images = jax.ShapeDtypeStruct((1, *protocol.size, 3), "float32")
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    key = jax.random.key(1)
    variables: Any = jax.tree.map(lambda s: 0.02 * jax.random.normal(key, s.shape), shapes)
    variables["batch_stats"] = jax.tree.map(jax.numpy.ones_like, variables["batch_stats"])
    estimators = {"grad": grumo_jax.GradientUncertainty.paper(model)}
    one = jax.devices()[:1]
    run = Run.of(estimators, variables, source, protocol, batch_size=1, devices=one)
    seconds: dict[str, list[float]] = {"loading": [], "network": [], "metrics": [], "row": []}

    def timed(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = jax.block_until_ready(function(*arguments))
        seconds[name].append(time.perf_counter() - start)
        return result

    def read(place: int) -> Any:
        return run.batches.prepare(source[place])

    for i in range(-1, options.images):  # the first compiles
        prepared = [timed("loading", read, max(i, 0) % len(source))]
        estimates = timed("network", run.estimate, prepared)
        measures = jax.device_get(timed("metrics", run.measure, estimates, prepared))
        timed("row", to_row, i, "", prepared[0].size, measures, 0)
    print(f"{jax.devices()[0].platform}, jax {jax.__version__}, {source.name}, {protocol.name}")
    medians = {name: 1000 * statistics.median(values[1:]) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<10}{median:8.1f} ms{100 * median / sum(medians.values()):7.1f} %")


if __name__ == "__main__":
    main()
