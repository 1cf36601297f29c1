"""Colours of surfaces and the sky, as arrays (3, H, W) of linear light."""

import jax
import jax.numpy as jnp

from grumo_jax.synthetic.scene import Ground, Light, Scene
from grumo_jax.synthetic.surface import Surface
from grumo_jax.synthetic.texture import Pattern, accent_mask, band, fractal_noise, grid_mask
from grumo_jax.synthetic.vectors import Vector

GLOW = 1.5
"""Irradiance (relative to a white surface's) that lamps and bright windows seem to receive."""
MIRRORED = 0.12
"""Share of the light that surfaces of gloss 1 mirror at normal incidence."""
PUDDLE = 2.5
"""Size of puddles, metres."""


def paint(scene: Scene, surface: Surface) -> tuple[jax.Array, jax.Array]:
    """Colours of surfaces, before lighting.

    Returns:
        Reflectance (3, H, W), and the share (H, W) of the pattern's accent.
    """
    u, v, material = surface.u, surface.v, surface.material
    room = material.pattern == Pattern.ROOM
    # A room has tiles or boards on the floor; its walls and ceiling are painted.
    floor, ceiling = room & (surface.normal[1] < -0.7), room & (surface.normal[1] > 0.7)
    mask = accent_mask(
        jnp.where(floor, Pattern.BRICKS.value, material.pattern),
        u,
        v,
        grain=material.grain,
        footprint=surface.footprint,
        seed=scene.seed,
        span=surface.span,
        upright=surface.upright,
    )
    base = jnp.where(floor[None], material.accent, material.colour)
    base = jnp.where(ceiling[None], 0.5 + 0.4 * base, base)
    joints = (1 - 1.5 * material.contrast)[None] * material.accent
    accent = jnp.where(floor[None], joints, material.accent)
    painted = base + mask[None] * (accent - base)
    ground = _road(scene.ground, u, v, surface.footprint)
    painted = jnp.where(surface.ground[None], ground, painted)
    grain = jnp.where(surface.ground, material.grain, jnp.clip(material.grain, 0.05, 2.0))
    contrast = jnp.where(room & ~floor, 0.3, 1) * material.contrast
    seed = scene.seed + material.pattern
    noise = fractal_noise(u / grain, v / grain, seed, surface.footprint / grain)
    return jnp.clip(painted * jnp.exp(contrast * noise)[None], 0, 1), mask


def mirror_share(scene: Scene, surface: Surface, accent: jax.Array, cosine: jax.Array) -> jax.Array:
    """Share (H, W) of the light that surfaces mirror, by Schlick's formula.

    Args:
        scene: the scene.
        surface: to shade.
        accent: (H, W) from `paint`: the panes of walls with windows.
        cosine: (H, W) of the angle between the line of sight and the normal.
    """
    material, ground = surface.material, surface.ground
    room = material.pattern == Pattern.ROOM
    # The footprint in metres: puddles vanish where a pixel covers half of one.
    puddles = fractal_noise(
        surface.u / PUDDLE, surface.v / PUDDLE, scene.seed + 55, surface.footprint, octaves=2
    )
    part = jnp.where(material.pattern == Pattern.WINDOWS, accent, 1)
    part = jnp.where(ground, jnp.clip(3 * puddles, 0, 1), part)
    # In rooms only the floor is polished.
    part = jnp.where(room & (surface.normal[1] > -0.7), 0, part)
    fresnel = MIRRORED + (1 - MIRRORED) * (1 - jnp.clip(cosine, 0, 1)) ** 5
    return jnp.clip(material.gloss * part * fresnel, 0, 0.9)


def _road(ground: Ground, x: jax.Array, z: jax.Array, blur: jax.Array) -> jax.Array:
    """Reflectance (3, H, W) of the ground, without noise."""
    road, marks, walk, verge = (c[:, None, None] for c in ground.colours)
    side = jnp.abs(x - ground.road[0] - ground.bend * z * z)
    half = ground.road[1]
    on_road = band(side, -1.0, half, blur)
    on_walk = band(side, half, half + ground.walk, blur)
    period, width = ground.dash
    dashes = grid_mask(z / period, 0 * z + 0.5, (0.0, 0.4, 0.0, 1.0), blur / period, 0 * z)
    middle = band(side, -width, width, blur) * dashes
    edge = band(side, half - 0.4, half - 0.4 + width, blur)
    curb = 1 - 0.4 * band(side, half, half + 0.15, blur)
    slabs = grid_mask(x, z / 1.2, (0.02, 0.98, 0.02, 0.98), blur, blur / 1.2)
    colour = verge + on_walk[None] * (walk * (0.8 + 0.2 * slabs)[None] - verge)
    colour = colour + on_road[None] * (road - colour)
    return curb[None] * (colour + jnp.maximum(middle, edge)[None] * (marks - colour))


def own_light(light: Light, surface: Surface, reflectance: jax.Array) -> jax.Array:
    """Radiance (3, H, W) of surfaces without the lamp's light."""
    openness = surface.occlusion * (0.75 - 0.25 * surface.normal[1])
    ambient = light.ambient[:, None, None] * openness[None]
    return reflectance * jnp.where(glows(surface)[None], GLOW, ambient)


def casts_shadows(light: Light) -> jax.Array:
    """Whether the lamp is bright enough, against ambient light, for visible shadows: () bool."""
    return light.colour.mean() > 0.3 * light.ambient.mean()


def glows(surface: Surface) -> jax.Array:
    """Whether surfaces (H, W) are light sources, which show no incident light."""
    return surface.material.pattern == Pattern.LAMP


def sky(scene: Scene, direction: Vector) -> jax.Array:
    """Radiance (3, H, W) of the sky in unit directions: a gradient with clouds."""
    light = scene.light
    up = jnp.maximum(-direction[1], 0)
    zenith, horizon = (c[:, None, None] for c in light.sky)
    blue = horizon + (zenith - horizon) * jnp.sqrt(up)[None]
    # The clouds lie on a plane; the offset keeps them finite at the horizon.
    plane = 1 / (up + 0.15)
    u, v = direction[0] * plane, direction[2] * plane
    noise = fractal_noise(u, v, scene.seed + 77, jnp.zeros_like(u), octaves=3)
    cover = jnp.clip((noise + 2 * light.clouds - 1) * 2, 0, 1)
    return blue + cover[None] * (1.1 * jnp.max(light.sky[1]) - blue)


def photograph(light: Light, radiance: jax.Array) -> jax.Array:
    """Image (H, W, 3) in [0, 1] of radiance (3, H, W): exposure, saturation, gamma, tone curve."""
    exposed = jnp.clip(radiance * light.exposure[:, None, None], 1e-4, 1) ** light.gamma
    # A curve like a smoothstep: cameras stretch the middle tones.
    toned = exposed + light.tone * exposed * (1 - exposed) * (2 * exposed - 1)
    return jnp.moveaxis(toned, 0, -1)
