"""The papers' ablation in one pass, beside its settings one by one.

    python benchmarks/ablation.py --rounds 7

Monodepth2 (ResNet-18), one image with ground truth at as many points as a laser scan has; AUSE of
11 layers × 4 reductions × (flip, gray, noise, rotate, variance). One by one: this library's
estimator and metrics, and the plain PyTorch procedure with the NumPy loop of
sparsification_vs_numpy.py. There the costs of a setting hardly depend on its reduction, so that
one is measured, for each signal, at the coarsest layer and at the head, and their mean is counted
for the signal's 44 settings. Pinned to one core, taking turns, freed memory kept. Needs PyTorch
(extra: convert).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

from grumo_jax.cli.memory import keep_memory

keep_memory()

import jax
import jax.numpy as jnp
import numpy as np
import torch
from sparsification_vs_numpy import loop
from torch_monodepth2 import REFERENCES, Monodepth2, gradient_uncertainty

import grumo_jax
from grumo_jax.ablation import Grid, ablate_settings

SIZE, POINTS = (192, 640), 18_000
ENDS = {"0": 0, "10": 10}
"""The coarsest layer and the head: names and numbers."""

Way = Callable[[], Any]


def main() -> None:
    """Check that both agree, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Monodepth2().eval()
    rng = np.random.default_rng(0)
    pixels = rng.random((1, *SIZE, 3), np.float32)
    truth = np.zeros(SIZE, np.float32)
    truth.flat[rng.choice(truth.size, POINTS, replace=False)] = rng.uniform(0.2, 4, POINTS)
    ours = ways_of_ours(*grumo_jax.port_monodepth2(*network.arrays()), jnp.asarray(pixels), truth)
    plain = ways_of_pytorch(network, torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), truth)
    seconds: dict[str, list[float]] = {name: [] for name in ours | plain}
    for way in (ours | plain).values():
        way()
    np.testing.assert_allclose(ours["flip 0"](), plain["PyTorch flip 0"](), atol=2e-3)
    for _ in range(options.rounds):
        for name, way in (ours | plain).items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    report({name: 1000 * statistics.median(values) for name, values in seconds.items()})


def ways_of_ours(
    model: Any, variables: Any, images: jax.Array, truth: np.ndarray
) -> dict[str, Way]:
    """All together, and one setting at a time."""
    known = jnp.asarray(np.flatnonzero(truth))
    rows = jnp.asarray(truth.ravel()[np.flatnonzero(truth)])[None, None]

    def area(depth: jax.Array, uncertainty: jax.Array) -> jax.Array:
        """AUSE of abs_rel; a list of points is a map of one row."""
        points = (m.reshape(1, 1, -1)[..., known] for m in (depth, uncertainty))
        return grumo_jax.sparsification(rows, *points).ause["abs_rel"]

    def together(**options: Any) -> Way:
        grid = Grid.of(model, variables, images, **options)

        @jax.jit
        def run(variables: Any, images: jax.Array) -> Any:
            return ablate_settings(grid, model, variables, images, area, jax.random.key(0))

        return lambda: np.asarray(run(variables, images))

    def alone(estimator: grumo_jax.GradientUncertainty) -> Way:
        @jax.jit
        def run(variables: Any, images: jax.Array) -> Any:
            estimate = estimator(variables, images, jax.random.key(0))
            return area(estimate.depth, estimate.uncertainty)

        return lambda: np.asarray(run(variables, images))[0]

    flip: dict[str, Any] = {"references": {"flip": grumo_jax.Flip()}, "losses": ["squared"]}
    ends = Grid.of(model, variables, images, layers=list(ENDS), reductions=["max"])
    names = [f"{signal.name} {layer}" for signal in ends.signals for layer in ENDS]
    estimators = ends.estimators(model)
    return {
        "layer 0 alone": together(layers=["0"], reductions=["max"], **flip),
        "11 layers × 4 reductions": together(**flip),
        "the whole grid": together(),
        **{name: alone(e) for name, e in zip(names, estimators, strict=True)},
    }


def ways_of_pytorch(network: Monodepth2, images: torch.Tensor, truth: np.ndarray) -> dict[str, Way]:
    """The plain procedure, one setting at a time."""
    known = np.flatnonzero(truth)

    def way(layer: int, references: Any, variance: bool) -> Way:
        def run() -> float:
            depth, uncertainty = gradient_uncertainty(
                network, images, layer=layer, references=references, variance=variance
            )
            points = (m.numpy().ravel()[known] for m in (depth, uncertainty))
            return loop(truth.ravel()[known], *points)["abs_rel"]

        return run

    signals: dict[str, Any] = {name: ([pair], False) for name, pair in REFERENCES.items()}
    signals["variance"] = (list(REFERENCES.values()), True)
    return {
        f"PyTorch {name} {layer}": way(number, *signal)
        for name, signal in signals.items()
        for layer, number in ENDS.items()
    }


def report(ms: dict[str, float]) -> None:
    """Print the table of medians."""
    signals = [*REFERENCES, "variance"]
    one_by_one = {
        what: 44
        * sum(statistics.mean(ms[f"{prefix}{s} {layer}"] for layer in ENDS) for s in signals)
        for what, prefix in (("grumo_jax", ""), ("PyTorch and NumPy", "PyTorch "))
    }
    print(f"{jax.devices()[0].platform}, jax {jax.__version__}, torch {torch.__version__}")
    alone, grid = ms["layer 0 alone"], ms["the whole grid"]
    print(f"flip, layer 0, max: {alone:.0f} ms")
    both = ms["11 layers × 4 reductions"]
    print(f"flip, 11 layers × 4 reductions: {both:.0f} ms, {both / alone:.2f} × as much")
    print(f"whole grid, 220 settings: {grid:.0f} ms, {grid / 220:.1f} ms a setting")
    for what, total in one_by_one.items():
        print(f"one by one, {what}: {total / 1000:.0f} s, {total / grid:.0f} × as much")


if __name__ == "__main__":
    main()
