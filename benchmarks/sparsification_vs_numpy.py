"""Sparsification of a full-size map: this library beside the straightforward NumPy loop.

    python benchmarks/sparsification_vs_numpy.py --rounds 9

A 375×1242 map with ground truth everywhere, float32. The loop takes 50 percentiles of −u, and the
metrics of what is kept, for each of three metrics and for each oracle. Pinned to one core where
the platform is a CPU, taking turns; both must agree.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import numpy as np

import grumo_jax

ERRORS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "abs_rel": lambda truth, depth: np.mean(np.abs(truth - depth) / truth),
    "rmse": lambda truth, depth: np.sqrt(np.mean((truth - depth) ** 2)),
    "a1": lambda truth, depth: np.mean(np.maximum(truth / depth, depth / truth) >= 1.25),
}
ORDERS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "abs_rel": lambda truth, depth: np.abs(truth - depth) / truth,
    "rmse": lambda truth, depth: (truth - depth) ** 2,
    "a1": lambda truth, depth: np.maximum(truth / depth, depth / truth),
}


def loop(truth: np.ndarray, depth: np.ndarray, uncertainty: np.ndarray) -> dict[str, float]:
    """AUSE of each metric, percentile by percentile."""
    areas = {}
    for metric, error in ERRORS.items():
        curves = []
        for order in (uncertainty, ORDERS[metric](truth, depth)):
            curve = []
            for percent in range(0, 100, 2):
                keep = -order >= np.percentile(-order, percent)
                curve.append(error(truth[keep], depth[keep]))
            curves.append(np.trapezoid([*curve, 0.0], np.linspace(0, 1, 51)))
        areas[metric] = curves[0] - curves[1]
    return areas


def main() -> None:
    """Check that both agree, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 80, (1, 375, 1242)).astype(np.float32)
    depth = (truth * rng.uniform(0.7, 1.4, truth.shape)).astype(np.float32)
    uncertainty = np.abs(truth - depth) + rng.uniform(0, 5, truth.shape).astype(np.float32)
    maps = [jax.numpy.asarray(m) for m in (truth, depth, uncertainty)]
    flat = [m.ravel() for m in (truth, depth, uncertainty)]
    compiled = jax.jit(grumo_jax.sparsification)

    def ours() -> dict[str, jax.Array]:
        return jax.block_until_ready(compiled(*maps)).ause

    def theirs() -> dict[str, float]:
        return loop(*flat)

    found, expected = ours(), theirs()
    for metric, area in expected.items():
        np.testing.assert_allclose(found[metric][0], area, atol=1e-4, err_msg=metric)
    seconds: dict[str, list[float]] = {"grumo_jax": [], "NumPy loop": []}
    for _ in range(options.rounds):
        for name, way in (("grumo_jax", ours), ("NumPy loop", theirs)):
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{jax.devices()[0].platform}, jax {jax.__version__}, NumPy {np.__version__}")
    for name, median in medians.items():
        print(f"{name:<12}{1000 * median:9.1f} ms")
    print(f"{medians['NumPy loop'] / medians['grumo_jax']:.1f} times as fast")


if __name__ == "__main__":
    main()
