"""Pinhole cameras: poses, and the rays through their pixels."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax._internal.checks import check_choice
from grumo_jax.synthetic.vectors import Vector, componentwise

SceneKind = Literal["street", "room"]
KINDS: tuple[SceneKind, ...] = ("street", "room")
"""All kinds of scenes."""


@struct.dataclass
class Camera:
    """A pinhole camera in the world: x to the right, y down, z forward, metres; y = 0 is the floor.

    Attributes:
        focal: (2,) float32 focal lengths as fractions of the image's width and height.
        centre: (2,) float32 principal point (x, y) as fractions of width and height.
        rotation: (3, 3) float32; its columns are the camera's axes in the world.
        position: (3,) float32 metres.

    Example:
        >>> import jax.numpy as jnp
        >>> camera = Camera(jnp.ones(2), jnp.full(2, 0.5), jnp.eye(3), jnp.array([0.0, -1.5, 0.0]))
        >>> camera.rotation.shape
        (3, 3)
    """

    focal: jax.Array
    centre: jax.Array
    rotation: jax.Array
    position: jax.Array


def rotation_matrix(yaw: jax.Array, pitch: jax.Array, roll: jax.Array) -> jax.Array:
    """Camera axes (3, 3), turned right by yaw, up by pitch and clockwise by roll, radians."""
    (sy, sp, sr), (cy, cp, cr) = (
        tuple(fn(jnp.asarray(a, jnp.float32)) for a in (yaw, pitch, roll))
        for fn in (jnp.sin, jnp.cos)
    )
    one, zero = jnp.float32(1), jnp.float32(0)
    turn = jnp.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    tilt = jnp.array([[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]])
    lean = jnp.array([[cr, -sr, zero], [sr, cr, zero], [zero, zero, one]])
    return turn @ tilt @ lean


def make_camera(
    *,
    height: float | jax.Array = 1.65,
    focal: tuple[float, float] | jax.Array = (0.58, 1.92),
    yaw: float | jax.Array = 0.0,
    pitch: float | jax.Array = 0.0,
    roll: float | jax.Array = 0.0,
) -> Camera:
    """A camera above the origin that looks along z; by default KITTI's, for 192×640.

    Args:
        height: metres above the floor.
        focal: focal lengths as fractions of the image's width and height.
        yaw, pitch, roll: radians; to the right, upwards and clockwise.

    Example:
        >>> make_camera(height=1.5).position
        Array([ 0. , -1.5,  0. ], dtype=float32)
    """
    down = -jnp.asarray(height, jnp.float32)
    return Camera(
        focal=jnp.asarray(focal, jnp.float32),
        centre=jnp.full(2, 0.5, jnp.float32),
        rotation=rotation_matrix(jnp.asarray(yaw), jnp.asarray(pitch), jnp.asarray(roll)),
        position=jnp.stack([jnp.zeros_like(down), down, jnp.zeros_like(down)]),
    )


def check_kind(kind: str) -> None:
    """Raise a `GrumoError` unless the kind is "street" or "room"."""
    check_choice("kind", kind, KINDS)


def random_camera(key: jax.Array, kind: SceneKind = "street") -> Camera:
    """Draw a camera as mounted on a car ("street") or held in a hand ("room").

    Args:
        key: typed PRNG key.
        kind: "street" or "room".

    Raises:
        GrumoError: if there is no such kind.

    Example:
        >>> import jax
        >>> camera = random_camera(jax.random.key(0), "room")
        >>> bool(camera.position[1] < 0)
        True
    """
    check_kind(kind)
    keys = jax.random.split(key, 6)
    zoom = jnp.exp(0.15 * jax.random.normal(keys[0]))
    height_range = (1.2, 2.1) if kind == "street" else (0.9, 1.8)
    # KITTI's images are 3.3 times as wide as high, NYU's 1.33 times.
    wide = jax.random.bernoulli(keys[5], 0.75 if kind == "street" else 0.15)
    focal = jnp.where(wide, jnp.array([0.58, 1.92]), jnp.array([0.81, 1.08])) * zoom
    tilt = jax.random.normal(keys[1])
    return make_camera(
        height=jax.random.uniform(keys[2], minval=height_range[0], maxval=height_range[1]),
        focal=focal,
        yaw=(0.06 if kind == "street" else 0.35) * jax.random.normal(keys[3]),
        pitch=0.025 * tilt if kind == "street" else 0.13 * tilt - 0.16,
        roll=(0.01 if kind == "street" else 0.03) * jax.random.normal(keys[4]),
    )


def pixel_rays(camera: Camera, size: tuple[int, int]) -> Vector:
    """World directions of the rays through the pixels' centres, each (H, W) float32.

    Their length *along the optical axis* is 1: the point position + t·direction has z-depth t.
    """
    height, width = size
    x = (jnp.arange(width, dtype=jnp.float32) + 0.5) / width - camera.centre[0]
    y = (jnp.arange(height, dtype=jnp.float32) + 0.5) / height - camera.centre[1]
    x, y = jnp.meshgrid(x / camera.focal[0], y / camera.focal[1])
    return componentwise(lambda row: row[0] * x + row[1] * y + row[2], camera.rotation)
