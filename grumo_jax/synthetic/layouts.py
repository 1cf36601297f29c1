"""The synthetic world in the layouts of KITTI's raw data and FastDepth's packing of NYU Depth V2.

Every reader of the real data reads these files: commands and experiments can be tried end to end
without a download. Results on them say nothing about real photos.
"""

import io
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax._internal.sealed import parse_json
from grumo_jax.data.depth_files import write_depth_png
from grumo_jax.data.encoding import encode_png, to_uint8
from grumo_jax.data.extras import need
from grumo_jax.data.kitti.calibration import CAMERA_FILE, SCANNER_FILE
from grumo_jax.data.kitti.splits import KittiFrame, eigen_test
from grumo_jax.errors import DataError
from grumo_jax.synthetic.scene import WORLD
from grumo_jax.synthetic.sensors import (
    KITTI_SIZE,
    drive_views,
    improved,
    kitti_camera,
    kitti_views,
    nyu_view,
    scan,
)
from grumo_jax.synthetic.take import BASELINE, INTERVAL

NYU_SCENE = 4
"""Frames per training scene; the first one is held out."""
TRAINING_DAY = "2011_09_26"
FIRST_FRAME, DRIVE_FRAMES = 70, 20
"""Numbers of the frames of training drives: on both sides of the frame at which the split `moving`
separates training from validation."""
MARK = "generated.json"
"""File in a folder of generated data that says what was generated."""

Advance = Callable[[], object]
_TURN = ((0, -1, 0), (0, 0, -1), (1, 0, 0))  # forward, left, up to right, down, forward


def write_kitti(
    root: str | Path,
    *,
    drives: int = 2,
    frames: int = 4,
    train: int = 0,
    size: tuple[int, int] = KITTI_SIZE,
    seed: int = 0,
    advance: Advance = lambda: None,
) -> None:
    """Write random streets as KITTI's raw data: pictures, calibration, scans, improved truth.

    Frames are named as in the Eigen test split, and so make up the splits `eigen`,
    `eigen_benchmark` and `velodyne`. Each is of another street. The scanner is at the left camera,
    so that the distance forward from it is the depth.

    Training drives are pictures of both cameras alone, ten per second; they make up the splits
    `moving/train` and `moving/val`.

    Args:
        root: folder to write to; new, empty, or of an interrupted call with the same arguments,
            which is continued.
        drives: number of drives, of the split's 28.
        frames: number of frames in each; only those with improved ground truth.
        train: number of training drives, of `DRIVE_FRAMES` frames each.
        size: (height, width) of the pictures; the focal length scales with the width.
        seed: of the streets.
        advance: called after each frame.

    Raises:
        DataError: if the folder holds anything else, or the split has fewer frames.
    """
    chosen = kitti_frames(drives, frames)
    settings: dict[str, Any] = {"drives": drives, "frames": frames, "size": size, "seed": seed}
    root = _claim(
        root, dataset="kitti", world=WORLD, **settings, **({"train": train} if train else {})
    )
    focal, center = kitti_camera(size)
    days = {frame.drive.split("/")[0] for frame in chosen} | ({TRAINING_DAY} if train else set())
    for day in sorted(days):
        write_calibration(root / day, size, focal=focal, center=center, offset=BASELINE["street"])
    for frame in chosen:
        _write_kitti_frame(root, frame, size, seed)
        advance()
    for drive, place in product(range(train), range(DRIVE_FRAMES)):
        _write_drive_frame(root, drive, place, size, seed)
        advance()


def write_nyu(
    root: str | Path,
    *,
    val: int = 4,
    train: int = 0,
    seed: int = 0,
    advance: Advance = lambda: None,
) -> None:
    """Write random rooms as NYU Depth V2 in FastDepth's packing, one HDF5 file for each frame.

    Args:
        root: see `write_kitti`.
        val: number of test frames, each of another room.
        train: number of training frames, four per room, of which one is held out.
        seed: of the rooms.
        advance: called after each frame.

    Raises:
        DataError: if the folder holds anything else, or h5py is not installed.
    """
    if val < 0 or train < 0 or not val + train:
        raise DataError(f"{val} test and {train} training frames; expected at least one")
    need("h5py", "writing NYU Depth V2's format")
    root = _claim(root, dataset="nyu", world=WORLD, val=val, train=train, seed=seed)
    names = [f"val/official/{n + 1:05d}" for n in range(val)]
    for n in range(train):
        scene, place = divmod(n, NYU_SCENE)
        names.append(f"train/generated_{scene + 1:04d}/{5 * place + 1:05d}")
    for name in names:
        file = root / f"{name}.h5"
        if not file.exists():
            view = nyu_view(name, seed)
            write_nyu_frame(file, to_uint8(view.image), np.asarray(view.depth))
        advance()


