"""The camera's motion without a network: direct alignment of two pictures, given depth.

Gauss-Newton on the brightness error, coarse to fine. Why: a small pose network that starts from
random weights hardly learns the camera's speed in thousands of steps (docs/training.md). Alignment
is as good as the depth.

Reference: Wang et al., "Learning Depth from Monocular Videos using Direct Methods", CVPR 2018;
Kerl et al., "Robust Odometry Estimation for RGB-D Cameras", ICRA 2013, for the robust weights.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp

from grumo_jax.images import to_gray
from grumo_jax.training.geometry import (
    SMALLEST_Z,
    back_project,
    from_turns,
    in_turns,
    pinhole,
    sample_bilinear,
    shrink_intrinsics,
    transform_matrix,
    transform_points,
)
from grumo_jax.training.photometric import shrink

ROUNDS = ((1, 6), (0, 4))
"""(times pictures are halved, Gauss-Newton steps), in order."""

LARGEST_TURN, LARGEST_SHIFT = 0.01, 0.02
"""Limits of one step: radians, and share of the mean depth."""

USUAL_TURN = 0.01
"""Prior standard deviation of the turn from frame to frame, radians."""

PIXELS_PER_FACT = 300
"""Neighbouring pixels share one error of depth, so that many count as one observation. Otherwise
constant depth would make cars pitch down instead of the ground come closer."""

Guess = tuple[jax.Array, jax.Array, jax.Array]
"""Motion (B, 4, 4), total turn so far (B, 3), changes of contrast and brightness (B, 2)."""

Level = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""Target, source (B, H, W), depth (B, H, W) and intrinsics (B, 3, 3) at one size."""


def align_views(
    pictures: Mapping[str, jax.Array], depth: jax.Array, intrinsics: jax.Array, *, ahead: float
) -> dict[str, jax.Array]:
    """Motions from the target's camera to those of the frames before and after.

    Args:
        pictures: {"previous", "image", "following": (B, H, W, 3) float32 in [0, 1]}, H and W even.
        depth: (B, H, W) float32 of the image, positive, in any unit.
        intrinsics: (B, 3, 3) float32 of all three, without skew.
        ahead: initial guess of the motion along z from a frame to the next, in the unit of `depth`.

    Returns:
        {"previous": (B, 4, 4), "following": (B, 4, 4)} float32; no gradient flows through them.

    Example:
        >>> import jax.numpy as jnp
        >>> from grumo_jax.training.geometry import stereo_motion, warp
        >>> x = jnp.arange(32.0)
        >>> image = 0.5 + 0.4 * jnp.outer(jnp.sin(x / 3), jnp.cos(x / 4))
        >>> image = jnp.broadcast_to(image[None, :, :, None], (1, 32, 32, 3))
        >>> camera = jnp.array([[[30.0, 0, 15.5], [0, 30.0, 15.5], [0, 0, 1]]])
        >>> depth, true = jnp.full((1, 32, 32), 2.0), stereo_motion(jnp.array([0.27]))
        >>> there = warp(image, depth, camera, true)
        >>> pictures = {"previous": image, "image": there, "following": image}
        >>> motions = align_views(pictures, depth, camera, ahead=0.0)
        >>> motions["following"][0, 0, 3].round(2)
        Array(-0.05, dtype=float32)
    """
    depth = jax.lax.stop_gradient(depth)
    names = ("image", "previous", "following")
    image, previous, following = (to_gray(pictures[name])[..., 0] for name in names)
    targets, sources = in_turns(image, image), in_turns(previous, following)
    # Ahead means that points come closer.
    way = jnp.tile(jnp.array([ahead, -ahead], depth.dtype), len(depth))
    zero = jnp.zeros_like(way)
    still = jnp.zeros((len(way), 3), depth.dtype)
    start = transform_matrix(still, jnp.stack([zero, zero, way], axis=-1))
    inverse, cameras = in_turns(1 / depth, 1 / depth), in_turns(intrinsics, intrinsics)
    before, after = from_turns(_align(targets, sources, inverse, cameras, start))
    return {"previous": before, "following": after}


