"""Reading: regular files only, and every file below a folder listed once."""

import errno
import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from grumo_jax.errors import GrumoWarning


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a regular file for reading.

    Raises:
        OSError: if it does not exist or is something else. Reading a pipe, device or socket could
            block for ever or never end.
    """
    _check_regular(path, os.stat(path))
    # The path may have been replaced meanwhile: opening a pipe must not block.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_regular(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def _check_regular(path: str | Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "a pipe, device or socket, not a file", str(path))


def walk_files(root: Path, *, leave_out: Path | None = None) -> list[Path]:
    """List all files below a folder, sorted; hidden files are left out.

    Symbolic links to folders are followed, last. Each folder is visited once, however many links
    lead to it: cycles end, and no file is listed twice.

    Args:
        root: the folder.
        leave_out: a folder below it to skip.
    """
    found: list[Path] = []
    links, seen = [str(root)], set[str]()
    while links:
        for folder, folders, names in os.walk(links.pop(0), onerror=_warn):
            real = os.path.realpath(folder)
            if real in seen or (leave_out is not None and lies_in(folder, leave_out)):
                folders.clear()
                continue
            seen.add(real)
            paths = [os.path.join(folder, name) for name in sorted(folders)]
            links += [path for path in paths if os.path.islink(path)]
            found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def lies_in(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is a folder or lies below it, after links are resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _warn(error: OSError) -> None:
    reason = (error.strerror or "not readable").lower()
    warnings.warn(
        GrumoWarning(f"{error.filename}: {reason}; what is in it is left out"), stacklevel=2
    )


def suffixes_among(files: Iterable[Path], suffixes: Iterable[str]) -> Iterator[str]:
    """The suffix of each file whose suffix is among these, in lower case."""
    wanted = frozenset(suffixes)
    return (file.suffix.lower() for file in files if file.suffix.lower() in wanted)


def count_kinds(suffixes: Iterable[str]) -> str:
    """Describe how many files of which unsupported kinds there are; "" for none.

    >>> count_kinds([".gif", ".heic", ".gif"])
    '3 files of kinds that are not read: .gif (2), .heic'
    """
    counts = Counter(suffixes)
    kinds = (f"{kind} ({n})" if n > 1 else kind for kind, n in sorted(counts.items()))
    noun = "file of a kind that is" if counts.total() == 1 else "files of kinds that are"
    return f"{counts.total()} {noun} not read: {', '.join(kinds)}" if counts else ""
