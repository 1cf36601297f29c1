"""Find KITTI's files: the raw data, and the improved ground truth in any usual place."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from grumo_jax.data.kitti.calibration import CAMERA_FILE, SCANNER_FILE, CameraNumber
from grumo_jax.data.levels import say_level

DAY = re.compile(r"\d{4}_\d{2}_\d{2}")
DRIVE = re.compile(r"\d{4}_\d{2}_\d{2}_drive_\d{4}_sync")
_PICTURES = (".png", ".jpg", ".jpeg")
# The official archive has train/ and val/; some users unpack it into its own folder.
_IMPROVED = (
    "{date}",
    "train",
    "val",
    *(f"data_depth_annotated{s}" for s in ("", "/train", "/val")),
)


@dataclass
class KittiLayout:
    """Lists the files below KITTI's raw folder, lazily; each folder is listed once.

    Drives are named with their day: "2011_09_26/2011_09_26_drive_0009_sync".

    Attributes:
        root: folder that contains `2011_09_26` and so on.
    """

    root: Path
    _listed: dict[str, dict[int, Path]] = field(default_factory=dict, repr=False)

    def drives(self) -> list[str]:
        """List all drives that have a folder, even an empty one."""
        found = [
            f"{day.name}/{drive.name}"
            for day in self.root.iterdir()
            if DAY.fullmatch(day.name) and day.is_dir()
            for drive in day.iterdir()
            if DRIVE.fullmatch(drive.name) and drive.is_dir()
        ]
        return sorted(found)

    def misplaced(self) -> str | None:
        """A clause of an error message if `root` is a level off; None if it is right."""
        if _holds_days(self.root):
            return None
        if any(DRIVE.fullmatch(child.name) for child in self.root.iterdir()):
            day = self.root.resolve()
            named = "" if DAY.fullmatch(day.name) else ", with this one named as its day"
            return f"this is the folder of a day; give the one above, {day.parent}{named}"
        return say_level(self.root, _holds_days, "KITTI's days, such as 2011_09_26") or None

    def calibrated(self, drive: str, *, scanner: bool) -> bool:
        """Whether a drive's day has its calibration: of the cameras and, with `scanner`, of it."""
        day = self.root / drive.split("/")[0]
        files = (CAMERA_FILE, SCANNER_FILE) if scanner else (CAMERA_FILE,)
        return all((day / file).is_file() for file in files)

    def images(self, drive: str, camera: CameraNumber) -> dict[int, Path]:
        """{frame: image file}; where a frame has a PNG and a JPEG, the PNG."""
        return self._list(f"{drive}/image_0{camera}/data", _PICTURES)

    def scans(self, drive: str) -> dict[int, Path]:
        """{frame: laser scan}."""
        return self._list(f"{drive}/velodyne_points/data", (".bin",))

    def motions(self, drive: str) -> dict[int, Path]:
        """{frame: OXTS record (position, speed, …)}."""
        return self._list(f"{drive}/oxts/data", (".txt",))

    def improved(self, drive: str, camera: CameraNumber) -> dict[int, Path]:
        """{frame: improved ground truth}, from any place where it is usually unpacked."""
        date, name = drive.split("/")
        found: dict[int, Path] = {}
        for place in reversed(_IMPROVED):
            folder = f"{place.format(date=date)}/{name}/proj_depth/groundtruth/image_0{camera}"
            found |= self._list(folder, (".png",))
        return found

    def _list(self, folder: str, suffixes: tuple[str, ...]) -> dict[int, Path]:
        if folder not in self._listed:
            path = self.root / folder
            files = (
                [file for file in path.iterdir() if file.stem.isdecimal()] if path.is_dir() else []
            )
            # Later entries of a frame replace earlier ones, so the preferred suffix is last.
            order = {suffix: -rank for rank, suffix in enumerate(suffixes)}
            known = [file for file in files if file.suffix.lower() in order]
            known.sort(key=lambda file: (int(file.stem), order[file.suffix.lower()]))
            self._listed[folder] = {int(file.stem): file for file in known}
        return self._listed[folder]


def _holds_days(folder: Path) -> bool:
    return any(
        DRIVE.fullmatch(drive.name)
        for day in folder.iterdir()
        if DAY.fullmatch(day.name) and day.is_dir()
        for drive in day.iterdir()
    )
