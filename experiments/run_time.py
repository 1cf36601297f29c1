"""Run time: milliseconds and frames per second of every estimator, one image at a time.

Command: python experiments/run_time.py
         python experiments/run_time.py --checkpoint checkpoints/M/Post --rounds 50
Data:    none. The weights do not matter to the time: they are drawn, unless a checkpoint is named.
Time:    one CPU core, 5 minutes for 192×640 and 15 rounds. GPU: not measured yet.
Table:   the papers' comparison of run times. Estimators take turns, the median round counts;
         "forward passes" is the time in units of a plain prediction. Pinned to one core.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from common import write_text

from grumo_jax import (
    ConstantBaseline,
    Ensemble,
    Monodepth2,
    load_checkpoint,
    named_estimator,
    stack_variables,
)
from grumo_jax.report import Column, Table

FORWARD = "forward"
NAMES = ("post", "grad", "var", "in-drop", "grad-averaged")
MEMBERS = 8


def main(arguments: Sequence[str] | None = None) -> Table:
    """Measure and write run_time.md and run_time.csv."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a network to time; drawn by default")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 640), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--estimator", nargs="+", default=NAMES)
    parser.add_argument("--out", type=Path, default=Path("results/run_time"))
    options = parser.parse_args(arguments)
    images = jax.random.uniform(jax.random.key(0), (1, *options.size, 3))
    if options.checkpoint:
        model, variables = load_checkpoint(options.checkpoint)
    else:
        model = Monodepth2()
        variables = jax.jit(model.init)(jax.random.key(1), images)
    several = stack_variables([variables] * MEMBERS)
    # A plain prediction with nothing made of it.
    estimators: dict[str, Any] = {FORWARD: ConstantBaseline(model)}
    estimators |= {name: named_estimator(name, model) for name in options.estimator}
    calls = {name: (estimator, variables) for name, estimator in estimators.items()}
    calls[f"ensemble of {MEMBERS}"] = (Ensemble(model), several)
    table = make_table(measure(calls, images, options.rounds), options)
    write_text(options.out / "run_time.md", table.to_markdown())
    write_text(options.out / "run_time.csv", table.to_csv())
    print(table.to_markdown())
    return table


def measure(
    calls: Mapping[str, tuple[Any, Any]], images: jax.Array, rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of each round by name; a first call, which compiles, does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, (estimator, variables) in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(estimator(variables, images, jax.random.key(number)))
            times[name] += [1000 * (time.perf_counter() - start)] * bool(number)
    return times


def make_table(times: Mapping[str, Sequence[float]], options: argparse.Namespace) -> Table:
    """A row for each estimator."""
    forward = statistics.median(times[FORWARD])
    rows = [
        (name, middle, min(found), max(found), 1000 / middle, middle / forward)
        for name, found in times.items()
        for middle in [statistics.median(found)]
    ]
    columns = (
        Column("estimator"),
        Column("ms, median", "lower", 1),
        Column("fastest", digits=1),
        Column("slowest", digits=1),
        Column("frames/s", "higher", 1),
        Column("forward passes", "lower", 2),
    )
    network = options.checkpoint.name if options.checkpoint else "Monodepth2, ResNet-18, drawn"
    height, width = options.size
    note = (
        f"{network}; {height}×{width}, batch 1, float32, {options.rounds} rounds; "
        f"{jax.devices()[0].device_kind} on {platform.machine()}, jax {jax.__version__}."
    )
    return Table("Run time of one image", columns, rows, [note], name="run_time")


def pin() -> None:
    """Keep to one core, where the system can do that, before jax counts the cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


if __name__ == "__main__":
    pin()
    main()
