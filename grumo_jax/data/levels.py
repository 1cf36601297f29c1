"""Find the folder that was meant when a path is a level too high or too low."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

_UP, _DOWN, _MOST_FOLDERS = 5, 2, 200


def find_level(given: Path, holds_data: Callable[[Path], bool]) -> Path | None:
    """Search the parents of a folder, then its subfolders, for the one that holds data.

    Args:
        given: a folder that does not hold the data itself.
        holds_data: returns whether a folder does.

    Returns:
        The nearest parent, else the first subfolder; None if there is neither.
    """
    above = list(given.resolve().parents)[:_UP]
    below = (folder for level in range(1, _DOWN + 1) for folder in _folders(given, level))
    nearby = [*above, *islice(below, _MOST_FOLDERS)]
    return next((folder for folder in nearby if _holds(folder, holds_data)), None)


def say_level(given: Path, holds_data: Callable[[Path], bool], what: str) -> str:
    """A clause of an error message: which folder was meant; "" if none is found."""
    meant = find_level(given, holds_data)
    if meant is None:
        return ""
    inside = meant in given.resolve().parents
    where = "this lies within" if inside else "this lies above"
    return f"{where} {what}; give the folder that holds it, {meant}"


def _folders(folder: Path, level: int) -> Iterator[Path]:
    if level == 0:
        yield folder
        return
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return
    for child in children[:_MOST_FOLDERS]:
        yield from _folders(child, level - 1)


def _holds(folder: Path, holds_data: Callable[[Path], bool]) -> bool:
    try:
        return holds_data(folder)
    except OSError:
        return False  # A folder without permission is not the one.
