"""Read maps from untrusted .npy and .npz files; headers are checked before allocation."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from grumo_jax.errors import DataError

_MOST_ITEM_BYTES, _MOST_HEADER = 16, 2**20
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(stream: IO[bytes], path: Path, most: int) -> np.ndarray:
    """Read a map (H, W) of numbers from an open .npy file.

    Args:
        stream: the open file.
        path: its name in error messages.
        most: largest number of pixels.

    Raises:
        DataError: if it is damaged, no map of numbers, or declares more pixels.
    """
    with _noticing_damage(path):
        return _read_map(stream, path, most)


def read_npz(stream: IO[bytes], path: Path, most: int) -> np.ndarray:
    """Read the map called `depth`, or the only one, from an open .npz file; see `read_npy`."""
    with _noticing_damage(path), zipfile.ZipFile(stream) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if "depth" not in members and len(members) != 1:
            names = ", ".join(list(members)[:8]) or "nothing"
            raise DataError(f"{path}: holds {names}; expected an array called depth")
        info = members["depth" if "depth" in members else next(iter(members))]
        if info.file_size > _MOST_ITEM_BYTES * most + _MOST_HEADER:
            raise DataError(
                f"{path}: unpacks to {info.file_size / 2**20:,.0f} MB, more than a depth map "
                f"of {most:,} pixels has"
            )
        with archive.open(info) as member:
            return _read_map(member, path, most)


@contextmanager
def _noticing_damage(path: Path) -> Iterator[None]:
    """Turn what damage raises into one sentence.

    Headers are parsed as Python literals, so damage raises errors of many classes.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: damaged or no numpy file; copy it again") from error


def _read_map(stream: IO[bytes], path: Path, most: int) -> np.ndarray:
    shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    if len(shape) != 2 or dtype.kind not in "fiu" or min(shape) < 1:
        raise DataError(f"{path}: {dtype} {shape} is no depth map; expected (height, width)")
    check_pixels(shape, path, most)
    count = math.prod(shape)
    data = stream.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise DataError(
            f"{path}: {len(data)} bytes of {count * dtype.itemsize} are there; copy it again"
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def check_pixels(shape: Sequence[int], path: Path, most: int) -> None:
    """Raise `DataError` if a map (height, width) has more than `most` pixels."""
    if math.prod(shape) > most:
        raise DataError(
            f"{path}: declares {shape[1]}×{shape[0]} pixels; expected {most:,} at most, which are "
            "those of its photo or, without one, of the largest that is read"
        )
