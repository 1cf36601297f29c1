"""Ray casting: nearest surface, texture, light, cast shadow and sky, with exact depth."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.synthetic.camera import Camera, pixel_rays
from grumo_jax.synthetic.scene import Scene, groups
from grumo_jax.synthetic.shading import (
    casts_shadows,
    glows,
    mirror_share,
    own_light,
    paint,
    photograph,
    sky,
)
from grumo_jax.synthetic.solids import EPS, SHAPES, Shape, Solids, distance
from grumo_jax.synthetic.surface import surface_at
from grumo_jax.synthetic.vectors import Vector, components, componentwise, dot, norm

NOTHING = -1
"""Index of the sky in `Frame.instance`."""
FAR = 1000.0
"""The ground ends at this depth, metres."""
SLOWEST = 0.05
"""Slowest speed that counts as moving, m/s."""
LAMP_RADIANCE, LAMP_FOCUS = 12.0, 200
"""Brightness and sharpness of the lamp's mirror image."""
SHADOW_BIAS = 5e-3
"""Shadow rays start this far (metres) off their surface, so that it does not shadow itself."""
BAND = 16
"""Rows of pixels shaded at a time."""
UNROLL = 2
"""Solids tested per pass over the pixels."""


@struct.dataclass
class Frame:
    """A rendered photo and its ground truth.

    Attributes:
        image: (H, W, 3) float32 in [0, 1], gamma-coded like a photo.
        depth: (H, W) float32 metres along the optical axis; 0 for sky.
        shadow: (H, W) bool: surfaces that the sun or lamp does not reach; all False if it is too
            weak (behind clouds) for visible shadows.
        reflection: (H, W) bool: at least a quarter of the light is mirrored.
        moving: (H, W) bool: surfaces of objects in motion.
        instance: (H, W) int32: index of the solid: boxes, cylinders, ellipsoids in the scene's
            order, then the ground; -1 for sky.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> make = lambda key: synthetic.random_frame(key, size=(24, 32))
        >>> frame = jax.eval_shape(make, jax.random.key(0))
        >>> frame.image.shape, frame.instance.shape
        ((24, 32, 3), (24, 32))
    """

    image: jax.Array
    depth: jax.Array
    shadow: jax.Array
    reflection: jax.Array
    moving: jax.Array
    instance: jax.Array


@struct.dataclass
class _Seen:
    """What rays hit, without the lamp's light; (H, W), colours (3, H, W).

    Attributes:
        point, normal: of the surface, in the world.
        reflectance: of the lamp's light.
        radiance: without the lamp's light and mirrored light.
        share: of mirrored light.
    """

    point: Vector
    normal: Vector
    reflectance: jax.Array
    radiance: jax.Array
    share: jax.Array


def render(scene: Scene, camera: Camera, *, size: tuple[int, int] = (192, 640)) -> Frame:
    """Render one frame. A pure function: jit it, or vmap it over scenes.

    Args:
        scene: to render.
        camera: to render it from.
        size: height and width in pixels.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> scene = synthetic.random_scene(jax.random.key(0), "room")
        >>> frame = jax.eval_shape(synthetic.render, scene, synthetic.make_camera())
        >>> frame.image.shape, frame.depth.dtype
        ((192, 640, 3), dtype('float32'))
    """
    return _render(scene, camera, size=size)


# Jitted, so that a plain call is fast.
@partial(jax.jit, static_argnames="size")
def _render(scene: Scene, camera: Camera, *, size: tuple[int, int]) -> Frame:
    rays = pixel_rays(camera, size)
    ray, origin = _unit(rays), components(camera.position)
    depth, instance = nearest(scene, origin, rays)
    depth = jnp.where(instance != NOTHING, depth, 0)
    pixel = 1 / (camera.focal[0] * size[1])
    point = componentwise(lambda start, ray: start + depth * ray, origin, rays)
    seen = _in_bands(partial(_look, scene), (point, rays, instance, depth * pixel))
    start = componentwise(lambda p, n: p + SHADOW_BIAS * n, seen.point, seen.normal)
    toward, length, share = _lamp_at(scene, start, seen.normal)
    lit = (share > 0) & reaches(scene, start, toward, length)
    lamp = scene.light.colour[:, None, None] * jnp.where(lit, share, 0)[None]
    mirrored = jax.lax.cond(
        jnp.any(seen.share > 0),
        lambda: _mirrored(scene, start, _reflect(ray, seen.normal), pixel),
        lambda: jnp.zeros_like(seen.radiance),
    )
    highlight = _highlight(scene, _reflect(ray, seen.normal), toward)
    mirrored = seen.share[None] * (mirrored + jnp.where(lit[None], highlight, 0))
    radiance = (1 - seen.share)[None] * (seen.radiance + seen.reflectance * lamp) + mirrored
    reflection = mirrored.mean(axis=0) > 0.25 * radiance.mean(axis=0)
    clear = jnp.exp(-scene.light.haze * depth * norm(rays))[None]
    radiance = radiance * clear + scene.light.sky[1][:, None, None] * (1 - clear)
    return Frame(
        image=photograph(scene.light, radiance),
        depth=depth,
        shadow=(instance != NOTHING) & ~lit & casts_shadows(scene.light),
        reflection=reflection,
        moving=_moves(scene)[instance],
        instance=instance,
    )


