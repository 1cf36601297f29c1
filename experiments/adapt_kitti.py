"""Adapt a network of the synthetic world to real KITTI frames, self-supervised.

Command: python experiments/adapt_kitti.py --data-dir KITTI --init checkpoints/synthetic-mono
Data:    one drive of KITTI's raw data with both cameras and some laser scans. Trained on its first
         two thirds, without any depth; evaluated on all frames with a scan (projected velodyne,
         Eigen crop, 80 m, median scaling): those trained on, and those after them.
Time:    about 15 minutes on one shared core (51 frames, 1000 steps).
Result:  docs/results.md. Written: run/ (the training), before/ and after/ (tables, curves,
         pages), adaptation.md.

A proof that the training learns from real images; the network that comes of it is not for use: the
frames after the training part show the same street.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import mistakes_in_one_sentence, write_text

from grumo_jax import load_checkpoint
from grumo_jax.data import KittiRaw
from grumo_jax.data.kitti import KittiLayout
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import named_estimator
from grumo_jax.evaluation import PROTOCOLS, evaluate
from grumo_jax.report import Column, Summary, Table, summarize, write_report
from grumo_jax.training import Settings, Weights, preset, train

ESTIMATORS = ("grad", "grad-averaged", "post", "depth", "row")
COLUMNS = ("errors.abs_rel", "errors.rmse", "errors.a1", "ause.abs_rel")


def write_split(root: Path, drive: str, folder: Path) -> int:
    """Write the split files of a drive's first two thirds; return the first frame after them."""
    frames = sorted(KittiLayout(root).images(drive, 2))
    if len(frames) < 9:
        raise GrumoError(f"{root / drive}: {len(frames)} frames; expected at least 9")
    last = frames[2 * len(frames) // 3]
    # The frame after one is trained on as well.
    chosen = [n for n in frames if n - 1 in frames and n + 1 in frames and n + 1 < last]
    text = "".join(f"{drive} {n} l\n" for n in chosen)
    for part in ("train", "val"):
        write_text(folder / f"{part}_files.txt", text)
    return last


def settings_for(supervision: str, steps: int, init: Path) -> Settings:
    """Those of the small networks, at a low learning rate, for the network to start from."""
    model, _ = load_checkpoint(init)
    changes = {
        "dataset": "kitti",
        "train_split": "eigen_zhou/train",
        "validation_split": None,
        "size": model.input_size,
        "num_layers": model.num_layers,
        "encoder_widths": model.encoder_widths,
        "decoder_widths": model.decoder_widths,
        "min_depth": model.min_depth,
        "max_depth": model.max_depth,
        "steps": steps,
        "learning_rate": 2e-4,
        "warmup_steps": steps // 10,
        "statistics_batches": 8,
    }
    return preset(f"synthetic-{supervision}").replace(changes)


def measure(checkpoint: Path, source: KittiRaw, name: str, folder: Path) -> Summary:
    """Evaluate a network on the frames with a scan."""
    model, variables = load_checkpoint(checkpoint)
    results = evaluate(
        {estimator: named_estimator(estimator, model) for estimator in ESTIMATORS},
        variables,
        source,
        folder / "results.jsonl",
        protocol=PROTOCOLS["kitti-mono"],
        about={"base_model": name, "checkpoint": checkpoint.name},
        progress=sys.stderr.isatty(),
    )
    summary = summarize(results)
    write_report(folder, [summary])
    return summary


def compare(summaries: Mapping[str, Summary], last: int) -> Table:
    """Before and after, on frames of the training part and on later ones."""
    rows: list[Sequence[str | float]] = []
    for name, summary in summaries.items():
        for part, inside in (("trained on", True), ("later", False)):
            images = [
                i for i, frame in summary.images.items() if (int(frame.split()[1]) < last) == inside
            ]
            for estimator in ESTIMATORS:
                found = summary.estimators[estimator].scores.loc[images].mean()
                rows.append([name, part, len(images), estimator, *(found[c] for c in COLUMNS)])
    head = (Column("network"), Column("frames"), Column("number"), Column("estimator"))
    columns = (*head, *(Column(c.partition(".")[2] if "errors" in c else "AUSE") for c in COLUMNS))
    return Table("Adaptation to one KITTI drive", columns, rows, name="adaptation")


def main() -> None:
    """Evaluate, train, evaluate again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True, help="checkpoint to start from")
    parser.add_argument("--drive", default="2011_09_26/2011_09_26_drive_0009_sync")
    parser.add_argument("--supervision", default="mono", choices=("mono", "stereo", "mono-stereo"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results/adapt_kitti"))
    options = parser.parse_args()
    with mistakes_in_one_sentence():
        last = write_split(options.data_dir, options.drive, options.out / "split")
        source = KittiRaw(options.data_dir, "velodyne")
        before = measure(options.init, source, "before", options.out / "before")
        result = train(
            settings_for(options.supervision, options.steps, options.init),
            KittiRaw(options.data_dir, "eigen_zhou/train", split_files=options.out / "split"),
            options.out / "run",
            weights=Weights(init=options.init),
            progress=sys.stderr.isatty(),
        )
        after = measure(result.checkpoint, source, "after", options.out / "after")
        table = compare({"before": before, "after": after}, last)
        write_text(options.out / "adaptation.md", table.to_markdown())
        print(table.to_markdown())


if __name__ == "__main__":
    main()
