"""The results file: one line of JSON for the configuration, then one for each image.

The file is append-only, and each batch of lines is on disk before the next is computed: a killed
run leaves at most one unfinished line, which the next run truncates. Each line has a seal that
depends on the line before (`grumo_jax._internal.sealed`): every reader notices lines that were
changed, doubled, lost or moved.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from grumo_jax._internal.differences import differences
from grumo_jax._internal.locks import lock_file
from grumo_jax._internal.sealed import parse_json, seal_line, unseal_line
from grumo_jax.errors import ResultsError

FORMAT = 2
_HEADER = "grumo_jax results"
_START = f'{{"{_HEADER}"'.encode()
MOST_SAID = 4
"""Most differences between two configurations that an error names."""
LONGEST = 2**26
"""Longest line that is read, bytes."""

Row = dict[str, Any]
"""One image: "index" and "id", and either "problem", a sentence, or "size" and "estimators"."""


@dataclass(frozen=True)
class Results:
    """A results file; rows are read lazily.

    Attributes:
        path: the file.
        configuration: everything the numbers depend on.

    Example:
        >>> results = read_results("results.jsonl")
        >>> results.finished, len(list(results.rows()))
        (True, 3)
    """

    path: Path
    configuration: dict[str, Any]

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of the data set.

        Raises:
            ResultsError: for a line that is not as it was written; the message names it.
        """
        with self.path.open("rb") as stream:
            reader = _Reader(stream, self.path)
            reader.header()
            yield from reader.rows(self.configuration["images"])

    @property
    def finished(self) -> bool:
        """Whether there is a row for every image."""
        return sum(1 for _ in self.rows()) == self.configuration["images"]


class _Reader:
    """Reads a file's complete lines, each of which must follow the one before.

    Attributes:
        lines, size: number and bytes of the lines read.
        seal: of the last line read.
    """

    def __init__(self, stream: IO[bytes], path: Path):
        self._stream, self._path = stream, path
        self.lines, self.size, self.seal = 0, 0, ""

    def header(self) -> dict[str, Any] | None:
        """The configuration; None if the first line was never finished."""
        line = self._whole_line()
        if line is None:
            return None
        _check_kind(line, self._path)
        configuration = self._unseal(line).get("configuration")
        images = configuration.get("images") if isinstance(configuration, dict) else None
        if type(images) is not int or images < 0:
            raise ResultsError(
                f"{self._path}: damaged, its first line is no configuration; evaluate anew"
            )
        return configuration

    def rows(self, images: int) -> Iterator[Row]:
        """The rows, at most one per image."""
        while line := self._whole_line():
            row, index = self._unseal(line), self.lines - 2
            is_next = type(row.get("index")) is int and row["index"] == index < images
            if not is_next or not isinstance(row.get("id"), str):
                raise self._damage()
            yield row

    def _whole_line(self) -> bytes | None:
        line = self._stream.readline(LONGEST)
        self.lines += 1
        if len(line) == LONGEST:
            raise self._damage()
        if not line.endswith(b"\n"):
            self.lines -= 1
            return None
        self.size += len(line)
        return line

    def _unseal(self, line: bytes) -> dict[str, Any]:
        try:
            content, self.seal = unseal_line(line, self.seal)
        except ValueError as error:
            raise self._damage() from error
        return content

    def _damage(self) -> ResultsError:
        if self.lines == 1:
            return ResultsError(
                f"{self._path}: its first line, the configuration, is damaged; evaluate anew, into "
                "another file"
            )
        return ResultsError(
            f"{self._path}: line {self.lines} is damaged; delete it and all after it, and give the "
            "command again (it was changed, doubled or moved, or the line before it is lost)"
        )