def _moves(scene: Scene) -> jax.Array:
    """Mask of what moves: solids, the ground and, last (index -1), the sky."""
    speed = jnp.concatenate([jnp.abs(group.velocity).max(axis=-1) for group in groups(scene)])
    return jnp.concatenate([speed > SLOWEST, jnp.zeros(2, bool)])


def _look(scene: Scene, band: tuple[Vector, Vector, jax.Array, jax.Array]) -> _Seen:
    """Shade what rays hit: points, rays, instances (H, W), and pixel sizes there, metres."""
    point, rays, instance, size = band
    seen, ray = instance != NOTHING, _unit(rays)
    surface = surface_at(scene, point, rays, instance, size)
    reflectance, accent = paint(scene, surface)
    radiance = own_light(scene.light, surface, reflectance)
    share = mirror_share(scene, surface, accent, -dot(ray, surface.normal))
    return _Seen(
        point=point,
        normal=surface.normal,
        reflectance=jnp.where((seen & ~glows(surface))[None], reflectance, 0),
        radiance=jnp.where(seen[None], radiance, sky(scene, ray)),
        share=jnp.where(seen, share, 0),
    )


def _mirrored(scene: Scene, start: Vector, ray: Vector, pixel: jax.Array) -> jax.Array:
    """Radiance (3, H, W) that comes along mirrored rays: one bounce, without cast shadows."""
    t, instance = nearest(scene, start, ray)
    t = jnp.where(instance != NOTHING, t, 0)
    point = componentwise(lambda p, d: p + t * d, start, ray)
    seen = _in_bands(partial(_look, scene), (point, ray, instance, t * pixel))
    _, _, share = _lamp_at(scene, seen.point, seen.normal)
    return seen.radiance + seen.reflectance * scene.light.colour[:, None, None] * share[None]


def _lamp_at(scene: Scene, point: Vector, normal: Vector) -> tuple[Vector, jax.Array, jax.Array]:
    """Direction and distance from points to the lamp, and the share of its light they get."""
    way = componentwise(jnp.subtract, scene.light.position, point)
    length = norm(way)
    toward = componentwise(lambda x: x / length, way)
    share = jnp.maximum(dot(toward, normal), 0) / (1 + (scene.light.falloff * length) ** 2)
    return toward, length, share


def _highlight(scene: Scene, ray: Vector, toward: Vector) -> jax.Array:
    """Radiance (3, H, W) of the lamp itself, mirrored by slightly rough surfaces."""
    cosine = jnp.maximum(dot(ray, toward), 0)
    return scene.light.colour[:, None, None] * (LAMP_RADIANCE * cosine**LAMP_FOCUS)[None]


def _reflect(ray: Vector, normal: Vector) -> Vector:
    slope = dot(ray, normal)
    return componentwise(lambda r, n: r - 2 * slope * n, ray, normal)


def _unit(vector: Vector) -> Vector:
    length = norm(vector)
    return componentwise(lambda x: x / length, vector)


def _in_bands(function: Callable[[Any], Any], planes: Any) -> Any:
    """Map a function of planes (…, H, W) over bands of rows.

    Twice as fast: intermediate results stay in the processor's cache, and XLA stores the outputs
    instead of recomputing them for every use.
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
        t (H, W) float32 in lengths of the ray's direction, inf without a hit, and the index (H, W)
        int32 of the solid, as in `Frame.instance`.
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
    """Update the nearest hits with a group of solids whose indices begin at `start`."""

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
    """Whether nothing blocks unit rays for `length` (H, W) metres: (H, W) bool."""
    clear = jnp.ones_like(length, bool)
    for shape, group in zip(SHAPES, groups(scene), strict=True):

        def still(clear: jax.Array, solid: Solids, shape: Shape = shape) -> tuple[jax.Array, None]:
            return clear & (distance(shape, solid, origin, rays) >= length), None

        clear, _ = jax.lax.scan(still, clear, group, unroll=UNROLL)
    return clear
