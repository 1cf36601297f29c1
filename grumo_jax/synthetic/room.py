"""Random rooms: four walls around the camera, furniture, clutter, and a lamp."""

from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax.synthetic.scene import Dice, Ground, Light, Scene, join, solids
from grumo_jax.synthetic.solids import Solids
from grumo_jax.synthetic.street import random_exposure
from grumo_jax.synthetic.texture import Pattern

CABINETS, TABLES, SEATS, CHAIRS, PICTURES, CLUTTER, ROUND = 4, 2, 2, 3, 5, 6, 5
WOOD = (0.5, 0.33, 0.2)
"""Reflectance of light oak."""
Walls = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""Left and right wall (x), far wall (z) and height of a room, metres."""
Places = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""Position (x, bottom, z) and width of things, metres; arrays with an element for each."""


def random_room(key: jax.Array) -> Scene:
    """A room around the origin, most of it ahead, along z."""
    keys = jax.random.split(key, 12)
    draw = Dice(keys[0])
    walls = (-draw.one(1.2, 4), draw.one(1.2, 4), draw.one(2.5, 9), draw.one(2.2, 3.2))
    tables, spots = _tables(keys[3], walls)
    jars, balls = _round_things(keys[7], walls, spots)
    return Scene(
        boxes=join(
            [
                _shell(keys[1], walls),
                _cabinets(keys[2], walls),
                tables,
                _seats(keys[4], walls),
                _chairs(keys[5], walls),
                _pictures(keys[6], walls),
                _clutter(keys[8], walls, spots),
            ]
        ),
        cylinders=jars,
        ellipsoids=balls,
        ground=_no_ground(),
        light=_lamp(keys[9], walls),
        seed=jax.random.randint(keys[10], (), 0, 1 << 20),
    )


def _no_ground() -> Ground:
    zero = jnp.float32(0)
    return Ground(
        active=jnp.bool_(False),
        road=jnp.ones(2),
        walk=zero,
        bend=zero,
        dash=jnp.ones(2),
        colours=jnp.zeros((4, 3)),
        grain=jnp.float32(1),
        contrast=zero,
        wetness=zero,
    )


def _lamp(key: jax.Array, walls: Walls) -> Light:
    draw = Dice(key)
    left, right, far, height = walls
    x, z = draw.one(0.8 * left, 0.8 * right), draw.one(-0.3, 0.8 * far)
    y = -height * draw.one(0.6, 0.95)
    warm = jnp.array([1.0, 0.88, 0.7]) ** draw.one(0, 1.5)
    ambient = draw.one(0.25, 0.7)
    lamp = draw.one(0.3, 2.0)
    return Light(
        position=jnp.stack([x, y, z]),
        falloff=jnp.float32(0.3),
        colour=lamp * warm,
        ambient=ambient * warm**0.5,
        sky=jnp.full((2, 3), 0.5),
        clouds=jnp.float32(0),
        haze=jnp.float32(0),
        exposure=random_exposure(draw, ambient + 0.35 * lamp),
        gamma=jnp.float32(1 / 2.2),
        tone=jnp.float32(0.8),
    )


def _shell(key: jax.Array, walls: Walls) -> Solids:
    draw = Dice(key)
    left, right, far, height = walls
    paint = draw.colours(0.25, 0.85, vivid=0.15)
    wood = jnp.array([WOOD]) * draw.one(0.3, 1.4)
    carpet = draw.colours(0.1, 0.6, vivid=0.15)
    return solids(
        (left + right) / 2,
        0,
        (far - 1) / 2,
        (right - left, height, far + 1),
        colour=paint,
        accent=jnp.where(draw.one() < 0.5, wood, carpet),
        pattern=Pattern.ROOM,
        grain=draw.one(0.15, 1.0),
        contrast=draw.one(0.02, 0.35),
        gloss=jnp.where(draw.one() < 0.4, draw.one(0.3, 2.0), 0),
    )


def _furniture_colours(draw: Dice) -> jax.Array:
    wood = draw.shades(WOOD, 0.2, 1.5)
    paint = draw.colours(0.04, 0.85, vivid=0.3)
    return jnp.where(draw.chance(0.5)[:, None], wood, paint)


