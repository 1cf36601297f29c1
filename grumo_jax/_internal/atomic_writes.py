"""Atomic writes: a complete file or folder or none, and a full disk reported in one sentence."""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from grumo_jax._internal.hashing import hash_bytes
from grumo_jax._internal.locks import open_alone
from grumo_jax.errors import GrumoError

UNFINISHED = ".grumo."
"""Prefix of temporary files: those that are still being written."""
_NEW, _OLD, _LOCK = "new", "replaced.old", "lock"
"""Names in the temporary folder beside a folder that is being written."""


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file atomically: fill a temporary one beside it, then rename.

    A killed process leaves the temporary file, `.grumo.…`, behind; the next write to `path`
    removes it.

    Args:
        path: the file; its folder is created.
        write: fills the temporary file, which is open for writing.

    Raises:
        OSError: if the disk is full, read-only or not permitted.
        GrumoError: the same, where a library has hidden the system's error in one of its own.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(f"{folder}/greeting", lambda stream: stream.write(b"hello"))
        ...     Path(folder, "greeting").read_text()
        'hello'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = unfinished(path)
    stream = open_alone(partial)
    if stream is None:  # Another process writes the same file; the last rename wins.
        partial = partial.with_name(f"{UNFINISHED}{uuid.uuid4().hex[:8]}.{path.name[-48:]}")
        stream = partial.open("wb")
    try:
        # Rename before unlocking: another process would take the file for an orphan.
        with stream, noticing_disk_problems(path, GrumoError):
            try:
                write(stream)
                stream.flush()
                if os.name == "nt":  # Windows cannot rename an open file.
                    stream.close()
                os.replace(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        # Closing a file on a full disk fails again, and that error names no file.
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def replacing_folder(path: Path, kind: type[GrumoError]) -> Iterator[Path]:
    """Let the body make a folder beside `path`, and move it there: all of it or nothing.

    A kill leaves what was at `path`; only between two renames at the very end does it leave that
    beside it, in `.grumo.…`. The next call for `path` puts it back, and removes what else a kill
    left.

    Args:
        path: the folder, which may be there already.
        kind: class of the errors.

    Yields:
        The folder to make; its parent exists and is removed at the end.

    Raises:
        GrumoError: of that class, if another process is writing there, or nobody can.
        OSError: if the system says so itself.
    """
    partial = unfinished(path)
    with noticing_disk_problems(path, kind):
        partial.mkdir(parents=True, exist_ok=True)
        lock = open_alone(partial / _LOCK)
        if lock is None:
            raise kind(f"{path}: another process is saving there; let it finish")
        with lock:
            _clean_up(partial, path)
            try:
                yield partial / _NEW
                if path.exists():
                    path.rename(partial / _OLD)
                (partial / _NEW).rename(path)  # if this fails, the old one is put back
            finally:
                _clean_up(partial, path)
                shutil.rmtree(partial, ignore_errors=True)


def _clean_up(partial: Path, path: Path) -> None:
    """Put back what was moved away and has no successor yet, and remove the rest."""
    if (partial / _OLD).exists() and not path.exists():
        (partial / _OLD).rename(path)
    for rest in partial.iterdir():
        if rest.is_dir():
            shutil.rmtree(rest, ignore_errors=True)


def reserve(folder: Path, size: int) -> None:
    """Find out whether a folder has room for so many bytes.

    Raises:
        OSError: if there is none, or not for this user.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)


def unfinished(path: Path) -> Path:
    """The temporary path for `path`: in the same folder, and the same in every run."""
    mark = hash_bytes(os.fsencode(path.name))[:8]
    # `path` may use the longest name the file system allows, so only its end is kept.
    return path.with_name(f"{UNFINISHED}{mark}.{path.name[-48:]}")


def remove_unfinished(folder: str | Path) -> None:
    """Remove temporary files that killed calls of `write_atomically` left in a folder.

    Files that a running process is still writing are locked, and stay.
    """
    for partial in Path(folder).glob(f"{UNFINISHED}*"):
        if partial.is_file() and (stream := open_alone(partial)) is not None:
            with stream:
                partial.unlink(missing_ok=True)


_DISK_ERRORS = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "EIO", "ENAMETOOLONG")
    if hasattr(errno, name)
)


def disk_problem(error: BaseException) -> str | None:
    """The system's message if a disk problem caused an error; else None.

    Libraries that write arrays wrap the system's errors in their own and quote its message.

    >>> disk_problem(RuntimeError("write() failed: No space left on device; writing data"))
    'No space left on device'
    """
    cause: BaseException | None = error
    while cause is not None:
        said = " ".join(map(str, (cause, *getattr(cause, "exceptions", ()))))
        for words in map(os.strerror, _DISK_ERRORS):
            if words in said:
                return words
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def noticing_disk_problems(place: object, kind: type[GrumoError]) -> Iterator[None]:
    """Turn any library's error about a disk problem into one sentence.

    Args:
        place: the file or folder that is being written, named in the sentence.
        kind: class of the error that is raised instead.

    Raises:
        GrumoError: of class `kind`, where the disk was the cause; other errors pass through.
    """
    try:
        yield
    except (GrumoError, OSError):  # These name the file already.
        raise
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        raise kind(f"{place}: cannot be written ({problem})") from error
