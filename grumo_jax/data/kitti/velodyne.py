"""Depth maps from laser scans, as the Eigen protocol makes them.

D. Eigen, C. Puhrsch, R. Fergus: Depth map prediction from a single image using a multi-scale deep
network, NeurIPS 2014.
"""

from pathlib import Path

import numpy as np

from grumo_jax.data.encoding import read_bytes
from grumo_jax.data.kitti.calibration import Calibration, Camera
from grumo_jax.errors import DataError

_FLOATS_PER_POINT = 4


def read_scan(file: str | Path) -> np.ndarray:
    """Read one scan: float32 (N, 4), x forward, y left, z up in metres, and reflectance.

    Raises:
        DataError: if the file is missing, empty or cut off.
    """
    data = read_bytes(Path(file))
    if not data or len(data) % (4 * _FLOATS_PER_POINT):
        raise DataError(
            f"{file}: {len(data)} bytes are no whole number of points of 16 bytes; copy it again"
        )
    return np.frombuffer(data, "<f4").reshape(-1, _FLOATS_PER_POINT)


def velodyne_depth(
    points: np.ndarray,
    calibration: Calibration,
    *,
    camera: Camera = 2,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Project a scan into a camera.

    Depth is the distance forward from the *scanner*, x; a point's pixel is its projection,
    rounded, minus one; where several points meet in a pixel the nearest one counts. Points
    behind the scanner (x < 0) or the camera's plane, or outside the picture, are dropped.

    Args:
        points: (N, 3 or 4): x, y, z in metres, then anything.
        calibration: that day's.
        camera: 2 (left) or 3 (right).
        size: (height, width); by default the rectified picture's.

    Returns:
        float32 (height, width) in metres, 0 where there is no point.
    """
    height, width = calibration.sizes[camera] if size is None else size
    points = points[points[:, 0] >= 0, :3].astype(np.float64)
    project = calibration.scanner_to_pixels(camera)
    x, y, z = project[:, :3] @ points.T + project[:, 3:]
    # A point in the camera's plane or behind it has no pixel, or a mirrored one.
    ahead = z > 0
    # The pixel is rounded − 1; both stay floats until they are known to be small.
    column = np.round(x[ahead] / z[ahead]) - 1
    row = np.round(y[ahead] / z[ahead]) - 1
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = row[inside].astype(np.int64) * width + column[inside].astype(np.int64)
    depth = np.full(height * width, np.inf)
    np.minimum.at(depth, pixels, points[ahead, 0][inside])
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32).reshape(height, width)
