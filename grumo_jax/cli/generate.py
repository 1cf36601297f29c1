"""`grumo generate`: the synthetic world in the layouts of the real data sets."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from grumo_jax.cli.messages import say
from grumo_jax.errors import DataError


class GeneratedDataset(StrEnum):
    """The data set whose layout is written."""

    kitti = "kitti"
    nyu = "nyu"


def generate(
    dataset: Annotated[GeneratedDataset, typer.Argument(help="Which data set's layout.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write to, new or empty.")],
    drives: Annotated[
        int | None, typer.Option(help="kitti: number of drives, 1 to 28; 2 by default.")
    ] = None,
    frames: Annotated[
        int, typer.Option(help="kitti: number of frames of each drive. nyu: of the split val.")
    ] = 4,
    train: Annotated[
        int, typer.Option(min=0, help="kitti: drives for training, 20 frames each. nyu: frames.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the scenes.")] = 0,
) -> None:
    """Write generated pictures with exact depth, laid out as KITTI or NYU Depth V2.

    Every command that reads the real data reads these: random streets with laser scans, improved
    ground truth and both cameras, under names of the Eigen test split, and drives to train on; or
    random rooms. They are for trying things; numbers on them say nothing about real photos.
    Existing files are never overwritten. Interrupted? Give the command again: it continues.

    Example: grumo generate kitti generated_kitti --drives 2 --frames 4
    """
    # A slow import, which other commands do not need.
    from grumo_jax.synthetic.layouts import DRIVE_FRAMES, write_kitti, write_nyu

    if drives is not None and dataset is GeneratedDataset.nyu:
        raise DataError("--drives is for kitti; nyu has --frames and --train")
    number = frames + train
    if dataset is GeneratedDataset.kitti:
        number = frames * (2 if drives is None else drives) + DRIVE_FRAMES * train
    with tqdm(total=number, unit="frame", disable=not sys.stderr.isatty()) as bar:
        if dataset is GeneratedDataset.kitti:
            drives = 2 if drives is None else drives
            options: Any = {"drives": drives, "frames": frames, "train": train, "seed": seed}
            write_kitti(folder, **options, advance=bar.update)
        else:
            write_nyu(folder, val=frames, train=train, seed=seed, advance=bar.update)
    say(f"{number} frame{'s' * (number > 1)} in {folder}")
    say(f"next: grumo prepare {dataset} --data-dir {folder}")