def _cabinets(key: jax.Array, walls: Walls) -> Solids:
    """Cupboards and shelves: two along the side walls, the others along the far wall."""
    draw = Dice(key, CABINETS)
    left, right, far, height = walls
    wide, deep = draw.each(0.5, 2.2), draw.each(0.3, 0.65)
    tall = jnp.minimum(draw.each(0.5, 2.3), height - 0.05)
    place = jnp.arange(CABINETS)
    at_side = place < 2
    x = jnp.where(place == 0, left + deep / 2, right - deep / 2)
    x = jnp.where(at_side, x, draw.each(left + 0.5, right - 0.5))
    z = jnp.where(at_side, draw.each(1.8, far), far - deep / 2)
    return solids(
        x,
        jnp.where(draw.chance(0.15), 0.4, 0.0),
        z,
        (jnp.where(at_side, deep, wide), tall, jnp.where(at_side, wide, deep)),
        active=draw.chance(0.65),
        colour=_furniture_colours(draw),
        accent=draw.colours(0.05, 0.5),
        pattern=draw.pick(Pattern.PLAIN, Pattern.BRICKS, Pattern.STRIPES, Pattern.CHECKER),
        grain=draw.each(0.3, 0.8),
        contrast=draw.each(0.05, 0.5),
        gloss=jnp.where(draw.chance(0.3), draw.each(0.3, 1.5), 0),
    )


def _tables(key: jax.Array, walls: Walls) -> tuple[Solids, jax.Array]:
    """Tops and two panels each, and a (TABLES, 3) array of x, height and z of the tops."""
    draw = Dice(key, TABLES)
    left, right, far, _ = walls
    wide, deep = draw.each(0.7, 1.8), draw.each(0.5, 0.9)
    tall, yaw = draw.each(0.4, 0.95), draw.each(-0.6, 0.6)
    yaw = jnp.where(draw.chance(0.5), yaw, 0.0)
    x, z = draw.each(left, right), draw.each(2.0, far)
    present = draw.chance(0.6)
    colour = _furniture_colours(draw)
    parts = [
        solids(
            x,
            tall - 0.04,
            z,
            (wide, 0.04, deep),
            yaw=yaw,
            active=present,
            colour=colour,
            grain=0.4,
            gloss=jnp.where(draw.chance(0.4), draw.each(0.3, 2.0), 0),
        )
    ]
    for side in (-1.0, 1.0):
        shift = side * (wide / 2 - 0.08)
        parts.append(
            solids(
                x + shift * jnp.cos(yaw),
                0,
                z - shift * jnp.sin(yaw),
                (0.05, tall - 0.04, 0.9 * deep),
                yaw=yaw,
                active=present,
                colour=0.8 * colour,
                grain=0.4,
            )
        )
    return join(parts), jnp.stack([x, jnp.where(present, tall, 0), z], axis=-1)


def _seats(key: jax.Array, walls: Walls) -> Solids:
    """Sofas and beds: a block and a back."""
    draw = Dice(key, SEATS)
    left, right, far, _ = walls
    wide, deep = draw.each(0.8, 2.1), draw.each(0.7, 2.0)
    low, back = draw.each(0.35, 0.6), draw.each(0.6, 1.1)
    x = draw.each(left + 0.4, right - 0.4)
    z = draw.each(2.6, jnp.maximum(far - 0.6, 2.7))
    present = draw.chance(0.5)
    colour = draw.colours(0.08, 0.8, vivid=0.35)
    common: dict[str, Any] = {"active": present, "colour": colour, "grain": 0.3, "contrast": 0.3}
    return join(
        [
            solids(x, 0, z, (wide, low, deep), **common),
            solids(x, 0, z + deep / 2, (wide, back, 0.2), **common),
        ]
    )


def _chairs(key: jax.Array, walls: Walls) -> Solids:
    """A seat, a back and a post each."""
    draw = Dice(key, CHAIRS)
    left, right, far, _ = walls
    x, z = draw.each(left, right), draw.each(1.6, far - 0.4)
    yaw = draw.each(-3.2, 3.2)
    present = draw.chance(0.5)
    common: dict[str, Any] = {"yaw": yaw, "active": present, "colour": _furniture_colours(draw)}
    width, back = draw.each(0.38, 0.5), draw.each(0.75, 1.1)
    return join(
        [
            solids(x, 0.42, z, (width, 0.06, width), **common),
            solids(x, 0, z, (0.7 * width, 0.42, 0.1), **common),
            solids(
                x + width / 2 * jnp.sin(yaw),
                0.48,
                z + width / 2 * jnp.cos(yaw),
                (width, back - 0.48, 0.04),
                **common,
            ),
        ]
    )


