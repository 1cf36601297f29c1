"""What commands say. Names of files go to the terminal through here, and nothing else of them."""

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
    """Print a sentence about what is not as it should be on standard error, above any bar."""
    tqdm.write(f"grumo: {printable(sentence)}", file=sys.stderr)


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Let this library's warnings appear as sentences, each once, and not as Python's."""
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
    """What to tell a user of it; of a full disk and the like, what the system says.

    >>> one_sentence(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    if isinstance(error, OSError):
        return printable(f"{error.filename or 'output'}: {error.strerror or error}")
    return str(error)
