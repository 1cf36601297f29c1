"""Ray casting: nearest surface, texture, light, cast shadow, sky; exact depth on the way."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.synthetic.camera import Camera, pixel_rays
from grumo_jax.synthetic.scene import Scene, groups
from grumo_jax.synthetic.shading import albedo, glows, own_light, photograph, sky
from grumo_jax.synthetic.solids import EPS, SHAPES, Shape, Solids, distance
from grumo_jax.synthetic.surface import surface_at
from grumo_jax.synthetic.vectors import Vector, componentwise, dot, norm

NOTHING = -1
"""Index of the sky in `Frame.instance`."""
FAR = 1000.0
"""The ground ends at this depth, metres."""
SHADOW_BIAS = 5e-3
"""Shadow rays start this far (metres) off their surface, lest it shadow itself."""
BAND = 16
"""Rows of pixels that are shaded at a time."""
UNROLL = 2
"""Solids tested per pass over the pixels."""


@struct.dataclass
class Frame:
    """A rendered photo and the truth about it.

    Attributes:
        image: (H, W, 3) float32 in [0, 1], gamma-coded like a photo.
        depth: (H, W) float32 metres along the optical axis; 0 where there is only sky.
        shadow: (H, W) bool: a surface that the sun or the lamp does not reach.
        instance: (H, W) int32: the solid that is seen (boxes, cylinders, ellipsoids in the
            scene's order, then the ground), -1 for the sky.
    """

    image: jax.Array
    depth: jax.Array
    shadow: jax.Array
    instance: jax.Array


def render(scene: Scene, camera: Camera, *, size: tuple[int, int] = (192, 640)) -> Frame:
    """Render one frame. A pure function: jit it with a static size, vmap it over scenes.

    Args:
        scene: what there is.
        camera: where it is seen from.
        size: height and width in pixels.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> scene = synthetic.random_scene(jax.random.key(0), "room")
        >>> draw = jax.jit(synthetic.render, static_argnames="size")
        >>> frame = draw(scene, synthetic.make_camera(), size=(24, 32))
        >>> frame.image.shape, frame.depth.dtype
        ((24, 32, 3), dtype('float32'))
    """
    rays = pixel_rays(camera, size)
    x, y, z = camera.position
    depth, instance = nearest(scene, (x, y, z), rays)
    seen = instance != NOTHING
    depth = jnp.where(seen, depth, 0)

    def look(band: tuple[Vector, jax.Array, jax.Array]) -> tuple[Any, ...]:
        return _look(scene, camera, band, pixel=1 / (camera.focal[0] * size[1]))

    point, normal, reflectance, radiance = _in_bands(look, (rays, depth, instance))
    lit, share = _direct_light(scene, point, normal)
    lamp = scene.light.colour[:, None, None] * jnp.where(lit, share, 0)[None]
    radiance = radiance + reflectance * lamp
    clear = jnp.exp(-scene.light.haze * depth * norm(rays))[None]
    radiance = radiance * clear + scene.light.sky[1][:, None, None] * (1 - clear)
    return Frame(photograph(scene.light, radiance), depth, seen & ~lit, instance)


def _look(
    scene: Scene, camera: Camera, band: tuple[Vector, jax.Array, jax.Array], *, pixel: jax.Array
) -> tuple[Vector, Vector, jax.Array, jax.Array]:
    """Points, normals, reflectance of the lamp's light, and radiance (3, H, W) without it."""
    rays, depth, instance = band
    seen = instance != NOTHING
    point = componentwise(lambda start, ray: start + depth * ray, camera.position, rays)
    surface = surface_at(scene, point, rays, instance, depth * pixel)
    reflectance = albedo(scene, surface)
    length = norm(rays)
    background = sky(scene, componentwise(lambda ray: ray / length, rays))
    radiance = jnp.where(seen[None], own_light(scene.light, surface, reflectance), background)
    reflectance = jnp.where((seen & ~glows(surface))[None], reflectance, 0)
    return point, surface.normal, reflectance, radiance


def _in_bands(function: Callable[[Any], Any], planes: Any) -> Any:
    """Apply a function of planes (…, H, W) to one band of rows after the other.

    What it computes in between stays in the processor's cache; and XLA stores its results, where
    it would otherwise compute them again for every use. That makes frames twice as fast.
    """
    height, width = jax.tree.leaves(planes)[0].shape
    rows = math.gcd(height, BAND)
    bands = jax.tree.map(lambda x: x.reshape(height // rows, rows, width), planes)
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, -3).reshape(*x.shape[1:-2], height, width),
        jax.lax.map(function, bands),
    )


def nearest(scene: Scene, origin: Vector, rays: Vector) -> tuple[jax.Array, jax.Array]:
    """Find what rays hit first.

    Returns:
        t (H, W) float32 in lengths of the ray's direction, inf where there is nothing, and
        the index (H, W) int32 of what is hit, as in `Frame.instance`.
    """
    down = rays[1]
    t = jnp.where(down > 1e-6, -origin[1] / jnp.maximum(down, 1e-6), jnp.inf)
    t = jnp.where(scene.ground.active & (t > EPS) & (t < FAR), t, jnp.inf)
    total = sum(group.yaw.shape[0] for group in groups(scene))
    best = t, jnp.where(t < jnp.inf, total, NOTHING).astype(jnp.int32)
    start = 0
    for shape, group in zip(SHAPES, groups(scene), strict=True):
        number = group.yaw.shape[0]
        best = _nearest_of(shape, group, start, origin, rays, best)
        start += number
    return best


def _nearest_of(
    shape: Shape,
    group: Solids,
    start: int,
    origin: Vector,
    rays: Vector,
    best: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Update the nearest hits so far by those of a group whose indices begin at `start`."""

    def closer(
        best: tuple[jax.Array, jax.Array], item: tuple[jax.Array, Solids]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        index, solid = item
        t = distance(shape, solid, origin, rays)
        first = t < best[0]
        return (jnp.where(first, t, best[0]), jnp.where(first, index, best[1])), None

    indices = start + jnp.arange(group.yaw.shape[0], dtype=jnp.int32)
    return jax.lax.scan(closer, best, (indices, group), unroll=UNROLL)[0]


def reaches(scene: Scene, origin: Vector, rays: Vector, length: jax.Array) -> jax.Array:
    """Whether points see what is `length` (H, W) metres away along unit rays: (H, W) bool."""
    clear = jnp.ones_like(length, bool)
    for shape, group in zip(SHAPES, groups(scene), strict=True):

        def still(clear: jax.Array, solid: Solids, shape: Shape = shape) -> tuple[jax.Array, None]:
            return clear & (distance(shape, solid, origin, rays) >= length), None

        clear, _ = jax.lax.scan(still, clear, group, unroll=UNROLL)
    return clear


def _direct_light(scene: Scene, point: Vector, normal: Vector) -> tuple[jax.Array, jax.Array]:
    """Whether the lamp reaches points (H, W), and how much of its light then arrives."""
    start = componentwise(lambda p, n: p + SHADOW_BIAS * n, point, normal)
    way = componentwise(jnp.subtract, scene.light.position, start)
    length = norm(way)
    toward = componentwise(lambda x: x / length, way)
    cosine = dot(toward, normal)
    share = jnp.maximum(cosine, 0) / (1 + (scene.light.falloff * length) ** 2)
    return reaches(scene, start, toward, length) & (cosine > 0), share
