"""How many photos per second are read, decoded and resized: original files or prepared ones?

    python benchmarks/loading.py kitti_raw --split velodyne
    python benchmarks/loading.py nyu --dataset nyu

Each photo is resized to the network's size with Lanczos' filter (192×640 for KITTI; NYU's is
halved and cropped), beside its depth map. Prepared data are made in a temporary folder first.
Ways take turns; of every way the median round counts.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from grumo_jax.data import (
    Problem,
    Sample,
    Source,
    center_crop,
    half_size,
    load,
    open_prepared,
    open_source,
    prepare,
)
from grumo_jax.images import resize_photo

SIZE = (192, 640)


def for_kitti(sample: Sample) -> tuple[np.ndarray, np.ndarray | None]:
    """Resize the photo; depth stays at its own size."""
    return resize_photo(sample.image, SIZE), sample.depth


def for_nyu(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Halve and crop both, as the protocol does."""
    assert sample.depth is not None
    image, depth = (center_crop(half_size(array)) for array in (sample.image, sample.depth))
    return np.asarray(image, np.float32) / 255, depth


def measure(source: Source, transform: Callable[[Sample], Any], workers: int, frames: int) -> float:
    """Photos per second of one pass over `frames` photos, starting again at the end."""
    start = time.perf_counter()
    items = load(source, transform, workers=workers, repeat=True)
    problems = sum(isinstance(item, Problem) for item in itertools.islice(items, frames))
    seconds = time.perf_counter() - start
    if problems:
        raise SystemExit(f"{problems} of {frames} photos cannot be read")
    return frames / seconds


def main() -> None:
    """Measure all ways, taking turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path, help="original files")
    parser.add_argument("--dataset", choices=("kitti", "nyu"), default="kitti")
    parser.add_argument("--split", default=None, help="by default velodyne or val")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    dataset, split = options.dataset, options.split
    split = split or {"kitti": "velodyne", "nyu": "val"}[dataset]
    transform = for_kitti if dataset == "kitti" else for_nyu
    with tempfile.TemporaryDirectory() as out:
        prepare(dataset, split, options.data_dir, out)
        sources: dict[str, Source] = {
            "original files": open_source(dataset, options.data_dir, split, raw=True),
            "prepared": open_prepared(dataset, out, split),
        }
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(options.rounds):
            for (name, source), workers in itertools.product(sources.items(), (0, 1, 2)):
                rate = measure(source, transform, workers, options.frames)
                rates.setdefault((name, workers), []).append(rate)
    count = len(sources["original files"])
    print(f"{dataset}/{split}: {count} photos, {len(os.sched_getaffinity(0))} cores")
    for (name, workers), values in rates.items():
        print(f"{name:<16}{workers} workers{statistics.median(values):8.1f} photos/s")


if __name__ == "__main__":
    main()