def _align(
    target: jax.Array, source: jax.Array, inverse: jax.Array, camera: jax.Array, motion: jax.Array
) -> jax.Array:
    levels: list[Level] = [(target, source, inverse, camera)]
    for _ in range(max(level for level, _ in ROUNDS)):
        target, source, inverse, camera = levels[-1]
        half = target.shape[1] // 2, target.shape[2] // 2
        target, source, inverse = (shrink(x, half) for x in (target, source, inverse))
        levels.append((target, source, inverse, shrink_intrinsics(camera, 2)))
    state = motion, jnp.zeros_like(motion[:, :3, 3]), jnp.zeros_like(motion[:, :2, 3])
    for level, steps in ROUNDS:
        target, source, inverse, camera = levels[level]
        state = _gauss_newton((target, source, 1 / inverse, camera), state, steps)
    return state[0]


def _gauss_newton(level: Level, state: Guess, steps: int) -> Guess:
    target, source, depth, camera = level
    slopes = jnp.stack([source, *_slopes(source)], axis=-1)
    points = back_project(depth, camera)
    farthest = LARGEST_SHIFT * jnp.mean(depth, axis=(1, 2))[:, None]

    def step(state: Guess, _: None) -> tuple[Guess, None]:
        motion, turn, light = state
        moved = transform_points(points, motion)
        change = _solve(*_observe(target, slopes, moved, camera, light), turn)
        turned = jnp.clip(change[:, :3], -LARGEST_TURN, LARGEST_TURN)
        shifted = jnp.clip(change[:, 3:6], -farthest, farthest)
        update = transform_matrix(turned, shifted)
        motion = jnp.matmul(update, motion, precision="highest")
        return (motion, turn + turned, light + change[:, 6:]), None

    state, _ = jax.lax.scan(step, state, None, length=steps)
    return state


def _observe(
    target: jax.Array, slopes: jax.Array, points: jax.Array, camera: jax.Array, light: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Brightness errors at points (B, H, W, 3) of the source's camera.

    Returns:
        The error of brightness (B, H, W); its derivatives (B, 8, H, W) by turn, shift, contrast
        and brightness; and a mask of the points seen (B, H, W), 0 or 1.
    """
    fx, fy, cx, cy = pinhole(camera)
    z = jnp.maximum(points[..., 2], SMALLEST_Z)
    x, y = points[..., 0] / z, points[..., 1] / z
    column, row = fx * x + cx, fy * y + cy
    _, height, width = target.shape
    inside = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
    found = sample_bilinear(slopes, jnp.stack([column, row], axis=-1))
    # By the point's x, y and z; a turn moves it at right angles to axis and point.
    a, b = found[..., 1] * fx / z, found[..., 2] * fy / z
    c = -(a * x + b * y)
    turns = ((c * y - b) * z, (a - c * x) * z, (b * x - a * y) * z)
    rows = jnp.stack([*turns, a, b, c, target, jnp.ones_like(target)], axis=1)
    seen = inside & (points[..., 2] > SMALLEST_Z)
    contrast, brightness = light[:, 0, None, None], light[:, 1, None, None]
    error = found[..., 0] - (1 - contrast) * target + brightness
    return error, rows, seen.astype(target.dtype)


def _solve(error: jax.Array, rows: jax.Array, seen: jax.Array, turn: jax.Array) -> jax.Array:
    """One step of Gauss-Newton, (B, 8), with Cauchy's weights; `turn` is the total turn so far."""
    spread = jnp.sum(jnp.abs(error) * seen, axis=(1, 2)) / (jnp.sum(seen, axis=(1, 2)) + 1) + 1e-4
    weighted = rows * (seen / (1 + jnp.square(error / spread[:, None, None])))[:, None]
    normal = jnp.einsum("bihw,bjhw->bij", weighted, rows, precision="highest")
    slope = jnp.einsum("bihw,bhw->bi", weighted, error, precision="highest")
    held = PIXELS_PER_FACT * jnp.square(spread / USUAL_TURN)[:, None]
    slope = slope.at[:, :3].add(held * turn)
    # Damped, so that pictures without any texture leave the motion as it was.
    diagonal = 1e-9 + 1e-3 * jnp.diagonal(normal, axis1=1, axis2=2)
    diagonal = diagonal.at[:, :3].add(held)
    normal += diagonal[:, :, None] * jnp.eye(8, dtype=error.dtype)[None]
    return -jnp.linalg.solve(normal, slope[..., None])[..., 0]


def _slopes(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Central differences along x and y, with edge padding."""

    def along(axis: int) -> jax.Array:
        length, part = image.shape[axis], partial(jax.lax.slice_in_dim, image, axis=axis)
        behind = jnp.concatenate([part(1, length), part(length - 1, length)], axis)
        before = jnp.concatenate([part(0, 1), part(0, length - 1)], axis)
        return (behind - before) / 2

    return along(2), along(1)
