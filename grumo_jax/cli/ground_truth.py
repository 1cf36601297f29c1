"""What `grumo evaluate` and `grumo ablate` share: data with ground truth, and the protocol."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from grumo_jax.cli.messages import complain
from grumo_jax.cli.options import check_out
from grumo_jax.errors import GrumoError

DatasetOption = Annotated[str, typer.Option(help="kitti, nyu, synthetic or folder.")]
DataDirOption = Annotated[
    Path, typer.Option(help="What `grumo prepare` was given, or a folder of photos.")
]
ProtocolOption = Annotated[
    str,
    typer.Option(
        help="kitti-mono: median scaling. kitti-stereo: times 5.4. nyu: metres. For data of "
        "one's own: median or metric."
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="kitti: eigen, eigen_benchmark or velodyne. nyu: val. synthetic: street/test."
    ),
]
DepthDirOption = Annotated[
    Path | None, typer.Option(help="folder: true depth, .npy or 16-bit .png; see --pair.")
]
DepthScaleOption = Annotated[float, typer.Option(help="folder: units of a depth PNG to the metre.")]
PairOption = Annotated[
    str,
    typer.Option(
        help="folder: by name, or by order where photos and depth maps have different names."
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many images, at even distances.")
]
BatchSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Images at a time, of all devices together.")
]
Png16Option = Annotated[
    bool, typer.Option(help="Round as the papers' programs do, which score 16-bit files.")
]
SeedOption = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Of all random draws.", show_default=True)
]


def choose_protocol(protocol: str, dataset: str, png16: bool) -> Any:
    """The protocol, which must fit the data set."""
    from grumo_jax.evaluation import named_protocol

    chosen = dataclasses.replace(named_protocol(protocol), through_png16=png16)
    if dataset != "folder" and (dataset == "nyu") != (protocol == "nyu"):
        raise GrumoError(f"the protocol {protocol} is not for {dataset}; see --help")
    return chosen


def open_with_depth(
    dataset: str,
    data_dir: Path,
    split: str | None,
    depth_dir: Path | None,
    depth_scale: float,
    pair: str,
    limit: int | None,
) -> Any:
    """Open the data set, which must have ground truth."""
    from grumo_jax.data import at_most, open_source

    own: dict[str, Any] = {}
    if dataset == "folder":
        if split:
            raise GrumoError("--split is for kitti and nyu; a folder of photos has no splits")
        if depth_dir is None:
            raise GrumoError("a folder of photos needs its true depth: give --depth-dir")
        own = {"depth": depth_dir, "depth_scale": depth_scale, "pair": pair}
    elif depth_dir:
        raise GrumoError(f"--depth-dir is for --dataset folder; {dataset} has its own depth")
    elif pair != "name":
        raise GrumoError(f"--pair is for --dataset folder; {dataset} has its own depth")
    source = open_source(dataset, data_dir, split, **own)
    if not source.has_depth:
        raise GrumoError(f"{source.name} has no ground truth; evaluate another split")
    return at_most(source, limit)


def check_folder(out: Path, other: str) -> None:
    """Raise a `GrumoError` if results cannot be written there.

    Args:
        out: the folder.
        other: a file that it must not hold, since the tables would take the place of others.
    """
    check_out(out)
    if (out / other).exists():
        raise GrumoError(f"{out}: holds other results, {other}; choose another folder")


def report_problems(
    problems: Sequence[tuple[str, str]], empty: int, images: int, results: Path
) -> None:
    """Name the images that were left out; the exit status is 1 if some are damaged.

    Args:
        problems: (id, sentence) of damaged images.
        empty: number of images without valid pixels.
        images: number of images measured.
        results: the file that lists them.
    """
    if empty:
        complain(
            f"{empty} image{'s' * (empty > 1)} not counted: no true depth within the "
            "protocol's range; is it in metres?"
        )
    for _, sentence in problems:
        complain(f"left out {sentence}")
    if not images:
        raise GrumoError(f"not one image could be measured; {results} says why")
    if problems:
        complain(f"when they are mended, delete {results} and give the command again")
        raise typer.Exit(1)
