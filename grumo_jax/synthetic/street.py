"""Random streets: a bent road with cars, houses, trees, poles and people under a sun."""

import jax
import jax.numpy as jnp

from grumo_jax.synthetic.scene import Dice, Ground, Light, Scene, join, solids
from grumo_jax.synthetic.solids import Solids
from grumo_jax.synthetic.texture import Pattern

HOUSES, CARS, TREES, POLES, PEOPLE, SIGNS, HILLS = 12, 10, 16, 6, 4, 4, 3
SUN_DISTANCE = 1e4


def random_street(key: jax.Array) -> Scene:
    """A street with the origin on the right lane; z runs along the road."""
    keys = jax.random.split(key, 9)
    ground = _ground(keys[0])
    vans, cabins = _cars(keys[2], ground)
    crowns, trunks = _trees(keys[3], ground)
    signs, poles = _poles(keys[4], ground)
    bodies, heads = _people(keys[5], ground)
    return Scene(
        boxes=join([_houses(keys[1], ground), vans, cabins, signs]),
        cylinders=join([trunks, poles, bodies]),
        ellipsoids=join([crowns, heads, _hills(keys[6])]),
        ground=ground,
        light=daylight(keys[7]),
        seed=jax.random.randint(keys[8], (), 0, 1 << 20),
    )


def daylight(key: jax.Array) -> Light:
    """Random sun and sky: from blue and sharp to grey and flat."""
    draw = Dice(key)
    azimuth = draw.one(-jnp.pi, jnp.pi)
    elevation = draw.one(0.2, 1.3)
    flat = jnp.cos(elevation)
    towards = jnp.stack([flat * jnp.sin(azimuth), -jnp.sin(elevation), flat * jnp.cos(azimuth)])
    clouds = draw.one()
    # Under a closed cover there is no direct sun.
    sunny = jnp.clip(2 * (0.9 - clouds), 0, 1) * draw.one(0.6, 2.0)
    warm = jnp.array([1.0, 0.93, 0.82]) ** draw.one(0, 2)
    ambient = draw.one(0.15, 0.7) * jnp.array([0.9, 0.97, 1.08])
    zenith = jnp.array([0.25, 0.45, 0.85]) * draw.one(0.5, 1.2)
    horizon = jnp.array([0.8, 0.88, 0.95]) * draw.one(0.7, 1.3)
    grey = jnp.clip(1.5 * clouds - 0.5, 0, 1)
    brightness = ambient.mean() + 0.6 * sunny
    return Light(
        position=SUN_DISTANCE * towards,
        falloff=jnp.float32(0),
        colour=sunny * warm,
        ambient=ambient,
        sky=jnp.stack([zenith + grey * (horizon - zenith), horizon]),
        clouds=clouds,
        haze=0.008 * draw.one() ** 3,
        exposure=random_exposure(draw, brightness),
        gamma=jnp.float32(1 / 2.2),
        tone=jnp.float32(0.8),
    )


def random_exposure(draw: Dice, brightness: jax.Array) -> jax.Array:
    """Gains (3,) of a camera's roughly fitting exposure, with some colour cast."""
    gain = jnp.exp2(draw.one(-1.4, -0.1))
    cast = jnp.stack([draw.one(0.9, 1.12), jnp.float32(1), draw.one(0.85, 1.15)])
    return gain * cast / brightness


def _ground(key: jax.Array) -> Ground:
    draw = Dice(key, 3)
    half = draw.one(4, 9)
    grey = draw.colours(0.08, 0.4, vivid=0.04)
    road, walk = grey[0], 1.3 * grey[1]
    green = jnp.array([0.2, 0.3, 0.1]) * draw.one(0.5, 1.3)
    verge = jnp.where(draw.one() < 0.6, green, grey[2] * jnp.array([1.2, 1.0, 0.8]))
    marks = jnp.where(draw.one() < 0.85, draw.one(0.5, 0.9), road)
    return Ground(
        active=jnp.bool_(True),
        road=jnp.stack([-half * draw.one(0.25, 0.5), half]),
        walk=draw.one(0, 4),
        bend=jnp.where(draw.one() < 0.6, draw.one(-3e-3, 3e-3), 0),
        dash=jnp.stack([draw.one(3, 12), draw.one(0.06, 0.1)]),
        colours=jnp.stack([road, marks, walk, verge]),
        grain=draw.one(0.4, 1.5),
        contrast=draw.one(0.5, 1.4),
        wetness=jnp.where(draw.one() < 0.25, draw.one(0.4, 1.5), 0),
    )


def _beside(ground: Ground, side: jax.Array, away: jax.Array, z: jax.Array) -> jax.Array:
    """The x that lies `away` metres outside the road's edge (inside if negative)."""
    centre = ground.road[0] + ground.bend * z * z
    return centre + side * (ground.road[1] + away)


