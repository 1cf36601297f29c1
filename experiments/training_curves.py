"""Draw the curves of trainings: loss, and depth error on held-out scenes.

Command: python experiments/training_curves.py RUNS/mono RUNS/depth --out docs/images/training.png
Data:    log.csv and validation.csv of folders that `grumo train` wrote, finished or not.
Time:    seconds.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.cli.messages import one_sentence
from grumo_jax.errors import GrumoError

SMOOTHING = 25
"""Rows of the log that are averaged."""


def read_columns(file: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file of numbers, by heading.

    Raises:
        GrumoError: if there is no such file, or there are no rows in it.
    """
    if not file.is_file():
        raise GrumoError(f"{file}: no such file; expected the folder of a `grumo train` run")
    with file.open() as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise GrumoError(f"{file}: no rows yet; train on")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def smooth(values: np.ndarray) -> np.ndarray:
    """Mean over the last `SMOOTHING` values, fewer at the beginning.

    >>> smooth(np.array([1.0, 3.0])).tolist()
    [1.0, 2.0]
    """
    total = np.cumsum(np.concatenate([[0.0], values]))
    first = np.maximum(np.arange(len(values)) - SMOOTHING + 1, 0)
    ends = np.arange(len(values)) + 1
    return (total[ends] - total[first]) / (ends - first)


def draw(runs: Sequence[Path]) -> Figure:
    """Loss (relative to its start, since losses differ in kind), and abs_rel and a1."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    loss, error, share = figure.subplots(1, 3)
    for run in runs:
        log = read_columns(run / "log.csv")
        smoothed = smooth(log["loss"])
        loss.plot(log["step"], smoothed / smoothed[0], label=run.name)
        if (run / "validation.csv").is_file():
            found = read_columns(run / "validation.csv")
            for axis, name in ((error, "abs_rel"), (share, "a1")):
                if name in found:
                    axis.plot(found["step"], found[name], marker=".", label=run.name)
    titles = ("loss, relative to its start", "abs_rel, held out ↓", "a1, held out ↑")
    for axis, title in zip((loss, error, share), titles, strict=True):
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    error.set_ylim(0, 0.5)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("training.png"))
    options = parser.parse_args()
    try:
        figure = draw(options.runs)
    except GrumoError as error:
        print(one_sentence(error), file=sys.stderr)
        sys.exit(2)
    write_atomically(options.out, lambda stream: figure.savefig(stream, format="png", dpi=90))


if __name__ == "__main__":
    main()
