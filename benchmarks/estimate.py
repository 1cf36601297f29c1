"""How long an evaluation will take and how much memory, from what `speed.py` measured.

    python benchmarks/speed.py --batches 1 8 --json time.json
    python benchmarks/speed.py --memory --json memory.json
    python benchmarks/estimate.py time.json --memory memory.json --data eigen --devices 8

Networks take the time that was measured, dealt out to the devices; metrics and the reading of
images (by threads, beside the network) are counted with what one core of `benchmarks/README.md`'s
machine needs for them. Measure on the machine that the evaluation is for.
"""

import argparse
import json
from pathlib import Path
from typing import Any

IMAGES = {"eigen": 697, "eigen_benchmark": 652, "nyu": 654}
SCORES = ("AUSE", "image evaluated")
"""Rows of `speed.py` that are no estimators."""
METRICS_MS, READING_MS = 42.0, 21.0
"""Of one image and estimator; of one image. See "Where the time of an evaluation goes"."""


def estimate(
    times: dict[str, Any], images: int, devices: int, workers: int
) -> dict[str, tuple[float, float]]:
    """{estimator: (seconds to compile, seconds for all images)}, by the best batch size.

    Args:
        times: what `speed.py` wrote.
        images: number of images.
        devices: that share them.
        workers: threads that read images.
    """
    found = {}
    first = next(iter(times["batches"].values()))
    for name in (row for row in first["compile_s"] if row not in SCORES):
        network = min(
            batch["ms"]["grumo_jax"][name] / int(size) for size, batch in times["batches"].items()
        )
        compiling = max(batch["compile_s"][name] for batch in times["batches"].values())
        an_image = max((network + METRICS_MS) / devices, READING_MS / max(workers, 1))
        found[name] = (compiling, images * an_image / 1000)
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("times", type=Path, help="file of speed.py --json")
    parser.add_argument("--memory", type=Path, help="file of speed.py --memory --json")
    parser.add_argument("--data", choices=IMAGES, default="eigen")
    parser.add_argument("--images", type=int, help="number of images, instead")
    parser.add_argument("--devices", type=int, default=1, help="of all processes together")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    times = json.loads(options.times.read_text())
    memory = json.loads(options.memory.read_text())["megabytes"] if options.memory else {}
    images = options.images or IMAGES[options.data]
    print(f"{images} images of {times['size'][0]}×{times['size'][1]}, {options.devices} devices\n")
    print("| estimator | compiling s | all images | MB a device and image |\n|---|---|---|---|")
    for name, (compiling, seconds) in estimate(
        times, images, options.devices, options.workers
    ).items():
        megabytes = memory.get(name, {}).get("grumo_jax", "not measured")
        minutes, rest = divmod(round(seconds), 60)
        print(f"| {name} | {compiling:.0f} | {minutes} min {rest:02d} s | {megabytes} |")


if __name__ == "__main__":
    main()