def _pictures(key: jax.Array, walls: Walls) -> Solids:
    """Pictures, doors and bright windows, flat on the walls."""
    draw = Dice(key, PICTURES)
    left, right, far, height = walls
    wide = draw.each(0.3, 1.6)
    tall = jnp.minimum(draw.each(0.3, 1.3), height - 1.2)
    place = jnp.arange(PICTURES)
    at_side = place < 2
    x = jnp.where(place == 0, left, right)
    x = jnp.where(at_side, x, draw.each(left + 0.3, right - 0.3))
    z = jnp.where(at_side, draw.each(1.5, far), far)
    door = draw.chance(0.25)
    window = draw.chance(0.35) & ~door
    bottom = jnp.where(door, 0, draw.each(0.9, 1.2))
    tall = jnp.where(door, 2.05, tall)
    colour = _furniture_colours(draw)
    return solids(
        x,
        bottom,
        z,
        (jnp.where(at_side, 0.06, wide), tall, jnp.where(at_side, wide, 0.06)),
        active=draw.chance(0.7),
        colour=jnp.where(window[:, None], 0.9, colour),
        accent=draw.colours(),
        pattern=jnp.where(window, Pattern.LAMP.value, Pattern.STRIPES.value),
        grain=draw.each(0.2, 2.0),
        contrast=jnp.where(window, 0.1, 0.6),
        # Some are behind glass, some are mirrors.
        gloss=jnp.where(window, 0, draw.pick(0, 0, 1, 7).astype(jnp.float32)),
    )


def _on_tables(draw: Dice, walls: Walls, spots: jax.Array, number: int) -> Places:
    """Places for small things on tables and on the floor."""
    left, right, far, _ = walls
    spot = spots[jnp.arange(number) % TABLES]
    aside, ahead = draw.each(-0.3, 0.3), draw.each(-0.15, 0.15)
    floor = draw.chance(0.4) | (spot[:, 1] == 0)
    x = jnp.where(floor, draw.each(left, right), spot[:, 0] + aside)
    z = jnp.where(floor, draw.each(1.5, far), spot[:, 2] + ahead)
    width = draw.each(0.1, 0.35) * jnp.where(floor, 1.6, 1.0)
    return x, jnp.where(floor, 0, spot[:, 1]), z, width


def _clutter(key: jax.Array, walls: Walls, spots: jax.Array) -> Solids:
    draw = Dice(key, CLUTTER)
    x, bottom, z, width = _on_tables(draw, walls, spots, CLUTTER)
    tall = draw.each(0.05, 0.5)
    return solids(
        x,
        bottom,
        z,
        (width, tall, 0.7 * width),
        yaw=draw.each(-1.5, 1.5),
        active=draw.chance(0.75),
        colour=draw.colours(vivid=0.45),
        accent=draw.colours(),
        pattern=Pattern.STRIPES,
        grain=draw.each(0.02, 0.6),
    )


def _round_things(key: jax.Array, walls: Walls, spots: jax.Array) -> tuple[Solids, Solids]:
    """Jars and posts, then balls and pillows, some of which roll over the floor."""
    groups = []
    for part, rolling in zip(jax.random.split(key, 2), (0.0, 0.7), strict=True):
        draw = Dice(part, ROUND)
        x, bottom, z, width = _on_tables(draw, walls, spots, ROUND)
        tall = width * draw.each(0.5, 2.0)
        heading, rolls = draw.each(0, 2 * jnp.pi), draw.chance(rolling) & (bottom == 0)
        speed = jnp.where(rolls, draw.each(0.15, 0.8), 0)
        velocity = jnp.stack([jnp.sin(heading), 0 * heading, jnp.cos(heading)], axis=-1)
        groups.append(
            solids(
                x,
                bottom,
                z,
                (width, tall, width),
                active=draw.chance(0.6),
                colour=draw.colours(vivid=0.45),
                grain=0.2,
                gloss=draw.each(0, 1.5),
                velocity=speed[:, None] * velocity,
            )
        )
    return groups[0], groups[1]
