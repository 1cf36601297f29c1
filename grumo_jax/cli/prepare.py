"""`grumo prepare`: pack downloaded files into data that load fast."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from grumo_jax.cli.messages import complain, say
from grumo_jax.errors import DataError


class PreparedDataset(StrEnum):
    """The data sets that can be prepared."""

    kitti = "kitti"
    nyu = "nyu"
    synthetic = "synthetic"


_DEFAULTS = {
    PreparedDataset.kitti: ("eigen", "eigen_benchmark"),
    PreparedDataset.nyu: ("val", "train"),
    PreparedDataset.synthetic: ("street", "room"),
}


def prepare(
    dataset: Annotated[PreparedDataset, typer.Argument(help="Which data set.")],
    data_dir: Annotated[
        Path,
        typer.Option(
            help="Folder with the downloaded, unpacked files; for synthetic, of the result."
        ),
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="kitti: eigen, eigen_benchmark, velodyne, eigen_zhou, moving. nyu: val, train "
            "(with held_out). synthetic: street, room. May be given several times; by default "
            "kitti's first two and all of the others', as far as they are there."
        ),
    ] = None,
    split_files: Annotated[
        Path | None, typer.Option(help="eigen_zhou: folder of train_files.txt and val_files.txt.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the result; by default DATA_DIR/prepared.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Prepare again even if the data have not changed.")
    ] = False,
) -> None:
    """Check what there is of a data set, and pack its splits into a few large files.

    Whatever is there of a data set is prepared, and what is missing is listed. A split that is
    there already, made from the same data, is left alone. Interrupted? Give the command again.
    The synthetic world is rendered: about 10 minutes for its streets on one core.
    Frames that cannot be read are named and left out; the exit status is then 1. Needs: pip
    install 'grumo-jax[data]'.

    Example: grumo prepare kitti --data-dir kitti_raw --split eigen
    """
    # Slow imports, which other commands do not need.
    from grumo_jax.data import prepared
    from grumo_jax.data.survey import survey

    for name in split or ():
        if name not in prepared.PARTS[dataset]:
            known = ", ".join(prepared.PARTS[dataset])
            raise DataError(f"{dataset} has no split {name!r} to prepare; there are: {known}")
    if dataset is PreparedDataset.synthetic:
        configs = list(dict.fromkeys(split or _DEFAULTS[dataset]))
    else:
        say(*survey(dataset, data_dir))
        configs = _choose(dataset, split, data_dir, split_files)
    out = data_dir / "prepared" if out is None else out
    damaged = sum(
        _prepare(dataset, name, data_dir, out, split_files, overwrite) for name in configs
    )
    if damaged:
        noun = "frame" if damaged == 1 else "frames"
        complain(f"{damaged} damaged {noun} left out")
        raise typer.Exit(1)


def _choose(
    dataset: PreparedDataset, split: list[str] | None, data_dir: Path, split_files: Path | None
) -> list[str]:
    """Print what each split lacks, and return those of which something exists."""
    from grumo_jax.data import prepared
    from grumo_jax.data.survey import survey_splits

    chosen = []
    for name in dict.fromkeys(split or _DEFAULTS[dataset]):
        present, lines = survey_splits(dataset, name, data_dir, split_files)
        say(*lines)
        if present:
            chosen.append(name)
        elif split:
            # The error of opening says best what is missing.
            first = next(iter(prepared.PARTS[dataset][name].values()))
            prepared.open_raw(dataset, data_dir, first, split_files=split_files)
    if not chosen:
        names = " and ".join(_DEFAULTS[dataset])
        raise DataError(f"{data_dir}: not one frame of {names} is complete; see what they lack")
    return chosen


def _prepare(
    dataset: PreparedDataset,
    config: str,
    data_dir: Path,
    out: Path,
    split_files: Path | None,
    overwrite: bool,
) -> int:
    """Prepare one configuration; return the number of damaged frames that were left out."""
    from grumo_jax.data import prepared

    with tqdm(desc=config, unit="frame", disable=not sys.stderr.isatty()) as progress:
        outcome = prepared.prepare(
            dataset,
            config,
            data_dir,
            out,
            split_files=split_files,
            overwrite=overwrite,
            report=lambda sentence: complain(f"left out {sentence}"),
            start=progress.reset,
            advance=progress.update,
        )
    counts = ", ".join(f"{count} in {name}" for name, count in outcome.counts.items())
    state = "already prepared" if outcome.reused else "prepared"
    say(f"{config}: {state} ({counts}) in {outcome.folder}")
    if outcome.reused:
        for key in outcome.damaged:
            complain(f"left out earlier: {key}")
    return len(outcome.damaged)
