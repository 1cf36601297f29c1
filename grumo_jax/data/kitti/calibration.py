"""Read KITTI's calibration files.

A. Geiger, P. Lenz, C. Stiller, R. Urtasun: Vision meets robotics: the KITTI dataset, IJRR 2013.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from grumo_jax.data.encoding import read_bytes
from grumo_jax.errors import DataError

CameraNumber = Literal[2, 3]
"""Index of KITTI's colour cameras: 2 is left, 3 is right."""
_MOST_BYTES = 2**20
_MOST_SIDE, _MOST_FOCAL, _MOST_METRES = 20_000, 1e6, 100.0
CAMERA_FILE, SCANNER_FILE = "calib_cam_to_cam.txt", "calib_velo_to_cam.txt"


@dataclass(frozen=True)
class Calibration:
    """One day's calibration; matrices are float64.

    Attributes:
        projections: {camera: (3, 4)}, P_rect: rectified coordinates to homogeneous pixels.
        sizes: {camera: (height, width)} of the rectified images.
        rectification: (3, 3), R_rect_00: reference camera to rectified coordinates.
        scanner_to_camera: (4, 4), scanner to reference camera coordinates; None if its file
            is missing.
    """

    projections: dict[int, np.ndarray]
    sizes: dict[int, tuple[int, int]]
    rectification: np.ndarray
    scanner_to_camera: np.ndarray | None = None

    def intrinsics(self, camera: CameraNumber) -> np.ndarray:
        """Intrinsics, float32 (3, 3), in pixels of the rectified image."""
        return self.projections[camera][:, :3].astype(np.float32)

    def stereo_offset(self, camera: CameraNumber) -> float:
        """How far the other colour camera is to the right of this one, in metres.

        P_rect holds −fx·b for a camera that lies b metres to the right of the reference camera.
        """

        def position(number: int) -> float:
            return -float(self.projections[number][0, 3] / self.projections[number][0, 0])

        # Rounded to float32, as it is stored in prepared data.
        return float(np.float32(position(5 - camera) - position(camera)))

    def scanner_to_pixels(self, camera: CameraNumber) -> np.ndarray:
        """Projection, float64 (3, 4): homogeneous scanner coordinates to homogeneous pixels.

        Raises:
            DataError: if the scanner's calibration is missing.
        """
        if self.scanner_to_camera is None:
            raise DataError(f"scans cannot be projected without {SCANNER_FILE}")
        rectify = np.eye(4)
        rectify[:3, :3] = self.rectification
        return self.projections[camera] @ rectify @ self.scanner_to_camera


def read_calibration(folder: str | Path) -> Calibration:
    """Read the calibration files of one day's folder, such as `2011_09_26`.

    Raises:
        DataError: if the cameras' file is missing, or one of the files is damaged.
    """
    cameras, scanner = Path(folder) / CAMERA_FILE, Path(folder) / SCANNER_FILE
    rows = _read_rows(cameras)
    sizes = {camera: _take(rows, f"S_rect_0{camera}", (2,), cameras) for camera in (2, 3)}
    projections = {camera: _take(rows, f"P_rect_0{camera}", (3, 4), cameras) for camera in (2, 3)}
    for camera, projection in projections.items():
        if not 1 <= projection[0, 0] <= _MOST_FOCAL:
            raise DataError(f"{cameras}: P_rect_0{camera} has no focal length; copy the file again")
        width, height = sizes[camera]
        if not (1 <= width <= _MOST_SIDE and 1 <= height <= _MOST_SIDE):
            raise DataError(
                f"{cameras}: S_rect_0{camera} says {width:g}×{height:g} pixels; expected KITTI's "
                "1242×375 or so; copy the file again"
            )
    return Calibration(
        projections=projections,
        sizes={camera: (int(height), int(width)) for camera, (width, height) in sizes.items()},
        rectification=_take_rotation(rows, "R_rect_00", cameras),
        scanner_to_camera=_read_scanner(scanner) if os.path.lexists(scanner) else None,
    )


def _read_scanner(file: Path) -> np.ndarray:
    rows, transform = _read_rows(file), np.eye(4)
    transform[:3, :3] = _take_rotation(rows, "R", file)
    transform[:3, 3] = _take(rows, "T", (3,), file)
    if np.abs(transform[:3, 3]).max() > _MOST_METRES:
        raise DataError(f"{file}: T is no place on a car; copy KITTI's original file again")
    return transform


def _read_rows(file: Path) -> dict[str, list[str]]:
    lines = read_bytes(file, _MOST_BYTES).decode("ascii", errors="replace").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): values.split() for name, values in pairs}


def _take_rotation(rows: dict[str, list[str]], name: str, file: Path) -> np.ndarray:
    """Read a rotation matrix; a wrong digit makes it none, and is refused."""
    matrix = _take(rows, name, (3, 3), file)
    small = np.abs(matrix).max() < 2
    if not small or np.abs(matrix @ matrix.T - np.eye(3)).max() > 0.01 or np.linalg.det(matrix) < 0:
        raise DataError(f"{file}: {name} is no rotation; copy KITTI's original file again")
    return matrix


def _take(rows: dict[str, list[str]], name: str, shape: tuple[int, ...], file: Path) -> np.ndarray:
    try:
        values = np.array(rows[name], np.float64).reshape(shape)
    except (KeyError, ValueError, OverflowError) as error:
        count = int(np.prod(shape))
        raise DataError(
            f"{file}: no entry {name} of {count} numbers; copy KITTI's original file again"
        ) from error
    if not np.all(np.isfinite(values)):
        raise DataError(f"{file}: {name} is not finite; copy KITTI's original file again")
    return values
