"""`KittiRaw`: KITTI's raw files as a source of samples."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from grumo_jax.data.depth_files import read_turned_depth
from grumo_jax.data.encoding import read_bytes
from grumo_jax.data.kitti.calibration import (
    CAMERA_FILE,
    SCANNER_FILE,
    Calibration,
    read_calibration,
)
from grumo_jax.data.kitti.layout import KittiLayout
from grumo_jax.data.kitti.splits import KittiFrame, split_frames
from grumo_jax.data.kitti.velodyne import read_scan, velodyne_depth
from grumo_jax.data.sample import Crop, EncodedSample, Sample, describe_files, fingerprint
from grumo_jax.errors import DataError

KIND = {
    "eigen": "scan",
    "velodyne": "scan",
    "eigen_benchmark": "improved",
    "eigen_zhou": "training",
    "moving": "training",
}
"""What a split's samples have besides the image: scan, improved ground truth, or neighbours."""


class KittiRaw:
    """A source of one split's frames, read from KITTI's raw files.

    | split | frames | depth | crop |
    |---|---|---|---|
    | `eigen` | the 697 test frames | scans | `eigen` |
    | `eigen_benchmark` | the 652 of them with improved ground truth | that | none |
    | `velodyne` | all frames of the left camera with a scan | scans | `eigen` |
    | `eigen_zhou/train`, `/val` | of split files | none; neighbours, stereo partner | none |
    | `moving/train`, `/val` | by rule, see docs/data.md | the same | none |

    Frames whose files are incomplete are left out and listed in `missing`.

    Args:
        root: folder that contains `2011_09_26` and so on.
        split: one of the table.
        split_files: folder with train_files.txt and val_files.txt, for `eigen_zhou`.

    Attributes:
        files: {id: {role: file}} of the complete frames.
        gaps: {id: role of the first missing file} of the others.

    Raises:
        DataError: if folder or split do not exist, or no frame of it is complete.

    Example:
        >>> source = KittiRaw("kitti_raw", "velodyne")
        >>> len(source), source[0].depth.dtype
        (2, dtype('float32'))
    """

    def __init__(
        self, root: str | Path, split: str = "eigen", *, split_files: str | Path | None = None
    ):
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(
                f"{root}: no such folder; expected KITTI's raw data, with 2011_09_26 and others"
            )
        self.name = f"kitti/{split}"
        self.files, self.gaps = collect_files(self.root, split, split_files)
        self._kind = KIND[split.partition("/")[0]]
        self.crop: Crop | None = "eigen" if self._kind == "scan" else None
        if not self.files:
            raise DataError(describe_empty(self.root, split, self.gaps))
        self._frames = [parse_id(key) for key in self.files]
        self._calibrations: dict[str, Calibration] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """The frames' ids, as split files write them, in the split's order."""
        return tuple(self.files)

    @property
    def has_depth(self) -> bool:
        """Whether samples have ground truth; those of training splits have none."""
        return self._kind != "training"

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of the split's frames whose files are incomplete."""
        return tuple(self.gaps)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids, and names and sizes of the files, calibration included."""
        return fingerprint(self.name, self.ids, describe_files(self.root, self.paths()))

    def paths(self) -> Iterator[Path]:
        """All files of the samples, calibration included."""
        for files in self.files.values():
            yield from files.values()
        names = (CAMERA_FILE, SCANNER_FILE) if self._kind == "scan" else (CAMERA_FILE,)
        for day in sorted({key.split("/")[0] for key in self.files}):
            yield from (self.root / day / name for name in names)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DataError: if one of its files is damaged or has gone.
        """
        return self.encoded(index).decode()

    def encoded(self, index: int) -> EncodedSample:
        """Read one sample, its images still encoded.

        Raises:
            DataError: if one of its files is damaged or has gone.
        """
        frame = self._frames[index]
        files = self.files[frame.id]
        calibration = self._calibration(frame)
        depth: np.ndarray | None = None
        if "scan" in files:
            if calibration.scanner_to_camera is None:
                file = self.root / frame.drive.split("/")[0] / SCANNER_FILE
                raise DataError(f"{file}: no such file; scans cannot be projected without it")
            depth = velodyne_depth(read_scan(files["scan"]), calibration, camera=frame.camera)
        elif "improved" in files:
            depth = _read_improved(files["improved"])
        pictures = {role: file for role, file in files.items() if role not in ("scan", "improved")}
        return EncodedSample(
            id=frame.id,
            images={role: read_bytes(file) for role, file in pictures.items()},
            origins={role: str(file) for role, file in pictures.items()},
            size=calibration.sizes[frame.camera],
            depth=depth,
            intrinsics=calibration.intrinsics(frame.camera),
            stereo_offset=(
                calibration.stereo_offset(frame.camera) if "stereo" in pictures else None
            ),
        )

    def _calibration(self, frame: KittiFrame) -> Calibration:
        day = frame.drive.split("/")[0]
        if day not in self._calibrations:
            self._calibrations[day] = read_calibration(self.root / day)
        return self._calibrations[day]


