"""Tiny data sets in the real formats, written from arrays."""

import numpy as np
from PIL import Image

from grumo_jax.data import write_depth_png
from grumo_jax.data.encoding import encode_png
from grumo_jax.synthetic import layouts

DAY = "2011_09_26"
SIZE = (24, 80)  # height, width
FOCAL, CENTER, OFFSET = 40.0, (40.0, 12.0), 0.5
"""Focal length and optical centre in pixels, distance of the cameras in metres."""


def write_calibration(folder, size=SIZE, focal=FOCAL, center=CENTER, offset=OFFSET):
    """Cameras without rotation; the scanner lies in the left one and looks where it looks."""
    layouts.write_calibration(folder, size, focal=focal, center=center, offset=offset)


def write_drive(
    root, frames, drive="drive_0009", *, day=DAY, size=SIZE, scans=(), improved=(), speeds=None
):
    """Write a drive: both cameras' pictures, and scans, improved ground truth, speeds in m/s.

    Returns its folder.
    """
    write_calibration(root / day, size)
    folder, rng = root / day / f"{day}_{drive}_sync", np.random.default_rng(0)
    for frame in frames:
        for camera in (2, 3):
            file = _file(folder / f"image_0{camera}" / "data", frame, "png")
            file.write_bytes(encode_png(draw_image(rng, size)))
    for frame in scans:
        points = np.column_stack(
            [rng.uniform(-5, 60, 300), rng.uniform(-20, 20, (300, 2)), rng.uniform(0, 1, 300)]
        )
        layouts.write_scan(_file(folder / "velodyne_points" / "data", frame, "bin"), points)
    for frame in improved:
        file = _file(folder / "proj_depth" / "groundtruth" / "image_02", frame, "png")
        write_depth_png(file, draw_depth(rng, size))
    for frame, speed in (speeds or {}).items():
        _file(folder / "oxts" / "data", frame, "txt").write_text(_row([0] * 8 + [speed] + [0] * 21))
    return folder


def write_nyu(root, names):
    """Write frames such as "val/official/00001" in FastDepth's packing."""
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        picture, depth = draw_image(rng, (480, 640)), draw_depth(rng, (480, 640)) / 10
        layouts.write_nyu_frame(root / f"{name}.h5", picture, depth)


def draw_image(rng, size):
    """Draw a picture with few colours, which compresses fast: uint8 (H, W, 3)."""
    blocks = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((size[1], size[0]), Image.Resampling.NEAREST))


def draw_depth(rng, size):
    """Draw depth of which a 16-bit PNG loses nothing, a third of it 0: float32 (H, W), metres."""
    depth = rng.integers(256, 20000, size).astype(np.float32) / 256
    return np.where(rng.uniform(size=size) < 1 / 3, np.float32(0), depth)


def _file(folder, frame, suffix):
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{frame:010d}.{suffix}"


def _row(values):
    return " ".join(f"{value:.6e}" for value in np.ravel(values))
