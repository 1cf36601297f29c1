"""Scenes: ground, light and solids, as pytrees."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.synthetic.solids import Solids
from grumo_jax.synthetic.texture import Pattern

WORLD = 4
"""Version of the world: of what a seed renders to. Data of another version are refused."""
ROWS = 40
"""Draws that a `Dice` holds."""


@struct.dataclass
class Ground:
    """The plane y = 0 with a road along z: lanes, lane marks, sidewalks, and grass beyond.

    Attributes:
        active: () bool; False in rooms, which have their own floor.
        road: (2,) float32 x of the road's middle and its half width, metres.
        walk: () float32 width of the sidewalks, metres.
        bend: () float32 sideways shift of the road per squared metre along z, 1/m.
        dash: (2,) float32 period and width of the lane marks, metres.
        colours: (4, 3) float32 reflectances of road, marks, sidewalk and verge.
        grain: () float32 size of the largest texture features, metres.
        contrast: () float32 strength of the texture.
        wetness: () float32 gloss of the puddles on the ground; 0 if dry.
    """

    active: jax.Array
    road: jax.Array
    walk: jax.Array
    bend: jax.Array
    dash: jax.Array
    colours: jax.Array
    grain: jax.Array
    contrast: jax.Array
    wetness: jax.Array


@struct.dataclass
class Light:
    """One lamp or the sun, ambient light, and the sky.

    Attributes:
        position: (3,) float32 metres; the sun is 10 km away.
        falloff: () float32 in 1/m: the lamp loses half its light at 1/falloff metres; 0 for a sun.
        colour: (3,) float32 radiance of a white surface facing the light.
        ambient: (3,) float32 radiance of a white surface in shadow.
        sky: (2, 3) float32 radiance at the zenith and at the horizon.
        clouds: () float32 cover in [0, 1].
        haze: () float32 in 1/m: distant surfaces fade to the horizon's colour.
        exposure: (3,) float32 gain of the camera's red, green and blue before gamma.
        gamma: () float32.
        tone: () float32 in [0, 1]: contrast of the camera's tone curve, up to a smoothstep's.
    """

    position: jax.Array
    falloff: jax.Array
    colour: jax.Array
    ambient: jax.Array
    sky: jax.Array
    clouds: jax.Array
    haze: jax.Array
    exposure: jax.Array
    gamma: jax.Array
    tone: jax.Array


@struct.dataclass
class Scene:
    """Everything visible; a pytree of arrays, so that scenes can be stacked and vmapped.

    The number of solids is fixed for each kind of scene; unused ones are inactive.

    Attributes:
        boxes, cylinders, ellipsoids: the solids.
        ground: the plane y = 0.
        light: sun or lamp, and sky.
        seed: () int32 of the textures.

    Example:
        >>> import jax
        >>> from grumo_jax import synthetic
        >>> scene = jax.eval_shape(synthetic.random_scene, jax.random.key(0))
        >>> scene.boxes.centre.shape, scene.ground.active.shape
        ((36, 3), ())
    """

    boxes: Solids
    cylinders: Solids
    ellipsoids: Solids
    ground: Ground
    light: Light
    seed: jax.Array


def groups(scene: Scene) -> tuple[Solids, Solids, Solids]:
    """The solids, in the order of `SHAPES`."""
    return scene.boxes, scene.cylinders, scene.ellipsoids


class Dice:
    """Independent random numbers for N objects, all drawn at once.

    Every call of the generator costs compile time, and a scene takes hundreds of numbers. The order
    of calls is part of what a seed means.
    """

    def __init__(self, key: jax.Array, number: int = 1) -> None:
        self._rows = iter(jax.random.uniform(key, (ROWS, number)))

    def each(self, low: Any = 0.0, high: Any = 1.0) -> jax.Array:
        """One uniform number in [low, high) per object: (N,) float32."""
        return low + (high - low) * next(self._rows)

    def one(self, low: Any = 0.0, high: Any = 1.0) -> jax.Array:
        """One uniform number in [low, high) for all: () float32."""
        return low + (high - low) * next(self._rows)[0]

    def chance(self, probability: Any) -> jax.Array:
        """True with the given probability, per object: (N,) bool."""
        return next(self._rows) < probability

    def pick(self, *choices: int) -> jax.Array:
        """One of the choices per object, all equally likely: (N,) int32."""
        index = (next(self._rows) * len(choices)).astype(jnp.int32)
        return jnp.array(choices, jnp.int32)[index]

    def colours(self, low: float = 0.05, high: float = 0.9, *, vivid: float = 0.25) -> jax.Array:
        """Reflectances (N, 3): grey levels in [low, high] with tints of up to ±2·vivid."""
        level = self.each(low, high)
        tinted = [level * self.each(1 - 2 * vivid, 1 + 2 * vivid) for _ in range(3)]
        return jnp.clip(jnp.stack(tinted, axis=-1), 0.02, 0.95)

    def shades(self, colour: tuple[float, float, float], low: float, high: float) -> jax.Array:
        """Darker and brighter versions (N, 3) of a colour, by factors in [low, high)."""
        return self.each(low, high)[:, None] * jnp.array([colour])


def solids(
    x: Any,
    bottom: Any,
    z: Any,
    size: tuple[Any, Any, Any],
    *,
    colour: jax.Array,
    accent: Any = 0.1,
    yaw: Any = 0.0,
    active: Any = True,
    pattern: Pattern | jax.Array = Pattern.PLAIN,
    grain: Any = 0.5,
    contrast: Any = 0.2,
    gloss: Any = 0.0,
    velocity: Any = 0.0,
) -> Solids:
    """Make solids that stand on a level.

    Args:
        x, z: (N,) or scalar middle, metres.
        bottom: height of the lower end above the floor, metres.
        size: full extents (width, height, length), metres.
        colour: (N, 3); fixes N.
        accent: (N, 3) or a grey level.
        yaw, active, pattern, grain, contrast, gloss: as in `Solids`, (N,) or scalar.
        velocity: as in `Solids`, (N, 3) or scalar.
    """
    number = colour.shape[0]

    def column(value: Any, dtype: Any = jnp.float32) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(value, dtype), (number,))

    width, height, length = (column(s) for s in size)
    return Solids(
        centre=jnp.stack([column(x), -column(bottom) - height / 2, column(z)], axis=-1),
        half=jnp.stack([width, height, length], axis=-1) / 2,
        yaw=column(yaw),
        active=column(active, bool),
        colour=colour,
        accent=jnp.broadcast_to(jnp.asarray(accent, jnp.float32), (number, 3)),
        pattern=column(pattern, jnp.int32),
        grain=column(grain),
        contrast=column(contrast),
        gloss=column(gloss),
        velocity=jnp.broadcast_to(jnp.asarray(velocity, jnp.float32), (number, 3)),
    )


def at_time(scene: Scene, time: jax.Array) -> Scene:
    """The scene after a time, seconds: solids moved by their velocities."""

    def moved(group: Solids) -> Solids:
        return dataclasses.replace(group, centre=group.centre + time * group.velocity)

    return dataclasses.replace(
        scene,
        boxes=moved(scene.boxes),
        cylinders=moved(scene.cylinders),
        ellipsoids=moved(scene.ellipsoids),
    )


def join(groups: Sequence[Solids]) -> Solids:
    """Concatenate `Solids` of the same shape."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *groups)
