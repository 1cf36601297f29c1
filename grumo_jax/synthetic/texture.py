"""Procedural textures, computed from surface coordinates: noise, grids, windows.

Features smaller than a pixel fade to their mean, so that distant surfaces do not flicker.
"""

import enum

import jax
import jax.numpy as jnp


class Pattern(enum.IntEnum):
    """How a solid's two colours are arranged."""

    PLAIN = 0
    BRICKS = 1
    WINDOWS = 2
    STRIPES = 3
    CHECKER = 4
    CAR = 5
    CABIN = 6
    ROOM = 7
    LAMP = 8


def lattice_hash(i: jax.Array, j: jax.Array, seed: jax.Array) -> jax.Array:
    """Pseudo-random float32 in [0, 1) for integer lattice points (i, j) and an integer seed."""
    h = i.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)
    h = h ^ (j.astype(jnp.uint32) * jnp.uint32(0x85EBCA77))
    h = h ^ (seed.astype(jnp.uint32) * jnp.uint32(0xC2B2AE3D))
    h = (h ^ (h >> jnp.uint32(15))) * jnp.uint32(0x2C1B3C6D)
    h = (h ^ (h >> jnp.uint32(12))) * jnp.uint32(0x297A2D39)
    h = h ^ (h >> jnp.uint32(15))
    return (h >> jnp.uint32(8)).astype(jnp.int32).astype(jnp.float32) * (1 / 16777216)


def value_noise(u: jax.Array, v: jax.Array, seed: jax.Array) -> jax.Array:
    """Smooth noise in [-1, 1] with features of size 1, of the shape of u and v."""
    iu, iv = jnp.floor(u), jnp.floor(v)
    fu, fv = u - iu, v - iv
    i, j = iu.astype(jnp.int32), iv.astype(jnp.int32)
    su, sv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    low = lattice_hash(i, j, seed) * (1 - su) + lattice_hash(i + 1, j, seed) * su
    high = lattice_hash(i, j + 1, seed) * (1 - su) + lattice_hash(i + 1, j + 1, seed) * su
    return 2 * (low * (1 - sv) + high * sv) - 1


def fractal_noise(
    u: jax.Array, v: jax.Array, seed: jax.Array, footprint: jax.Array, *, octaves: int = 5
) -> jax.Array:
    """Noise over several octaves, about in [-1, 1].

    Octaves are almost equally strong, as in photos (Field, JOSA A 1987): frames then have about as
    much detail to match far away as near.

    Args:
        u, v: (…) float32 coordinates in units of the largest features.
        seed: (…) int32.
        footprint: (…) float32 size of a pixel in the same units; finer octaves are left out.
        octaves: each has half the feature size and 0.9 times the amplitude of the one before.
    """
    total = jnp.zeros_like(u)
    for octave in range(octaves):
        scale = 2.0**octave
        visible = jnp.clip(1.5 - footprint * scale, 0, 1)
        total += 0.9**octave * visible * value_noise(u * scale, v * scale, seed + octave)
    return total * 0.7


def band(
    x: jax.Array, low: jax.Array | float, high: jax.Array | float, blur: jax.Array
) -> jax.Array:
    """1 for low < x < high and 0 elsewhere, with edges as wide as a pixel (blur)."""
    sharp = 1 / jnp.maximum(blur, 1e-4)
    rising = jnp.clip((x - low) * sharp + 0.5, 0, 1)
    return jnp.minimum(rising, jnp.clip((high - x) * sharp + 0.5, 0, 1))


def grid_mask(
    u: jax.Array,
    v: jax.Array,
    inside: tuple[float, float, float, float],
    blur_u: jax.Array,
    blur_v: jax.Array,
) -> jax.Array:
    """1 inside a rectangle (low u, high u, low v, high v) of every unit cell of a grid."""
    low_u, high_u, low_v, high_v = inside
    mask_u = band(u - jnp.floor(u), low_u, high_u, blur_u)
    mask_v = band(v - jnp.floor(v), low_v, high_v, blur_v)
    # A pixel that covers more than a cell sees the mean.
    far_u, far_v = jnp.clip(2 * blur_u - 0.5, 0, 1), jnp.clip(2 * blur_v - 0.5, 0, 1)
    mask_u = mask_u + far_u * (high_u - low_u - mask_u)
    return mask_u * (mask_v + far_v * (high_v - low_v - mask_v))


