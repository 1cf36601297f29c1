"""Files that are written: all of one or nothing, and what a full disk does in one sentence."""

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from grumo_jax._internal.locks import open_alone
from grumo_jax.errors import GrumoError

UNFINISHED = ".grumo."
"""How the names of files begin that are being written."""


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file beside `path` and move it there: all of it or nothing.

    A kill leaves the file beside it, `.grumo.…`; whoever writes there next removes it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = unfinished(path)
    stream = open_alone(partial)
    if stream is None:  # a second process writes the same, and the last one counts
        partial = partial.with_name(f"{UNFINISHED}{uuid.uuid4().hex[:8]}.{path.name[-48:]}")
        stream = partial.open("wb")
    try:
        # Moved while it is locked, lest another process take it for left behind.
        with stream, noticing_disk_problems(path, GrumoError):
            try:
                write(stream)
                stream.flush()
                if os.name == "nt":  # which moves no open files
                    stream.close()
                os.replace(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        # Closing a file that does not fit fails once more. The system does not tell which it was.
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


def unfinished(path: Path) -> Path:
    """Where that is made what will be at `path`: beside it, and always in the same place."""
    mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    # A name may be as long as any can be, and then has no room for more.
    return path.with_name(f"{UNFINISHED}{mark}.{path.name[-48:]}")


def remove_unfinished(folder: str | Path) -> None:
    """Remove what `write_atomically` left behind in a folder when it was killed.

    Files that a living process is writing are left alone.
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
    """What the system said of a disk, if that is why something failed; else None.

    The libraries that write arrays raise errors of their own in which the system's words occur.

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
    """Say in one sentence that something cannot be written, whichever library tried to.

    Args:
        place: what cannot be written then.
        kind: class of the error.
    """
    try:
        yield
    except (GrumoError, OSError):  # which say what file it is
        raise
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        raise kind(f"{place}: cannot be written ({problem})") from error