def _read_improved(file: Path) -> np.ndarray:
    depth, orientation = read_turned_depth(file)
    if orientation != 1:
        raise DataError(
            f"{file}: its EXIF orientation ({orientation}) turns it, but not its picture; copy the "
            "original file again"
        )
    return depth


def parse_id(text: str) -> KittiFrame:
    """Parse a frame's id.

    >>> parse_id("2011_09_26/2011_09_26_drive_0009_sync 16 r").camera
    3
    """
    drive, number, side = text.split()
    return KittiFrame(drive, int(number), "l" if side == "l" else "r")


def collect_files(
    root: Path, split: str, split_files: str | Path | None = None
) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Find the files of a split's frames.

    Args:
        root: folder that contains `2011_09_26` and so on.
        split: one of `SPLITS`.
        split_files: folder with train_files.txt and val_files.txt, for `eigen_zhou`.

    Returns:
        ({id: {role: file}} of complete frames, {id: role of the first missing file} of others).

    Raises:
        DataError: if the split does not exist, or its split file cannot be read.
    """
    layout = KittiLayout(root)
    found: dict[str, dict[str, Path]] = {}
    gaps: dict[str, str] = {}
    for frame in split_frames(layout, split, split_files):
        wanted = _wanted(layout, frame, KIND[split.partition("/")[0]])
        lacking = [role for role, file in wanted.items() if file is None]
        if not layout.calibrated(frame.drive, scanner="scan" in wanted):
            lacking.append("calibration")
        if lacking:
            gaps[frame.id] = lacking[0]
        else:
            found[frame.id] = {role: file for role, file in wanted.items() if file is not None}
    return found, gaps


def _wanted(layout: KittiLayout, frame: KittiFrame, kind: str) -> dict[str, Path | None]:
    images, number = layout.images(frame.drive, frame.camera), frame.number
    wanted = {"image": images.get(number)}
    match kind:
        case "scan":
            wanted["scan"] = layout.scans(frame.drive).get(number)
        case "improved":
            wanted["improved"] = layout.improved(frame.drive, frame.camera).get(number)
        case _:
            partner = layout.images(frame.drive, 3 if frame.camera == 2 else 2)
            wanted["previous"] = images.get(number - 1)
            wanted["following"] = images.get(number + 1)
            wanted["stereo"] = partner.get(number)
    return wanted


def describe_empty(root: Path, split: str, gaps: Mapping[str, str]) -> str:
    """The error message for a split without complete frames: what is missing most often."""
    if misplaced := KittiLayout(root).misplaced():
        return f"{root}: {misplaced}"
    # Frames that lack one file say more than those whose drive was never downloaded.
    partial = {key: what for key, what in gaps.items() if what != "image"}
    lacking = partial or gaps
    if not lacking:
        rule = "that drives while it is recorded, without test frames, with both cameras"
        return (
            f"{root}: no frames for the split {split}; expected KITTI's raw data with at least one "
            f"drive{' ' + rule if split.startswith('moving') else ' and its laser scans'}"
        )
    reasons = list(lacking.values())
    reason = max(sorted(set(reasons)), key=reasons.count)
    frame = parse_id(next(key for key, what in lacking.items() if what == reason))
    return (
        f"{root}: none of the {len(gaps)} frames of the split {split} is complete; "
        f"{reasons.count(reason)} lack {LACKING[reason]}, such as frame {frame.number} of "
        f"{frame.drive}"
    )


LACKING = {
    "image": "the picture (image_02, image_03)",
    "scan": "the laser scan (velodyne_points)",
    "improved": "the improved ground truth (proj_depth)",
    "previous": "the frame before",
    "following": "the frame after",
    "stereo": "the other camera's picture",
    "calibration": (
        f"the calibration ({CAMERA_FILE} or, where depth is from scans, {SCANNER_FILE}, in the "
        "folder of the day)"
    ),
}
"""{role of a file that a frame may lack: its description}"""
