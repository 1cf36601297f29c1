"""The results file: one line of JSON for the configuration, then one for each image.

It is only ever appended to, and each batch of lines is on disk before the next is computed: a
run that is killed leaves at most one unfinished line, which the next run cuts off.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grumo_jax.errors import ResultsError
from grumo_jax.locks import lock_file

FORMAT = 1
_HEADER = "grumo_jax results"
MOST_SAID = 4
"""Differences between two configurations that are named."""

Row = dict[str, Any]
"""One image: "index" and "id", and either "problem", a sentence, or "size" and "estimators"."""


@dataclass(frozen=True)
class Results:
    """What a results file holds; rows are read as they are asked for.

    Attributes:
        path: the file.
        configuration: everything that decides what the numbers are.
    """

    path: Path
    configuration: dict[str, Any]

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of the data set.

        Raises:
            ResultsError: for a damaged line.
        """
        with self.path.open("rb") as stream:
            next(stream)
            for number, line in enumerate(stream, 2):
                if line.endswith(b"\n"):
                    yield _parse(line, number, self.path)

    @property
    def finished(self) -> bool:
        """Whether there is a row for every image."""
        return sum(1 for _ in self.rows()) == self.configuration["images"]


def _parse(line: bytes, number: int, path: Path) -> Row:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise ResultsError(
            f"{path}: line {number} is damaged; delete it and all after it, and give the command "
            "again"
        ) from error
    return row


class ResultsWriter:
    """Appends rows to a results file; a context manager that holds the file's lock.

    Args:
        path: the file; made where there is none, continued where there is one.
        configuration: must be that of the file, if there is one.

    Attributes:
        done: number of rows the file holds.

    Raises:
        ResultsError: if the file is of another configuration, no results file, or in use.
    """

    def __init__(self, path: str | Path, configuration: Mapping[str, Any]):
        self.path = Path(path)
        # As it will be read back: tuples become lists.
        self._configuration = json.loads(json.dumps(configuration))
        self.done = 0

    def __enter__(self) -> "ResultsWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("a+b")
        try:
            self._lock()
            self.done = self._continue()
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows and wait until they are on disk."""
        self._write(rows)
        self.done += len(rows)

    def _lock(self) -> None:
        if not lock_file(self._stream):
            raise ResultsError(f"{self.path}: another run is writing to it")

    def _continue(self) -> int:
        """Cut off an unfinished line, check the configuration, and count the rows."""
        self._stream.seek(0)
        whole, lines, header, last = 0, 0, b"", b""
        for line in self._stream:
            if not line.endswith(b"\n"):
                break
            header, last = header or line, line
            whole, lines = whole + len(line), lines + 1
        if lines:
            stored = _configuration(self.path, header)
            _check_same(self.path, stored, self._configuration)
            if lines > 1:
                _check_last(self.path, last, lines - 2)
        elif not _is_start_of_header(self._stream):
            raise ResultsError(f"{self.path}: no results file of grumo_jax; choose another name")
        self._stream.truncate(whole)
        if not lines:
            self._write([{_HEADER: FORMAT, "configuration": self._configuration}])
        return max(lines - 1, 0)

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise ResultsError(
                f"{self.path}: cannot be written ({error.strerror or error}); the next run "
                "continues from here"
            ) from error


def read_results(path: str | Path) -> Results:
    """Open a results file for reading, finished or not.

    Raises:
        ResultsError: if there is no such file or it is of another kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            header = stream.readline()
    except OSError as error:
        raise ResultsError(f"{path}: {(error.strerror or 'not readable').lower()}") from error
    return Results(path, _configuration(path, header))


def _is_start_of_header(stream: Any) -> bool:
    stream.seek(0)
    start = stream.read(64)
    return f'{{"{_HEADER}"'.encode().startswith(start[: len(_HEADER) + 3])


def _configuration(path: Path, header: bytes) -> dict[str, Any]:
    try:
        content = json.loads(header)
        version, configuration = content[_HEADER], content["configuration"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path}: no results file of grumo_jax; `grumo evaluate` makes them"
        ) from error
    if not isinstance(configuration, dict):
        raise ResultsError(f"{path}: damaged, its first line is no configuration; evaluate anew")
    if version != FORMAT:
        raise ResultsError(f"{path}: written by another version of grumo_jax; evaluate anew")
    return configuration


def _check_last(path: Path, line: bytes, index: int) -> None:
    """Refuse a file whose last row is not where it must be."""
    try:
        found = json.loads(line)["index"]
    except (ValueError, KeyError, TypeError):
        found = None
    if found != index:
        raise ResultsError(
            f"{path}: damaged, its last line is not the row of image {index}; delete it and "
            "evaluate anew"
        )


def _check_same(path: Path, stored: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to mix numbers that do not belong together, and say what differs."""
    differences = [
        f"{name} was {_short(before)} and is now {_short(now)}"
        for name, before, now in _differences(stored, given)
    ]
    if len(differences) > MOST_SAID:
        differences[MOST_SAID:] = [f"and {len(differences) - MOST_SAID} more differences"]
    if differences:
        raise ResultsError(
            f"{path}: holds results of another configuration ({'; '.join(differences)}); choose "
            "another file, or delete this one"
        )


def _differences(
    stored: dict[str, Any], given: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, stored, given) of all that differs."""
    for name in {**stored, **given}:
        before, now = stored.get(name), given.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{path}{name}: ")
        elif before != now:
            yield f"{path}{name}", before, now


def _short(value: Any, limit: int = 120) -> str:
    text = json.dumps(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
