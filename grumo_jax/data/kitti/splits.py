"""The frames of each split."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from grumo_jax.data.encoding import read_bytes
from grumo_jax.data.kitti.calibration import CameraNumber
from grumo_jax.data.kitti.layout import DRIVE, KittiLayout
from grumo_jax.errors import DataError, GrumoWarning

SPLITS = (
    "eigen",
    "eigen_benchmark",
    "eigen_zhou/train",
    "eigen_zhou/val",
    "moving/train",
    "moving/val",
    "velodyne",
)
SLOW = 1.0
"""Speed in m/s below which the vehicle counts as standing (0.1 m from frame to frame)."""
_BLOCK, _PERIOD, _CHOSEN, _MARGIN = 20, 10, 4, 2
_MOST_RECORD, _MOST_LIST = 2**20, 64 * 2**20
_FORWARD_SPEED = 8  # of the 30 numbers of an OXTS record
_LINE = re.compile(r"(\d{4}_\d{2}_\d{2})/(\S+) +(\d+) +([lr])")


@dataclass(frozen=True, order=True)
class KittiFrame:
    """One image of one camera.

    Attributes:
        drive: day and drive, such as "2011_09_26/2011_09_26_drive_0009_sync".
        number: index of the frame in its drive.
        side: "l" for the left colour camera, "r" for the right one.
    """

    drive: str
    number: int
    side: Literal["l", "r"] = "l"

    @property
    def id(self) -> str:
        """The frame as a line of split files: drive, number and side."""
        return f"{self.drive} {self.number} {self.side}"

    @property
    def camera(self) -> CameraNumber:
        """KITTI's index of the camera."""
        return 2 if self.side == "l" else 3


@cache
def eigen_test() -> dict[KittiFrame, bool]:
    """The 697 frames of the Eigen test split: {frame: whether it has improved ground truth}.

    >>> len(eigen_test()), sum(eigen_test().values())
    (697, 652)
    """
    text = resources.files("grumo_jax.data.kitti").joinpath("eigen_test.txt").read_text()
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {
        KittiFrame(drive, int(number.rstrip("*"))): not number.endswith("*")
        for drive, *numbers in rows
        for number in numbers
    }


def read_split_file(file: str | Path) -> list[KittiFrame]:
    """Read a split file: lines such as `2011_09_26/2011_09_26_drive_0002_sync 69 l`.

    Raises:
        DataError: if the file is missing or empty, or a line has another form.
    """
    file = Path(file)
    frames = []
    for number, line in enumerate(
        read_bytes(file, _MOST_LIST).decode(errors="replace").splitlines(), 1
    ):
        match = _LINE.fullmatch(line.strip())
        if match and DRIVE.fullmatch(match[2]):
            side: Literal["l", "r"] = "l" if match[4] == "l" else "r"
            frames.append(KittiFrame(f"{match[1]}/{match[2]}", int(match[3]), side))
        elif line.strip():
            raise DataError(
                f"{file}, line {number}: {line.strip()[:80]!r} is no frame; expected day/drive, "
                "number and side, such as '2011_09_26/2011_09_26_drive_0002_sync 69 l'"
            )
    if not frames:
        raise DataError(f"{file}: no frames in it; expected one in each line")
    return list(dict.fromkeys(frames))


def split_frames(
    layout: KittiLayout, split: str, split_files: str | Path | None = None
) -> list[KittiFrame]:
    """List the frames of a split, whether their files exist or not.

    Args:
        layout: of the raw data; `velodyne` and `moving` are defined by the files that exist.
        split: one of `SPLITS`.
        split_files: folder with train_files.txt and val_files.txt, for `eigen_zhou`.

    Raises:
        DataError: if the split does not exist, or its split file is missing or damaged.
    """
    name, _, part = split.partition("/")
    if split not in SPLITS:
        raise DataError(f"KITTI has no split {split!r}; there are: {', '.join(SPLITS)}")
    match name:
        case "eigen":
            return list(eigen_test())
        case "eigen_benchmark":
            return [frame for frame, improved in eigen_test().items() if improved]
        case "eigen_zhou":
            if split_files is None:
                raise DataError(
                    f"the split {split} needs a folder with train_files.txt and val_files.txt; "
                    "name it (--split-files), or use the split moving, which needs none"
                )
            return read_split_file(Path(split_files) / f"{part}_files.txt")
        case "moving":
            return [f for f in _moving(layout) if _part(f.number) == part]
        case _:
            return [
                KittiFrame(drive, number)
                for drive in layout.drives()
                for number in layout.images(drive, 2)
                if number in layout.scans(drive)
            ]


def _moving(layout: KittiLayout) -> Iterator[KittiFrame]:
    """Frames of drives without test frames, with both neighbours and stereo partner, in motion."""
    tested = {frame.drive for frame in eigen_test()}
    for drive in layout.drives():
        if drive in tested:
            continue
        left, right = layout.images(drive, 2), layout.images(drive, 3)
        motions = layout.motions(drive)
        for number in left:
            complete = number - 1 in left and number + 1 in left and number in right
            if complete and _moves(motions.get(number)):
                yield KittiFrame(drive, number)


def _part(number: int) -> str:
    """Assign a frame to a part: of every 200 frames of a drive, 80 to 99 are for validation.

    Two frames at either end are in no part, so that no image, neighbours included, is in both
    training and validation.

    >>> [_part(n) for n in (79, 80, 81, 82, 97, 98, 99, 100, 282)]
    ['train', 'none', 'none', 'val', 'val', 'none', 'none', 'train', 'val']
    """
    block, place = divmod(number, _BLOCK)
    if block % _PERIOD != _CHOSEN:
        return "train"
    return "val" if _MARGIN <= place < _BLOCK - _MARGIN else "none"


def _moves(record: Path | None) -> bool:
    """Whether the vehicle moves, by its OXTS record; True without a record."""
    if record is None:
        return True
    try:
        speed = abs(float(read_bytes(record, _MOST_RECORD).split()[_FORWARD_SPEED]))
    except (IndexError, ValueError) as error:
        # One damaged record must not discard the other frames.
        said = error if isinstance(error, DataError) else f"{record}: no OXTS record of 30 numbers"
        warnings.warn(GrumoWarning(f"{said}; its frame is left out"), stacklevel=2)
        return False
    return bool(np.isnan(speed)) or speed >= SLOW