class ResultsWriter:
    """Appends rows to a results file; a context manager that holds the file's lock.

    Args:
        path: the file, created or continued.
        configuration: must equal that of an existing file.
        ids: of the data set's images, which the file's rows must have; None skips this check.

    Attributes:
        done: number of rows the file holds.

    Raises:
        ResultsError: if the file is of another configuration, damaged, no results file, or in use.
    """

    def __init__(
        self,
        path: str | Path,
        configuration: Mapping[str, Any],
        *,
        ids: Sequence[str] | None = None,
    ):
        self.path = Path(path)
        # As JSON gives it back: tuples become lists.
        self._configuration = json.loads(json.dumps(configuration))
        self._ids, self._seal = ids, ""
        self.done = 0

    def __enter__(self) -> "ResultsWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _check_file(self.path)
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
        """Check the configuration and all rows, cut off an unfinished line; return their number."""
        self._stream.seek(0)
        reader = _Reader(self._stream, self.path)
        stored = reader.header()
        if stored is not None:
            _check_same(self.path, stored, self._configuration)
            for row in reader.rows(stored["images"]):
                self._check_id(row)
        elif not _is_start_of_header(self._stream):
            raise ResultsError(f"{self.path}: no results file of grumo_jax; choose another name")
        self._stream.truncate(reader.size)
        self._seal = reader.seal
        if stored is None:
            self._write([{_HEADER: FORMAT, "configuration": self._configuration}])
        return max(reader.lines - 1, 0)

    def _check_id(self, row: Row) -> None:
        index, ids = row["index"], self._ids
        if ids is not None and row["id"] != ids[index]:
            raise ResultsError(
                f"{self.path}: line {index + 2} is of the image {row['id']!r}, and the data set's "
                f"image {index} is {ids[index]!r}; choose another file, or delete this one"
            )

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        seal, text = self._seal, b""
        for content in lines:
            line, seal = seal_line(content, seal)
            text += line
        try:
            self._stream.write(text)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise ResultsError(
                f"{self.path}: cannot be written ({error.strerror or error}); the next run "
                "continues from here"
            ) from error
        self._seal = seal


def read_results(path: str | Path) -> Results:
    """Open a results file for reading, finished or not.

    Raises:
        ResultsError: if there is no such file or it is of another kind.

    Example:
        >>> list(read_results("results.jsonl").configuration["estimators"])
        ['post', 'row']
    """
    path = Path(path)
    _check_file(path)
    try:
        with path.open("rb") as stream:
            configuration = _Reader(stream, path).header()
    except OSError as error:
        raise ResultsError(f"{path}: {(error.strerror or 'not readable').lower()}") from error
    if configuration is None:
        raise _no_results(path)
    return Results(path, configuration)


def _check_file(path: Path) -> None:
    """Refuse files that may never end, such as pipes."""
    if path.exists() and not path.is_file():
        raise ResultsError(f"{path}: no file; expected the name of a results file")


def _is_start_of_header(stream: IO[bytes]) -> bool:
    stream.seek(0)
    return _START.startswith(stream.read(len(_START)))


def _check_kind(header: bytes, path: Path) -> None:
    """Refuse other files, and results files of another format, by a header that is still sealed."""
    try:
        version = parse_json(header)[_HEADER]
    except (ValueError, KeyError, TypeError) as error:
        if header.startswith(_START):
            return  # a results file, whose seal will be found wrong
        raise _no_results(path) from error
    if version != FORMAT:
        raise ResultsError(
            f"{path}: written by another version of grumo_jax, which did not record the same; "
            "evaluate anew, into another file"
        )


def _no_results(path: Path) -> ResultsError:
    return ResultsError(f"{path}: no results file of grumo_jax; `grumo evaluate` makes them")


def _check_same(path: Path, stored: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to mix numbers that do not belong together, and say what differs."""
    found = [
        f"{name} was {_short(before)} and is now {_short(now)}"
        for name, before, now in differences(stored, given, nested=True)
    ]
    if len(found) > MOST_SAID:
        found[MOST_SAID:] = [f"and {len(found) - MOST_SAID} more differences"]
    if found:
        raise ResultsError(
            f"{path}: holds results of another configuration ({'; '.join(found)}); choose "
            "another file, or delete this one"
        )


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
