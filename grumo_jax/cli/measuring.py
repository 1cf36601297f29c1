"""Shared by `grumo evaluate` and `grumo ablate`: options, opening inputs, problems."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from grumo_jax._internal.hosts import join
from grumo_jax.cli.messages import complain
from grumo_jax.cli.options import HostsOption, WorkersOption, check_out
from grumo_jax.errors import GrumoError


class Opened(NamedTuple):
    """The opened inputs of a run.

    Attributes:
        model, variables: of the checkpoint; those of several are stacked.
        source: the images.
        protocol: which pixels count.
        options: the other keywords of a run, see `grumo_jax.evaluation.RunOptions`.
    """

    model: Any
    variables: Any
    source: Any
    protocol: Any
    options: Any


@dataclass(frozen=True)
class MeasuringOptions:
    """The options of both commands, for `with_options`."""

    dataset: Annotated[str, typer.Option(help="kitti, nyu, synthetic or folder.")]
    data_dir: Annotated[
        Path, typer.Option(help="What `grumo prepare` was given, or a folder of photos.")
    ]
    protocol: Annotated[
        str,
        typer.Option(
            help="kitti-mono: median scaling. kitti-stereo: times 5.4. nyu: metres. For data of "
            "one's own: median or metric."
        ),
    ]
    split: Annotated[
        str | None,
        typer.Option(
            help="kitti: eigen, eigen_benchmark or velodyne. nyu: val. synthetic: street/test."
        ),
    ] = None
    base_model: Annotated[
        str | None, typer.Option(help="Name in tables; the checkpoint's by default.")
    ] = None
    depth_dir: Annotated[
        Path | None, typer.Option(help="folder: true depth, .npy or 16-bit .png; see --pair.")
    ] = None
    depth_scale: Annotated[
        float, typer.Option(help="folder: units of a depth PNG to the metre.")
    ] = 256
    pair: Annotated[
        str,
        typer.Option(
            help="folder: by name, or by order where photos and depth maps have different names."
        ),
    ] = "name"
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, at even distances.")
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time, of all devices together.")
    ] = None
    png16: Annotated[
        bool, typer.Option(help="Round as the papers' programs do, which score 16-bit files.")
    ] = False
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all random draws.")] = 0
    workers: WorkersOption = 2
    hosts: HostsOption = None

    def open(self, checkpoints: Sequence[Path], out: Path, other: str) -> Opened:
        """Join the other processes, and open data and checkpoints.

        Args:
            checkpoints: one, or several as an ensemble.
            out: the folder for results.
            other: a file that `out` must not hold, see `check_folder`.

        Raises:
            GrumoError: if the options do not fit together, or something cannot be opened.
        """
        # A slow import, which other commands do not need.
        from grumo_jax.evaluation.checkpoints import describe_checkpoints, load_members

        check_folder(out, other)
        if self.hosts:
            join(self.hosts)
        protocol, source = self._protocol(), self._source()
        model, variables = load_members(checkpoints)
        about = {
            "base_model": self.base_model or checkpoints[0].resolve().name,
            "checkpoint": describe_checkpoints(checkpoints),
        }
        options = {
            "about": about,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "workers": self.workers,
            "progress": sys.stderr.isatty(),
        }
        return Opened(model, variables, source, protocol, options)

    def _protocol(self) -> Any:
        """The protocol, which must fit the data set."""
        from grumo_jax.evaluation import named_protocol

        chosen = dataclasses.replace(named_protocol(self.protocol), through_png16=self.png16)
        if self.dataset != "folder" and (self.dataset == "nyu") != (self.protocol == "nyu"):
            raise GrumoError(f"the protocol {self.protocol} is not for {self.dataset}; see --help")
        return chosen

    def _source(self) -> Any:
        """The data set, which must have ground truth."""
        from grumo_jax.data import at_most, open_source

        own: dict[str, Any] = {}
        if self.dataset == "folder":
            if self.split:
                raise GrumoError("--split is for kitti and nyu; a folder of photos has no splits")
            if self.depth_dir is None:
                raise GrumoError("a folder of photos needs its true depth: give --depth-dir")
            own = {"depth": self.depth_dir, "depth_scale": self.depth_scale, "pair": self.pair}
        else:
            for option, given in (("depth-dir", self.depth_dir), ("pair", self.pair != "name")):
                if given:
                    raise GrumoError(
                        f"--{option} is for --dataset folder; {self.dataset} has its own depth"
                    )
        source = open_source(self.dataset, self.data_dir, self.split, **own)
        if not source.has_depth:
            raise GrumoError(f"{source.name} has no ground truth; evaluate another split")
        return at_most(source, self.limit)


def check_folder(out: Path, other: str) -> None:
    """Raise a `GrumoError` if results cannot be written to a folder.

    Args:
        out: the folder.
        other: the other command's results file, whose tables would be replaced.
    """
    check_out(out)
    if (out / other).exists():
        raise GrumoError(f"{out}: holds other results, {other}; choose another folder")


def report_problems(
    problems: Sequence[tuple[str, str]], empty: int, images: int, results: Path
) -> None:
    """Name the images that were left out; exit with status 1 if some are damaged.

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
