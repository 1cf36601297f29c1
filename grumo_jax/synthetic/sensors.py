"""The synthetic world as recorded by the cameras and scanner of KITTI and NYU Depth V2."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax.data import nyu
from grumo_jax.data.kitti.splits import KittiFrame, eigen_test
from grumo_jax.synthetic import random_scene
from grumo_jax.synthetic.camera import Camera, make_camera, random_camera
from grumo_jax.synthetic.render import Frame, render
from grumo_jax.synthetic.take import BASELINE, beside, make_take, shoot

KITTI_SIZE = (375, 1242)
FOCAL, CENTER = 721.5377, (609.5593, 172.854)
"""Of KITTI's rectified colour cameras, in pixels of its pictures."""
BEAMS = np.radians(np.linspace(2.0, -24.8, 64))
"""Elevations of the scanner's laser beams."""
STEP = np.radians(0.18)
"""Angle between two of a beam's measurements."""
RANGE = 120.0
"""Range of the scanner, metres."""
DRIVE_STREETS = 1_000_000
"""Offset of the streets of drives from those of test frames: no split has so many."""
IMPROVED_SHARE = 0.3
"""Share of the pixels at the beams' height that the improved ground truth covers."""


def kitti_camera(size: tuple[int, int]) -> tuple[float, tuple[float, float]]:
    """Focal length and optical centre (x, y) in pixels, for pictures of a size."""
    height, width = size[0] / KITTI_SIZE[0], size[1] / KITTI_SIZE[1]
    return FOCAL * width, (CENTER[0] * width, CENTER[1] * height)


def kitti_views(
    frame: KittiFrame, size: tuple[int, int] = KITTI_SIZE, seed: int = 0
) -> tuple[Frame, Frame]:
    """The left and the right view of a generated frame, with exact depth."""
    key = jax.random.fold_in(jax.random.key(seed), list(eigen_test()).index(frame))
    focal, center = kitti_camera(size)
    # A point that projects to x belongs to the pixel x − 1 (see `velodyne_depth`), counted from 0.
    left = _camera(make_camera(), (focal, focal), (center[0] - 1, center[1] - 1), size)
    scene, right = random_scene(key), beside(left, BASELINE["street"])
    return render(scene, left, size=size), render(scene, right, size=size)


def drive_views(
    drive: int, time: float, size: tuple[int, int] = KITTI_SIZE, seed: int = 0
) -> tuple[Frame, Frame]:
    """The left and the right view on a drive, at a time in seconds."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), DRIVE_STREETS), drive)
    scene_key, camera_key = jax.random.split(key)
    take = make_take(random_scene(scene_key), camera_key)
    # Without scans there is no shift as in `kitti_views`: pixel centres are integers.
    focal, center = kitti_camera(size)
    camera = _camera(take.camera, (focal, focal), center, size)
    take = dataclasses.replace(take, camera=camera)
    left = shoot(take, time, size=size)
    return left, shoot(take, time, size=size, offset=BASELINE["street"])


def nyu_view(name: str, seed: int = 0) -> Frame:
    """The view of a generated frame, such as "val/official/00001"."""
    part, folder, number = name.split("/")
    room = int(number if part == "val" else folder.rpartition("_")[2])
    key = jax.random.fold_in(jax.random.key(seed), 2 * room + (part == "val"))
    scene_key, camera_key = jax.random.split(key)
    pose = random_camera(jax.random.fold_in(camera_key, int(number)), "room")
    k, size = nyu.intrinsics(), (nyu.HEIGHT, nyu.WIDTH)
    camera = _camera(pose, (k[0, 0], k[1, 1]), (k[0, 2], k[1, 2]), size)
    return render(random_scene(scene_key, "room"), camera, size=size)


def scan(view: Frame, size: tuple[int, int]) -> np.ndarray:
    """Points that 64 laser beams from the left camera measure: float32 (N, 4), see `write_scan`.

    Points lie on the rays through pixel centres, so that each projects to its own pixel.
    Reflectance is the picture's brightness.
    """
    focal, center = kitti_camera(size)
    rows, columns = _beam_pixels(size)
    z = np.asarray(view.depth)[rows, columns]
    x, y = (columns + 1 - center[0]) / focal * z, (rows + 1 - center[1]) / focal * z
    points = np.stack([z, -x, -y, np.asarray(view.image)[rows, columns].mean(axis=1)], axis=1)
    return points[(z > 0) & (z < RANGE)].astype(np.float32)


def improved(view: Frame, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Denser ground truth (H, W) within the beams' elevations, in metres, 0 where unknown."""
    rows, _ = _beam_pixels(size)
    depth = np.asarray(view.depth)
    known = (depth < RANGE) & (rng.uniform(size=size) < IMPROVED_SHARE)
    known[: rows.min()] = False
    return np.where(known, depth, np.float32(0))


@cache
def _beam_pixels(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that the beams hit, each once."""
    focal, center = kitti_camera(size)
    elevation, azimuth = np.meshgrid(BEAMS, np.arange(-np.pi / 3, np.pi / 3, STEP))
    columns = np.rint(center[0] - focal * np.tan(azimuth)) - 1
    rows = np.rint(center[1] - focal * np.tan(elevation) / np.cos(azimuth)) - 1
    inside = (columns >= 0) & (columns < size[1]) & (rows >= 0) & (rows < size[0])
    pixels = np.unique(np.stack([rows[inside], columns[inside]]).astype(np.int64), axis=1)
    return pixels[0], pixels[1]


def _camera(
    pose: Camera, focal: tuple[float, float], center: tuple[float, float], size: tuple[int, int]
) -> Camera:
    """A camera of that pose; focal lengths and centre in pixels, the first pixel's centre at 0."""
    height, width = size
    return dataclasses.replace(
        pose,
        focal=jnp.array([focal[0] / width, focal[1] / height], jnp.float32),
        centre=jnp.array([(center[0] + 0.5) / width, (center[1] + 0.5) / height], jnp.float32),
    )
