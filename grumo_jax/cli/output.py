"""Write the results of `predict` and `demo` for a photo."""

import dataclasses
import errno
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

import numpy as np

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.errors import ImageError
from grumo_jax.images import DEPTH_PNG_SCALE, UNIT_PNG_SCALE, write_png16
from grumo_jax.networks.network import Quantity
from grumo_jax.plots import plot_panel
from grumo_jax.predictor import Prediction


class Format(StrEnum):
    """What is written for each photo; see `grumo predict --help`."""

    npz = "npz"
    npy = "npy"
    png = "png"
    panel = "panel"


ODD_NAMES = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR)
"""Errors due to a photo's name, which only affect its own results."""
_SUFFIXES = (
    ".npz",
    "_depth.npy",
    "_uncertainty.npy",
    "_depth.png",
    "_uncertainty.png",
    "_panel.png",
)


def check_apart(folder: Path, photos: Mapping[str, Path]) -> None:
    """Raise `ImageError` if a result would replace a photo.

    Args:
        folder: of the results.
        photos: {name of the results: photo}.
    """
    results = {
        os.path.realpath(folder / f"{name}{end}"): name for name in photos for end in _SUFFIXES
    }
    for photo in photos.values():
        if (name := results.get(os.path.realpath(photo))) is not None:
            raise ImageError(
                f"{photo}: a result of {photos[name]} would take its place; name another folder "
                "with --out"
            )


def write_prediction(
    folder: Path,
    name: str,
    photo: np.ndarray,
    prediction: Prediction,
    formats: Iterable[Format],
    predicts: Quantity,
) -> list[Path]:
    """Write one photo's results and return the files."""
    base, files = folder / name, []
    for chosen in dict.fromkeys(formats):
        match chosen:
            case Format.npz:
                files += _write_npz(base, prediction)
            case Format.npy:
                files += _write_npy(base, prediction)
            case Format.png:
                files += _write_png(base, prediction)
            case Format.panel:
                files += _write_panel(base, photo, prediction, predicts)
    return files


def _beside(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)


def _write_npz(base: Path, prediction: Prediction) -> list[Path]:
    file = _beside(base, ".npz")
    maps = dataclasses.asdict(prediction)
    write_atomically(file, lambda stream: np.savez_compressed(stream, **maps))
    return [file]


def _write_npy(base: Path, prediction: Prediction) -> list[Path]:
    depth, uncertainty = _beside(base, "_depth.npy"), _beside(base, "_uncertainty.npy")
    write_atomically(depth, lambda stream: np.save(stream, prediction.depth))
    write_atomically(uncertainty, lambda stream: np.save(stream, prediction.uncertainty))
    return [depth, uncertainty]


def _write_png(base: Path, prediction: Prediction) -> list[Path]:
    depth, uncertainty = _beside(base, "_depth.png"), _beside(base, "_uncertainty.png")
    write_png16(depth, prediction.depth, DEPTH_PNG_SCALE)
    largest = max(float(np.max(prediction.uncertainty)), 1.0)
    write_png16(uncertainty, prediction.uncertainty / largest, UNIT_PNG_SCALE)
    return [depth, uncertainty]


def _write_panel(
    base: Path, photo: np.ndarray, prediction: Prediction, predicts: Quantity
) -> list[Path]:
    figure = plot_panel(photo, prediction.depth, prediction.uncertainty, predicts=predicts)
    file = _beside(base, "_panel.png")
    write_atomically(file, lambda stream: figure.savefig(stream, dpi=110, format="png"))
    return [file]
