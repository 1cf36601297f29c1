"""Boxes, upright cylinders and ellipsoids, and their intersections with rays.

All three are affine images of a unit solid: the cube [-1, 1]³, the cylinder x² + z² ≤ 1, |y| ≤ 1,
and the unit ball. Rays are transformed to the unit solid's space, which leaves the parameter t of a
hit unchanged.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.synthetic.vectors import Vector, componentwise, turn

Shape = Literal["box", "cylinder", "ellipsoid"]
SHAPES: tuple[Shape, ...] = ("box", "cylinder", "ellipsoid")
EPS = 1e-4
"""Hits closer than this (in t) are the ray's own origin."""


@struct.dataclass
class Solids:
    """N solids of one shape; leaves may have a leading batch axis of scenes.

    Attributes:
        centre: (N, 3) float32 metres.
        half: (N, 3) float32 half extents along the solid's own axes, metres.
        yaw: (N,) float32 turn about the vertical axis, radians.
        active: (N,) bool; False for padding, which is never hit.
        colour, accent: (N, 3) float32 reflectances in [0, 1] that the pattern mixes.
        pattern: (N,) int32, one of `texture.Pattern`.
        grain: (N,) float32 size of the texture's largest features, metres.
        contrast: (N,) float32 strength of the texture's noise.
        gloss: (N,) float32 how much it mirrors: 0 not at all, 1 like glass and lacquer; in walls
            with windows only the panes do.
        velocity: (N, 3) float32 metres per second.
    """

    centre: jax.Array
    half: jax.Array
    yaw: jax.Array
    active: jax.Array
    colour: jax.Array
    accent: jax.Array
    pattern: jax.Array
    grain: jax.Array
    contrast: jax.Array
    gloss: jax.Array
    velocity: jax.Array


def _slab(origin: jax.Array, direction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Interval of t in which a ray is within [-1, 1] along one axis."""
    # A ray parallel to the slab gets a huge but finite interval: no 0·∞.
    safe = jnp.where(jnp.abs(direction) < 1e-9, 1e-9, direction)
    inverse = 1 / safe
    middle, reach = -origin * inverse, jnp.abs(inverse)
    return middle - reach, middle + reach


def _quadratic(a: jax.Array, b: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Interval of t with a·t² + 2b·t + c ≤ 0, (inf, -inf) if empty; a ≥ 0."""
    inverse = 1 / jnp.maximum(a, 1e-12)
    square = b * b - a * c
    root = jnp.sqrt(jnp.maximum(square, 0)) * inverse
    middle = -b * inverse
    empty = square < 0
    return jnp.where(empty, jnp.inf, middle - root), jnp.where(empty, -jnp.inf, middle + root)


def _interval(shape: Shape, origin: Vector, direction: Vector) -> tuple[jax.Array, jax.Array]:
    """Interval of t in which a ray is within the unit solid."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    if shape == "ellipsoid":
        a = dx * dx + dy * dy + dz * dz
        return _quadratic(a, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1)
    low, high = _slab(oy, dy)
    if shape == "cylinder":
        sides = [_quadratic(dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - 1)]
    else:
        sides = [_slab(ox, dx), _slab(oz, dz)]
    for side_low, side_high in sides:
        low, high = jnp.maximum(low, side_low), jnp.minimum(high, side_high)
    return low, high


def distance(shape: Shape, solid: Solids, origin: Vector, direction: Vector) -> jax.Array:
    """Ray parameter t (…) of the first surface of *one* solid, inf without a hit.

    From inside, that is the exit: a room is a box around the camera.

    Args:
        solid: `Solids` without the axis N.
        origin, direction: of the rays; components () or (…) float32.
    """
    # One division for all pixels, instead of one per pixel.
    scale = tuple(1 / solid.half)
    offset = componentwise(jnp.subtract, origin, solid.centre)
    local = componentwise(jnp.multiply, turn(offset, solid.yaw), scale)
    toward = componentwise(jnp.multiply, turn(direction, solid.yaw), scale)
    low, high = _interval(shape, local, toward)
    t = jnp.where(low > EPS, low, high)
    return jnp.where((low <= high) & (t > EPS) & solid.active, t, jnp.inf)


def local_normal(kind: jax.Array, local: Vector, half: Vector) -> Vector:
    """Outward unit normals in the solid's axes, for points on the surfaces.

    Args:
        kind: (…) int32 index into `SHAPES`.
        local: the points in the unit solid's space.
        half: the solids' half extents.
    """
    x, y, z = local
    size = componentwise(jnp.abs, local)
    # A cube's face is the axis of the largest coordinate; a cylinder's cap is its y face.
    radial = jnp.where(kind == 0, jnp.maximum(size[0], size[2]), jnp.sqrt(x * x + z * z))
    cap = (size[1] >= radial) & (kind != 2)
    along_x = size[0] >= size[2]
    box = (kind == 0) & ~cap
    nx = jnp.where(box & ~along_x | cap, 0, x / half[0])
    ny = jnp.where(kind == 2, y / half[1], jnp.where(cap, jnp.sign(y), 0))
    nz = jnp.where(box & along_x | cap, 0, z / half[2])
    inverse = jax.lax.rsqrt(jnp.maximum(nx * nx + ny * ny + nz * nz, 1e-12))
    return nx * inverse, ny * inverse, nz * inverse
