"""A run's log: CSV files, TensorBoard's event files and pictures."""

import csv
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.errors import GrumoError

SCALARS, VALIDATION = "log.csv", "validation.csv"
EVENTS, PICTURES = "events", "pictures"


class RunLog:
    """Writes a run's log; a context manager.

    Args:
        folder: of the run.
        step: the step from which the run resumes. Later rows, left by a killed run, are removed.

    Raises:
        GrumoError: if tensorboardX is not installed.
    """

    def __init__(self, folder: Path, step: int = 0):
        self.folder = folder
        self._tables = {name: CsvLog(folder / name, step) for name in (SCALARS, VALIDATION)}
        self._events = _Events(folder / EVENTS, step)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._events.close()

    def add(self, name: str, step: int, values: Mapping[str, float]) -> None:
        """Add a row to `SCALARS` or `VALIDATION`, and to the event file."""
        self._tables[name].append({"step": step, **values})
        group = name.removesuffix(".csv").replace("log", "training")
        for key, value in values.items():
            self._events.add_scalar(f"{group}/{key}", value, step)

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Add a picture uint8 (H, W, 3), as a PNG and to the event file."""
        file = self.folder / PICTURES / f"step_{step:09d}.png"
        write_atomically(file, lambda stream: Image.fromarray(picture).save(stream, format="PNG"))
        self._events.add_image("validation/pictures", picture, step)

    def flush(self) -> None:
        """Wait until everything is on disk."""
        for table in self._tables.values():
            table.sync()
        self._events.flush()


class CsvLog:
    """An append-only CSV file with a column "step".

    Args:
        path: the file.
        step: later rows, and an unfinished last line, are removed.

    Raises:
        GrumoError: if any other line is damaged.
    """

    def __init__(self, path: Path, step: int = 0):
        self.path = path
        self._columns: list[str] | None = None
        if not path.exists():
            return
        with path.open("rb") as stream:
            lines = [line for line in stream if line.endswith(b"\n")]
        columns = lines[0].rstrip(b"\n").split(b",") if lines else []
        kept, last = lines[:1], -1
        for number, line in enumerate(lines[1:], 2):
            last = _check_row(path, number, line, columns, last)
            if last <= step:
                kept.append(line)
        if len(kept) < 2:
            path.unlink()
            return
        self._columns = [column.decode(errors="replace") for column in columns]
        write_atomically(path, lambda stream: stream.writelines(kept))

    def append(self, row: Mapping[str, float]) -> None:
        """Append a row; the keys of the first are the columns.

        Raises:
            GrumoError: if the file has other columns.
        """
        if self._columns is None:
            self._columns = list(row)
            self._write(self._columns)
        if list(row) != self._columns:
            raise GrumoError(
                f"{self.path}: has the columns {', '.join(self._columns)}, and a row of "
                f"{', '.join(row)} does not fit; train into another folder"
            )
        self._write([str(v) if isinstance(v, int) else f"{v:.9g}" for v in row.values()])

    def sync(self) -> None:
        """Wait until all rows are on disk."""
        if self.path.exists():
            with self.path.open("ab") as stream:
                os.fsync(stream.fileno())

    def _write(self, values: list[str]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        # A single write, so that a kill leaves no half line.
        with self.path.open("ab") as stream:
            stream.write(text.getvalue().encode())


def _check_row(path: Path, number: int, line: bytes, columns: list[bytes], last: int) -> int:
    """Check a line: a number for each column, and a step after the last one, which is returned."""
    cells = line.rstrip(b"\n").split(b",")
    try:
        if columns[0] != b"step" or len(cells) != len(columns):
            raise ValueError("no row of this table")
        for value in cells:
            float(value)
        if (step := int(cells[0])) <= last:
            raise ValueError("of no later step")
    except ValueError as error:
        raise GrumoError(
            f"{path}: line {number} is no row of this log; move the file away to go on without it"
        ) from error
    return step


def draw_rows(
    images: np.ndarray, depths: np.ndarray, uncertainties: np.ndarray | None, *, disparity: bool
) -> np.ndarray:
    """Images, predictions and uncertainties side by side, one image a row.

    Args:
        images: (N, H, W, 3) uint8.
        depths: (N, H, W).
        uncertainties: (N, H, W), or None.
        disparity: draw 1 / depth in `magma`, as usual for disparity, instead of depth in `magma_r`.

    Returns:
        (N·H, 2·W or 3·W, 3) uint8.
    """
    rows = []
    for i, image in enumerate(images):
        shown = 1 / np.maximum(depths[i], 1e-6) if disparity else depths[i]
        low, high = (np.min(shown), np.percentile(shown, 95))
        row = [image, _colour(shown, low, high, "magma" if disparity else "magma_r")]
        if uncertainties is not None:
            u = uncertainties[i]
            row.append(_colour(u, np.min(u), np.percentile(u, 98), "hot"))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


def _colour(values: np.ndarray, low: float, high: float, colours: str) -> np.ndarray:
    scaled = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
    return np.asarray(colormaps[colours](scaled, bytes=True))[..., :3]


class _Events:
    """Writes TensorBoard's event files.

    Synchronously: the thread of tensorboardX's own writer dies on a full disk, and waiting for it
    hangs.
    """

    def __init__(self, folder: Path, step: int):
        try:
            from tensorboardX.event_file_writer import EventsWriter
        except ImportError as error:
            raise GrumoError(
                "training needs tensorboardX, for its log; pip install 'grumo-jax[train]'"
            ) from error
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        # Tells readers to drop what came after this step.
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))
        self.flush, self.close = self._writer.flush, self._writer.close

    def add_scalar(self, name: str, value: float, step: int) -> None:
        from tensorboardX.summary import scalar

        self._write(step, summary=scalar(name, value))

    def add_image(self, name: str, picture: np.ndarray, step: int) -> None:
        from tensorboardX.summary import image

        self._write(step, summary=image(name, picture, dataformats="HWC"))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