def _heading(ground: Ground, z: jax.Array) -> jax.Array:
    return jnp.arctan(2 * ground.bend * z)


def _sides(number: int) -> jax.Array:
    return jnp.where(jnp.arange(number) % 2 == 0, -1.0, 1.0)


def _houses(key: jax.Array, ground: Ground) -> Solids:
    draw = Dice(key, HOUSES)
    side, half = _sides(HOUSES), HOUSES // 2
    length = draw.each(6, 22).reshape(half, 2)
    gaps = draw.each(0, 8).reshape(half, 2) * draw.one()
    ends = jnp.cumsum(length + gaps, axis=0) - 10
    z = (ends - length / 2).reshape(-1)
    width = draw.each(6, 14)
    back = ground.walk + draw.one(0, 10) + draw.each(0, 2)
    height = draw.each(3, 9) * draw.one(0.6, 2.2)
    dense = jnp.where(draw.one() < 0.15, 0.0, draw.one(0.6, 1))
    colour = draw.colours(0.15, 0.8, vivid=0.07) * draw.shades((1.0, 0.9, 0.78), 0.9, 1.1)
    # Some are hedges and the edges of woods.
    hedge = draw.chance(jnp.where(draw.one() < 0.5, 0.0, draw.one(0.2, 1)))
    colour = jnp.where(hedge[:, None], draw.shades((0.18, 0.24, 0.08), 0.3, 1.2), colour)
    height = jnp.where(hedge, 0.5 * height, height)
    windows = draw.chance(0.75) & ~hedge
    return solids(
        _beside(ground, side, back + width / 2, z),
        0,
        z,
        (width, height, length.reshape(-1)),
        yaw=_heading(ground, z),
        active=draw.chance(dense),
        colour=colour,
        accent=draw.colours(0.03, 0.25, vivid=0.1),
        pattern=jnp.where(
            windows,
            Pattern.WINDOWS.value,
            jnp.where(hedge, Pattern.PLAIN.value, draw.pick(Pattern.BRICKS, Pattern.PLAIN)),
        ),
        grain=jnp.where(windows, draw.each(0.5, 1.2), 0.6),
        contrast=jnp.where(hedge, 1.8, draw.each(0.4, 1.2)),
        gloss=jnp.where(windows, draw.one(0, 5), 0),
    )


