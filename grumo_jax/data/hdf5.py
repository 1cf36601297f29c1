"""Read arrays from untrusted HDF5 files; everything is checked before memory is allocated.

HDF5 files can refer to other files (external storage, external links, virtual data sets), load
filter plugins, and decompress to any size. All of these are refused.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grumo_jax._internal.files import open_regular
from grumo_jax.data.extras import need
from grumo_jax.errors import DataError

_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF = 1, 2, 3, 32000
_SLACK, _MOST_CHUNKS = 4096, 10_000


def read_arrays(
    file: Path, names: Sequence[str], check: Callable[[Mapping[str, Any]], None], *, what: str
) -> dict[str, np.ndarray]:
    """Read arrays from the root of an HDF5 file.

    Args:
        file: the file.
        names: names of the arrays.
        check: called with {name: array} before they are read; it sees `shape` and `dtype`, and
            raises a `DataError` if they are wrong.
        what: a description of the content, for error messages.

    Raises:
        DataError: if the file is missing or damaged, or an array is missing, fails `check`, is
            incomplete, or stored in another file.
    """
    h5py = need("h5py", f"reading {what}")
    try:
        with open_regular(file), h5py.File(file, "r") as content:
            arrays = {name: _find(h5py, content, name) for name in names}
            if None in arrays.values():
                raise DataError(f"not {what}; expected data sets {', '.join(names)}")
            check(arrays)
            for name, array in arrays.items():
                _check_storage(h5py, name, array)
            return {name: np.asarray(array) for name, array in arrays.items()}
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise DataError(f"{file}: {(error.strerror or 'not readable').lower()}") from error
        # HDF5 reports damage by errors of many classes.
        raise DataError(f"{file}: damaged or no HDF5 file; copy it again") from error


def _find(h5py: Any, content: Any, name: str) -> Any:
    link = content.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise DataError(f"{name} is a link, which may lead to other files and is not followed")
    array = None if link is None else content[name]
    return array if isinstance(array, h5py.Dataset) else None


def _check_storage(h5py: Any, name: str, array: Any) -> None:
    """Refuse arrays that are external, incomplete, or decompress to more than they declare."""
    properties = array.id.get_create_plist()
    if array.is_virtual or properties.get_external_count():
        raise DataError(f"{name} is kept in other files, which are not read")
    if properties.get_layout() != h5py.h5d.CHUNKED:
        if array.id.get_storage_size() < array.nbytes:
            raise DataError(f"{name} is incomplete; copy the file again")
        return
    _check_parts(
        name, array, [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    )


def _check_parts(name: str, array: Any, filters: Sequence[int]) -> None:
    """The same for a chunked array whose chunks went through these filters."""
    once = len(set(filters)) == len(filters) and not {_DEFLATE, _LZF} <= set(filters)
    if not once or not set(filters) <= {_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF}:
        raise DataError(
            f"{name} is packed in a way that is not read; save it with gzip, or as it is"
        )
    chunk = math.prod(array.chunks) * array.dtype.itemsize
    number = math.prod(-(-n // size) for n, size in zip(array.shape, array.chunks, strict=True))
    if chunk > 2 * array.nbytes + _SLACK or number > _MOST_CHUNKS:
        raise DataError(f"{name} is in parts of a size that makes no sense; copy the file again")
    if array.id.get_num_chunks() < number:
        raise DataError(f"{name} is incomplete; copy the file again")
    for i in range(number):
        stored = array.id.get_chunk_info(i)
        if stored.size > chunk + _SLACK or (
            _DEFLATE in filters and not _unpacks_to(array, stored, chunk)
        ):
            raise DataError(f"{name} unpacks to more than it declares, or is damaged")


def _unpacks_to(array: Any, stored: Any, most: int) -> bool:
    """Whether a zlib-compressed chunk decompresses to at most `most` bytes."""
    mask, data = array.id.read_direct_chunk(stored.chunk_offset)
    if mask:  # A chunk may skip filters.
        return len(data) <= most + _SLACK
    return len(zlib.decompressobj().decompress(data, most + _SLACK)) < most + _SLACK
