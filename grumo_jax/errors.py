"""What a user's mistake raises: messages say what was given, what is expected, what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from grumo_jax.text import printable


class _Printable(Exception):
    """Its message may name files, whose names may hold anything, and is safe to print."""

    def __str__(self) -> str:
        return printable(super().__str__())


class GrumoError(_Printable, ValueError):
    """Bad input. The command line prints the message and exits with status 2.

    Example:
        >>> import grumo_jax
        >>> try:
        ...     grumo_jax.named_estimator("magic", None)
        ... except grumo_jax.GrumoError as error:
        ...     print(error)
        there is no estimator 'magic'; choose one of grad, ...
    """


class GrumoWarning(_Printable, UserWarning):
    """What is probably wrong and yet can be computed; each says what was found and what to do.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("error", GrumoWarning)  # to stop where something looks wrong
    """


def one_sentence(error: GrumoError | OSError) -> str:
    """What to tell a user of it; of a full disk and the like, what the system says.

    >>> one_sentence(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    if isinstance(error, OSError):
        return printable(f"{error.filename or 'output'}: {error.strerror or error}")
    return str(error)


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
def noticing_disk_problems(place: object, kind: type["GrumoError"]) -> Iterator[None]:
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


class LayerError(GrumoError):
    """A layer that does not exist, or that cannot be captured, differentiated or edited."""


class CheckpointError(GrumoError):
    """A checkpoint that cannot be read, written or trusted."""


class WeightsError(GrumoError):
    """PyTorch weights that cannot be read or do not describe a known network."""


class ImageError(GrumoError):
    """An image file that cannot be read or an image array of the wrong form."""


class DataError(GrumoError):
    """A data set, or a file of one, that is missing, damaged or not laid out as expected."""


class ResultsError(GrumoError):
    """A results file that cannot be read, or that does not belong to this evaluation."""