def _cars(key: jax.Array, ground: Ground) -> tuple[Solids, Solids]:
    """Bodies and cabins; the first two drive, the others stand at the curb."""
    draw = Dice(key, CARS)
    length, width = draw.each(3.6, 5), draw.each(1.6, 1.95)
    van = draw.chance(0.2)
    height = jnp.where(van, draw.each(1.9, 3.2), draw.each(1.35, 1.6))
    length = jnp.where(van, 1.3 * length, length)
    width = jnp.where(van, 1.15 * width, width)
    row = jnp.arange(CARS // 2, dtype=jnp.float32).repeat(2)
    side = _sides(CARS)
    z = draw.one(3, 7) + 7.5 * (row - 1) + draw.each(0, 1.2)
    drives = row == 0
    z = jnp.where(drives, draw.each(9, 55), z)
    away = jnp.where(drives, -0.62 * ground.road[1], draw.one(-1.0, -1.2) - 0.3)
    x = _beside(ground, side, away, z)
    # Keeps clear the camera's way, and what would fill half the picture.
    clear = (jnp.abs(x) > 2.2 + width / 2) | (z > 9 + length / 2)
    present = draw.chance(jnp.where(drives, 0.6, draw.one())) & clear
    paint = draw.colours(0.03, 0.85, vivid=0.08)
    vivid = draw.colours(0.15, 0.5, vivid=0.4)
    paint = jnp.where(draw.chance(0.35)[:, None], vivid, paint)
    yaw = _heading(ground, z) + draw.each(-0.05, 0.05)
    body = jnp.where(van, height - 0.05, 0.56 * height)
    glass = draw.colours(0.04, 0.3, vivid=0.05)
    # Cars on the left lane come towards the camera.
    speed = jnp.where(drives, side * draw.each(4, 14), 0)
    velocity = speed[:, None] * jnp.stack([jnp.sin(yaw), 0 * yaw, jnp.cos(yaw)], axis=-1)
    lacquer = draw.each(0, 1.5)
    bodies = solids(
        x,
        0.02,
        z,
        (width, body, length),
        yaw=yaw,
        active=present,
        colour=paint,
        accent=0.04,
        pattern=Pattern.CAR,
        grain=1.0,
        contrast=0.2,
        gloss=lacquer,
        velocity=velocity,
    )
    # The cabin sits a little behind the middle.
    shift = -0.06 * length * jnp.where(side > 0, 1, -1)
    cabins = solids(
        x + shift * jnp.sin(yaw),
        body + 0.02,
        z + shift * jnp.cos(yaw),
        (0.86 * width, height - body, 0.56 * length),
        yaw=yaw,
        active=present & ~van,
        colour=paint,
        accent=glass,
        pattern=Pattern.CABIN,
        grain=1.0,
        contrast=0.2,
        gloss=jnp.maximum(lacquer, 0.7),
        velocity=velocity,
    )
    return bodies, cabins


def _trees(key: jax.Array, ground: Ground) -> tuple[Solids, Solids]:
    draw = Dice(key, TREES)
    side = _sides(TREES)
    row = jnp.arange(TREES // 2, dtype=jnp.float32).repeat(2)
    z = 4 + 7 * row * draw.one(0.6, 1.8)
    z = z + draw.each(0, 5)
    x = _beside(ground, side, draw.one(0.6, 3) + draw.each(0, 1) * draw.one(1, 8), z)
    present = draw.chance(draw.one(0.2, 1))
    bush = draw.chance(0.3)
    trunk = jnp.where(bush, 0.1, draw.each(1.5, 3.2))
    radius = draw.each(0.12, 0.3)
    bark = draw.shades((0.25, 0.2, 0.15), 0.4, 1.2)
    trunks = solids(
        x,
        0,
        z,
        (2 * radius, trunk + 0.8, 2 * radius),
        active=present & ~bush,
        colour=bark,
        grain=0.2,
        contrast=0.6,
    )
    spread = jnp.where(bush, 0.5, 1.0) * draw.each(1.6, 5.5)
    tall = spread * jnp.where(bush, 0.7, draw.each(0.8, 1.6))
    leaves = draw.shades((0.16, 0.24, 0.07), 0.3, 1.3) + draw.shades((0.05, 0.03, 0.02), 0, 1)
    crowns = solids(
        x,
        trunk - 0.1,
        z,
        (spread, tall, spread),
        active=present,
        colour=leaves,
        grain=0.5,
        contrast=1.8,
    )
    return crowns, trunks


def _poles(key: jax.Array, ground: Ground) -> tuple[Solids, Solids]:
    """Signs, and the poles, the first of which carry them."""
    draw = Dice(key, POLES)
    side = _sides(POLES)
    z = draw.each(5, 45)
    x = _beside(ground, side, draw.each(0.3, 1.0), z)
    height = draw.each(2.2, 8)
    width = draw.each(0.06, 0.25)
    present = draw.chance(0.6)
    grey = draw.colours(0.08, 0.5, vivid=0.1)
    poles = solids(
        x, 0, z, (width, height, width), active=present, colour=grey, grain=0.5, contrast=0.2
    )
    edge = draw.each(0.4, 1.0)[:SIGNS]
    vivid = draw.colours(0.2, 0.7, vivid=0.45)
    signs = solids(
        x[:SIGNS],
        height[:SIGNS] - edge,
        z[:SIGNS] - 0.15,
        (edge, edge, 0.04),
        active=present[:SIGNS],
        colour=vivid[:SIGNS],
        accent=0.85,
        pattern=Pattern.BRICKS,
        grain=edge / 2,
        contrast=0.05,
    )
    return signs, poles


def _people(key: jax.Array, ground: Ground) -> tuple[Solids, Solids]:
    draw = Dice(key, PEOPLE)
    z = draw.each(5, 30)
    away = draw.each(-0.5, 2.5)
    x = _beside(ground, _sides(PEOPLE), away, z)
    present = draw.chance(0.4)
    height = draw.each(1.3, 1.65)
    clothes = draw.colours(0.05, 0.6, vivid=0.4)
    # They walk along the road or across it.
    walk = draw.each(-1.8, 1.8)
    along = draw.chance(0.6).astype(jnp.float32)
    velocity = walk[:, None] * jnp.stack([1 - along, 0 * along, along], axis=-1)
    bodies = solids(
        x,
        0,
        z,
        (0.5, height, 0.35),
        active=present,
        colour=clothes,
        accent=0.05,
        grain=0.4,
        contrast=0.5,
        velocity=velocity,
    )
    skin = draw.shades((0.6, 0.42, 0.32), 0.4, 1.2)
    heads = solids(
        x,
        height,
        z,
        (0.2, 0.27, 0.22),
        active=present,
        colour=skin,
        grain=0.1,
        velocity=velocity,
    )
    return bodies, heads


def _hills(key: jax.Array) -> Solids:
    draw = Dice(key, HILLS)
    z = draw.each(110, 220)
    colour = draw.shades((0.2, 0.26, 0.14), 0.4, 1.4)
    height = draw.each(6, 40)
    return solids(
        draw.each(-120, 120),
        -height / 2,
        z,
        (draw.each(80, 220), height, 60),
        colour=colour,
        active=draw.chance(0.6),
        grain=2.0,
        contrast=0.6,
    )
