"""Laser scans, and their projection to depth maps as in the Eigen protocol.

D. Eigen, C. Puhrsch, R. Fergus: Depth map prediction from a single image using a multi-scale deep
network, NeurIPS 2014.
"""

from pathlib import Path

import numpy as np

from grumo_jax.data.encoding import read_bytes
from grumo_jax.data.kitti.calibration import Calibration, CameraNumber
from grumo_jax.errors import DataError

_FLOATS_PER_POINT = 4
_MOST_BYTES = 16 * 2**20
"""Eight times the size of a full rotation of the scanner."""
FARTHEST = 130.0
"""Largest coordinate of a point, in metres: the scanner reaches 120."""
_NEAREST, _FEW = 0.5, 64
_LOWEST, _LOWEST_AHEAD, _SHARE = -23.0, -15.0, 0.5


def read_scan(file: str | Path) -> np.ndarray:
    """Read one scan: float32 (N, 4), x forward, y left, z up in metres, and reflectance.

    Rays are stored from top to bottom, so a truncated file is recognised: its lowest rays are
    missing.

    Raises:
        DataError: if the file is missing, empty, truncated, or no scan.
    """
    data = read_bytes(Path(file), _MOST_BYTES)
    if not data or len(data) % (4 * _FLOATS_PER_POINT):
        raise DataError(
            f"{file}: {len(data)} bytes are no whole number of points of 16 bytes; copy it again"
        )
    points = np.frombuffer(data, "<f4").reshape(-1, _FLOATS_PER_POINT)
    if problem := _find_problem(points):
        raise DataError(f"{file}: {problem}")
    return points


def _find_problem(points: np.ndarray) -> str | None:
    """Describe why these points are no complete scan of KITTI's scanner; None if they are."""
    kind = "expected KITTI's float32 x, y, z and reflectance of each point"
    if not np.all(np.isfinite(points)):
        return f"{np.sum(~np.isfinite(points))} numbers are not finite; {kind}"
    largest = float(np.abs(points[:, :3]).max())
    if largest > FARTHEST:
        return f"coordinates up to {largest:.3g} m, and the scanner reaches 120 m; {kind}"
    low, high = float(points[:, 3].min()), float(points[:, 3].max())
    if low < 0 or high > 1.001:
        return f"reflectance from {low:.3g} to {high:.3g}, which lies in [0, 1]; {kind}"
    distance = np.linalg.norm(points[:, :3], axis=1)
    if (near := int(np.sum(distance < _NEAREST))) >= _FEW:
        return f"{near} points lie in the scanner itself, as in a copy with a gap; copy it again"
    return _find_cut(points)


def _find_cut(points: np.ndarray) -> str | None:
    """Describe a scan whose lowest rays are missing; None if it is complete.

    The scanner's lowest ray points to −24° and always hits the ground, 4 m around. A scan without
    points behind was cropped to a camera's view and ends at the image's lower edge. A loss below
    the lowest percent cannot be detected; no image shows those points.
    """
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    lowest = float(np.percentile(elevation, _SHARE))
    expected = _LOWEST if np.any(points[:, 0] < 0) else _LOWEST_AHEAD
    if lowest <= expected:
        return None
    return (
        f"incomplete scan: its rays, which come from top to bottom, end at {lowest:.1f}°, and "
        f"those of a whole one below {expected:.0f}°; copy it again"
    )


def velodyne_depth(
    points: np.ndarray,
    calibration: Calibration,
    *,
    camera: CameraNumber = 2,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Project a scan into a camera's image, as a depth map.

    Depth is the forward distance from the *scanner*, x. A point's pixel is its projection,
    rounded, minus one; of several points in a pixel the nearest counts. Points behind the scanner
    (x < 0) or the image plane, or outside the image, are dropped.

    Args:
        points: (N, 3 or 4): x, y, z in metres; a fourth column is ignored.
        calibration: of the same day.
        camera: 2 (left) or 3 (right).
        size: (height, width); by default the rectified image's.

    Returns:
        float32 (height, width) in metres, 0 where there is no point.

    Raises:
        DataError: if the scanner's calibration is missing.

    Example:
        >>> from grumo_jax.data.kitti import read_calibration
        >>> calibration = read_calibration("kitti_raw/2011_09_26")
        >>> depth = velodyne_depth(np.array([[10.0, 0, 0, 0], [5.0, 0, 0, 0]]), calibration)
        >>> depth.shape, depth[depth > 0]
        ((24, 80), array([5.], dtype=float32))
    """
    height, width = calibration.sizes[camera] if size is None else size
    points = points[points[:, 0] >= 0, :3].astype(np.float64)
    project = calibration.scanner_to_pixels(camera)
    x, y, z = project[:, :3] @ points.T + project[:, 3:]
    # Points on or behind the image plane have no projection, or a mirrored one.
    ahead = z > 0
    # Indices stay floats until they are known to be inside: they may not fit an int.
    column = np.round(x[ahead] / z[ahead]) - 1
    row = np.round(y[ahead] / z[ahead]) - 1
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = row[inside].astype(np.int64) * width + column[inside].astype(np.int64)
    depth = np.full(height * width, np.inf)
    np.minimum.at(depth, pixels, points[ahead, 0][inside])
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32).reshape(height, width)
