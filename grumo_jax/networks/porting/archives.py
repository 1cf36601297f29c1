"""Check PyTorch's zip archives before PyTorch reads them."""

import zipfile
import zlib
from pathlib import Path

from grumo_jax.errors import WeightsError

_MAGIC = b"PK\x03\x04"
LARGEST_RATIO, SMALL = 4, 2**26
"""A file's content may be larger than the file by this factor plus this many bytes."""


def is_archive(path: Path) -> bool:
    """Whether PyTorch would read the file as a zip archive."""
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def check_archive(path: Path) -> bool:
    """Check an archive's sizes and checksums; PyTorch ignores the latter.

    Returns:
        Whether all entries are stored uncompressed, as PyTorch does, so that the file can be
        memory-mapped.

    Raises:
        WeightsError: if an entry is damaged, or they unpack to far more than the file holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            check_size(path, sum(entry.file_size for entry in entries))
            for entry in entries:
                _check_entry(archive, entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{path}: damaged ({error}); copy it again") from error
    return all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def check_size(path: Path, needed: int) -> None:
    """Raise a `WeightsError` for a file that needs far more memory than its size."""
    size = path.stat().st_size
    if needed > LARGEST_RATIO * size + SMALL:
        raise WeightsError(
            f"{path}: refused, since it has {size / 1e6:.3g} MB and would take {needed / 1e6:.3g} "
            "MB of memory, as weights do not"
        )


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    with archive.open(entry) as stream:
        while stream.read(2**20):
            pass