def accent_mask(
    pattern: jax.Array,
    u: jax.Array,
    v: jax.Array,
    *,
    grain: jax.Array,
    footprint: jax.Array,
    seed: jax.Array,
    span: tuple[jax.Array, jax.Array],
    upright: jax.Array,
) -> jax.Array:
    """Share (0 … 1) of the accent colour at surface points.

    Args:
        pattern: (…) int32 `Pattern`.
        u, v: (…) float32 metres along the face, from its middle, and above its lower edge.
        grain: (…) float32 metres.
        footprint: (…) float32 size of a pixel on the surface, metres.
        seed: (…) int32.
        span: half width and height (…) of the face, metres.
        upright: (…) bool, whether the face is a wall.
    """
    side = upright.astype(jnp.float32)
    masks = _grid_masks(pattern, u, v, grain, footprint, seed)
    masks |= _car_masks(u, v, footprint, span, side)
    masks[Pattern.WINDOWS] *= side
    return jnp.select([pattern == p.value for p in masks], list(masks.values()), jnp.zeros_like(u))


def _grid_masks(
    pattern: jax.Array,
    u: jax.Array,
    v: jax.Array,
    grain: jax.Array,
    footprint: jax.Array,
    seed: jax.Array,
) -> dict[Pattern, jax.Array]:
    """The patterns that repeat; each point gets the cell size of its own pattern."""
    windows, bricks = pattern == Pattern.WINDOWS, pattern == Pattern.BRICKS
    cell_u = jnp.where(windows, 3.0 * grain, grain)
    cell_v = jnp.where(windows, 3.2, jnp.where(bricks, 0.4 * grain, grain))
    u, v = u / cell_u, v / cell_v
    blur_u, blur_v = footprint / cell_u, footprint / cell_v
    column, row = jnp.floor(u), jnp.floor(v)
    shifted = u + jnp.where(bricks, 0.5 * _parity(row), 0)
    brightness = lattice_hash(column.astype(jnp.int32), row.astype(jnp.int32), seed)
    pane = grid_mask(u, v, (0.25, 0.75, 0.3, 0.8), blur_u, blur_v)
    return {
        Pattern.BRICKS: 1 - grid_mask(shifted, v, (0.04, 0.96, 0.08, 0.92), blur_u, blur_v),
        Pattern.WINDOWS: pane * (0.5 + 0.5 * brightness),
        Pattern.CHECKER: 0.5 + (_parity(column + row) - 0.5) * jnp.clip(1.5 - 2 * blur_u, 0, 1),
        Pattern.STRIPES: grid_mask(u, v, (0.0, 0.5, 0.0, 1.0), blur_u, 0 * blur_v),
    }


def _parity(x: jax.Array) -> jax.Array:
    return x - 2 * jnp.floor(x / 2)


def _car_masks(
    u: jax.Array,
    v: jax.Array,
    footprint: jax.Array,
    span: tuple[jax.Array, jax.Array],
    upright: jax.Array,
) -> dict[Pattern, jax.Array]:
    """Wheels, seams, lamps, plates, the dark underside and the windows of cars."""
    half_width, height = span
    long_side = upright * (half_width > 1.4).astype(jnp.float32)
    wheel = band(jnp.hypot(jnp.abs(u) - 0.62 * half_width, v - 0.3), -1.0, 0.34, footprint)
    # Vans have a window at the back, where cars have their cabin.
    rear = band(v, 1.2, 0.85 * height, footprint) * band(jnp.abs(u), -1.0, 0.8, footprint)
    rear = rear * upright * (1 - long_side)
    under = band(v, -1.0, 0.2, footprint)
    doors = band(jnp.abs(jnp.abs(u) - 0.25 * half_width), -1.0, 0.015, footprint)
    sill = band(v / height, 0.55, 0.6, footprint / height)
    lamps = band(jnp.abs(u) / half_width, 0.6, 0.92, footprint / half_width)
    lamps = lamps * band(v, 0.5, 0.68, footprint)
    plate = band(jnp.abs(u), -1.0, 0.26, footprint) * band(v, 0.32, 0.44, footprint)
    sides = jnp.maximum(wheel, 0.6 * jnp.maximum(doors, sill)) * long_side
    ends = jnp.maximum(rear, 0.8 * jnp.maximum(lamps, plate) * upright * (1 - long_side))
    return {
        Pattern.CAR: jnp.maximum(jnp.maximum(sides, ends), under),
        Pattern.CABIN: band(v / height, 0.12, 0.86, footprint / height) * upright,
    }
