"""The visible surface points: geometry, texture coordinates and material."""

import math

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.synthetic.scene import Scene, groups, join
from grumo_jax.synthetic.solids import SHAPES, Solids, local_normal
from grumo_jax.synthetic.texture import Pattern
from grumo_jax.synthetic.vectors import Vector, components, componentwise, dot, norm, turn

CORNER = 0.25
"""Size of the dark zones along corners and on the floor, metres."""


@struct.dataclass
class Surface:
    """Surface points, one per pixel; all are (H, W) unless said otherwise.

    Attributes:
        normal: unit, in the world, facing the camera.
        u, v: metres along the surface: from the middle of a face and above its lower edge.
        span: half width and height of the face, metres.
        upright: bool, whether the face is a wall.
        footprint: size of a pixel on the surface, metres.
        occlusion: share of the ambient light left in corners, in [0, 1].
        material: the visible solid; its colours are (3, H, W).
        ground: bool, whether it is the ground.
    """

    normal: Vector
    u: jax.Array
    v: jax.Array
    span: tuple[jax.Array, jax.Array]
    upright: jax.Array
    footprint: jax.Array
    occlusion: jax.Array
    material: Solids
    ground: jax.Array


def surface_at(
    scene: Scene, point: Vector, rays: Vector, instance: jax.Array, size: jax.Array
) -> Surface:
    """Look up the surfaces at points.

    Args:
        scene: that is seen.
        point: where rays hit.
        rays: their directions, of any length.
        instance: (H, W) int32 index of the solid hit, as in `Frame.instance`.
        size: (H, W) float32 size of a pixel at the points, across the ray, metres.
    """
    kind, material = _look_up(scene, instance)
    ground = instance == len(kind_table(scene)) - 1
    centre, half = components(material.centre), components(material.half)
    offset = turn(componentwise(jnp.subtract, point, centre), material.yaw)
    local = componentwise(jnp.divide, offset, half)
    normal = turn(local_normal(kind, local, half), material.yaw, back=True)
    normal = componentwise(lambda up, n: jnp.where(ground, up, n), (0.0, -1.0, 0.0), normal)
    slope = dot(normal, rays)
    normal = componentwise(lambda n: jnp.where(slope > 0, -n, n), normal)
    upright = (jnp.abs(normal[1]) < 0.7) | (kind != 0)
    faces_x = upright & (jnp.abs(local[0]) > jnp.abs(local[2]))
    u = jnp.where(faces_x, offset[2], offset[0])
    # Round solids have no faces: any direction off the axes will do.
    u = jnp.where(kind == 0, u, offset[0] + 0.6 * offset[2])
    v = jnp.where(upright, half[1] - offset[1], offset[2])
    width = jnp.where(faces_x, half[2], half[0])
    return Surface(
        normal=normal,
        u=jnp.where(ground, point[0], u),
        v=jnp.where(ground, point[2], v),
        span=(width, jnp.where(upright, 2 * half[1], half[2])),
        upright=upright,
        footprint=size / jnp.maximum(jnp.abs(slope) / norm(rays), 0.02),
        occlusion=_occlusion(point, local, half, ground, material.pattern == Pattern.ROOM),
        material=material,
        ground=ground,
    )


def kind_table(scene: Scene) -> list[int]:
    """Index into `SHAPES` of every solid; the ground, at the end, counts as a box."""
    counts = [group.yaw.shape[0] for group in groups(scene)]
    return [i for i, count in enumerate(counts) for _ in range(count)] + [SHAPES.index("box")]


def _look_up(scene: Scene, instance: jax.Array) -> tuple[jax.Array, Solids]:
    """Index into `SHAPES`, and material, of the visible solids."""
    earth = scene.ground
    unit = jax.tree.map(lambda leaf: jnp.ones_like(leaf[:1]), scene.boxes)
    plain = unit.replace(
        centre=0 * unit.centre,
        yaw=0 * unit.yaw,
        pattern=jnp.full_like(unit.pattern, Pattern.PLAIN),
        grain=earth.grain[None],
        contrast=earth.contrast[None],
        gloss=earth.wetness[None],
        velocity=0 * unit.velocity,
    )
    table = join([*groups(scene), plain])
    kinds = jnp.array(kind_table(scene), jnp.int32)
    # The sky looks up the first solid, whose colour is not used.
    index = jnp.maximum(instance, 0)
    return kinds[index], jax.tree.map(lambda leaf: leaf.T[..., index], table)


def _occlusion(
    point: Vector, local: Vector, half: Vector, ground: jax.Array, room: jax.Array
) -> jax.Array:
    """Darkening near the floor, and in the corners of rooms."""
    above = -point[1]
    floor = 1 - jnp.where(ground, 0, 0.35) * jnp.exp(-above / CORNER)
    gaps = componentwise(lambda x, h: jnp.maximum((1 - jnp.abs(x)) * h, 0), local, half)
    # One of the three gaps is 0, as the point lies on a wall; its factor is divided out.
    corner = math.prod(1 - 0.25 * jnp.exp(-gap / CORNER) for gap in gaps) / 0.75
    return jnp.where(room, corner, floor)