def kitti_frames(drives: int, frames: int) -> list[KittiFrame]:
    """Frames of the Eigen test split that have improved ground truth.

    Args:
        drives: number of drives, from the first.
        frames: number in each, from the first.

    Raises:
        DataError: if there are fewer.

    >>> [frame.id for frame in kitti_frames(1, 2)]
    ['2011_09_26/2011_09_26_drive_0002_sync 6 l', '2011_09_26/2011_09_26_drive_0002_sync 9 l']
    """
    by_drive: dict[str, list[KittiFrame]] = {}
    for frame, has_improved in eigen_test().items():
        by_drive.setdefault(frame.drive, []).extend([frame] * has_improved)
    if not 1 <= drives <= len(by_drive):
        raise DataError(f"{drives} drives; the Eigen test split has 1 to {len(by_drive)}")
    chosen = dict(list(by_drive.items())[:drives])
    least = min(map(len, chosen.values()))
    if not 1 <= frames <= least:
        raise DataError(
            f"{frames} frames of each drive; the first {drives} of the Eigen test split have at "
            f"least {least} with improved ground truth, so ask for 1 to {least}"
        )
    return [frame for found in chosen.values() for frame in found[:frames]]


def write_calibration(
    folder: Path,
    size: tuple[int, int],
    *,
    focal: float,
    center: tuple[float, float],
    offset: float,
) -> None:
    """Write one day's calibration: cameras without rotation, the scanner at the left one.

    Args:
        folder: of the day.
        size: (height, width) of the pictures.
        focal: focal length in pixels.
        center: optical centre (x, y) in pixels.
        offset: metres from the left to the right camera.
    """
    lines = ["calib_time: 09-Jan-2012 13:57:47", f"R_rect_00: {_row(np.eye(3))}"]
    for camera, shift in ((2, 0.0), (3, -focal * offset)):
        projection = [[focal, 0, center[0], shift], [0, focal, center[1], 0], [0, 0, 1, 0]]
        lines.append(f"S_rect_0{camera}: {_row([size[1], size[0]])}")
        lines.append(f"P_rect_0{camera}: {_row(projection)}")
    scanner = ["calib_time: 15-Mar-2012 11:37:16", f"R: {_row(_TURN)}", f"T: {_row([0, 0, 0])}"]
    _write(folder / CAMERA_FILE, "\n".join([*lines, ""]).encode())
    _write(folder / SCANNER_FILE, "\n".join([*scanner, ""]).encode())


def write_scan(file: Path, points: np.ndarray) -> None:
    """Write a scan (N, 4): x forward, y left, z up in metres, and reflectance."""
    _write(file, points.astype("<f4").tobytes())


def write_nyu_frame(file: Path, image: np.ndarray, depth: np.ndarray) -> None:
    """Write uint8 (480, 640, 3) and metres (480, 640) in FastDepth's packing."""
    h5py = need("h5py", "writing NYU Depth V2's format")

    # In memory first: HDF5 also reads while writing, which atomic writes do not support.
    with io.BytesIO() as stream:
        with h5py.File(stream, "w") as content:
            content["rgb"] = np.moveaxis(image, 2, 0)
            content["depth"] = depth.astype(np.float32)
        _write(file, stream.getvalue())


def _write_kitti_frame(root: Path, frame: KittiFrame, size: tuple[int, int], seed: int) -> None:
    folder, name = root / frame.drive, f"{frame.number:010d}"
    last = folder / "proj_depth" / "groundtruth" / "image_02" / f"{name}.png"
    if last.exists():
        return
    left, right = kitti_views(frame, size, seed)
    for camera, view in ((2, left), (3, right)):
        picture = encode_png(to_uint8(view.image))
        _write(folder / f"image_0{camera}" / "data" / f"{name}.png", picture)
    write_scan(folder / "velodyne_points" / "data" / f"{name}.bin", scan(left, size))
    write_depth_png(last, improved(left, size, np.random.default_rng([seed, frame.number])))


def _write_drive_frame(
    root: Path, drive: int, place: int, size: tuple[int, int], seed: int
) -> None:
    folder = root / TRAINING_DAY / f"{TRAINING_DAY}_drive_{9000 + drive}_sync"
    files = [
        folder / f"image_0{camera}" / "data" / f"{FIRST_FRAME + place:010d}.png"
        for camera in (2, 3)
    ]
    if files[-1].exists():
        return
    views = drive_views(drive, place * INTERVAL["street"], size, seed)
    for file, view in zip(files, views, strict=True):
        _write(file, encode_png(to_uint8(view.image)))


def _claim(root: str | Path, **settings: Any) -> Path:
    """Mark a folder as generated data, unless it holds anything else."""
    root, mark = Path(root), Path(root) / MARK
    content = json.loads(json.dumps(settings))
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: a file; expected a folder for the data")
    if not mark.exists():
        # A process killed at the very start leaves an unfinished mark.
        if root.exists() and any(not file.name.endswith(MARK) for file in root.iterdir()):
            raise DataError(f"{root}: holds other files; generated data need a folder of their own")
        _write(mark, json.dumps(content).encode())
    try:
        found = parse_json(mark.read_bytes())
    except ValueError:
        found = None
    if found != content:
        raise DataError(
            f"{root}: holds data generated with other options, or by another version "
            f"({mark.name}); choose another folder, or delete this one"
        )
    return root


def _write(file: Path, data: bytes) -> None:
    write_atomically(file, lambda stream: stream.write(data))


def _row(values: Any) -> str:
    return " ".join(f"{value:.6e}" for value in np.ravel(values))
