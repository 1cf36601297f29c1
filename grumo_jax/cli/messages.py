"""Output of commands. File names reach the terminal through here only, and escaped."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from grumo_jax.errors import GrumoError, GrumoWarning, printable


def say(*lines: str) -> None:
    """Print lines of results on standard output."""
    for line in lines:
        print(printable(line))


def say_table(text: str) -> None:
    """Print text of several lines on standard output."""
    say(*text.split("\n"))


def complain(sentence: str) -> None:
    """Print a sentence about a problem on standard error, above any progress bar."""
    tqdm.write(f"grumo: {printable(sentence)}", file=sys.stderr)


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Show this library's warnings as sentences, once each, instead of in Python's format."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", GrumoWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, GrumoWarning):
                complain(str(message))
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        yield


def one_sentence(error: GrumoError | OSError) -> str:
    """An error's message for users; for a full disk and the like, the system's.

    >>> one_sentence(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    if isinstance(error, OSError):
        return printable(f"{error.filename or 'output'}: {error.strerror or error}")
    return str(error)
