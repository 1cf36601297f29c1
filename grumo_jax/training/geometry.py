"""From depth and motion to what another camera would see: differentiable view synthesis.

Pixel coordinates are (x, y) with the centre of the first pixel at (0, 0); cameras look along z
with x to the right and y down. A motion (B, 4, 4) maps points of the target's camera to the
source's. Everything but the gather is elementwise: float32 matrix products may run in TF32 on GPUs,
which would move points by whole pixels.

Reference: Zhou et al., "Unsupervised Learning of Depth and Ego-Motion from Video", CVPR 2017;
Godard et al., ICCV 2019, equation 1.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from grumo_jax.errors import GrumoError
from grumo_jax.networks.monodepth2 import STEREO_SCALE

SMALLEST_Z = 1e-3
"""Points nearer to the camera's plane than this, or behind it, are projected as if at this z: far
outside of the image, unless they lie on the optical axis."""


def transform_matrix(
    axis_angle: jax.Array, translation: jax.Array, *, invert: bool = False
) -> jax.Array:
    """Rigid motions x ↦ R·x + t, with R by Rodrigues' formula.

    R = cos θ · I + (sin θ / θ) · [v]× + ((1 − cos θ) / θ²) · v·vᵀ, with θ = |v|.

    Args:
        axis_angle: (B, 3) float32, v: the axis times the angle in radians. Gradients are finite and
            exact everywhere, also at 0.
        translation: (B, 3) float32, t.
        invert: return the inverse motion, x ↦ Rᵀ·(x − t).

    Returns:
        (B, 4, 4) float32.

    Example:
        >>> import jax.numpy as jnp
        >>> quarter, shift = jnp.array([[0.0, 0.0, jnp.pi / 2]]), jnp.array([[1.0, 2.0, 4.0]])
        >>> jnp.rint(transform_matrix(quarter, shift)).astype(int)[0]
        Array([[ 0, -1,  0,  1],
               [ 1,  0,  0,  2],
               [ 0,  0,  1,  4],
               [ 0,  0,  0,  1]], dtype=int32)
    """
    x, y, z = axis_angle[:, 0], axis_angle[:, 1], axis_angle[:, 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    outer = axis_angle[:, :, None] * axis_angle[:, None, :]
    square = jnp.sum(jnp.square(axis_angle), axis=-1)[:, None, None]
    # In this form, cos θ = 1 − θ²·b and b = (1 − cos θ) / θ² lose no digits at small angles.
    a, b = _sinc(square), jnp.square(_sinc(square / 4)) / 2
    rotation = (1 - square * b) * jnp.eye(3, dtype=x.dtype)[None] + a * cross + b * outer
    if invert:
        rotation = jnp.swapaxes(rotation, 1, 2)
        translation = -jnp.sum(rotation * translation[:, None, :], axis=-1)
    top = jnp.concatenate([rotation, translation[:, :, None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([[[0, 0, 0, 1]]], x.dtype), (len(x), 1, 4))
    return jnp.concatenate([top, bottom], axis=1)


def _sinc(square: jax.Array) -> jax.Array:
    """Compute sin θ / θ from θ², with its derivative, also at 0."""
    is_small = square < 1e-2
    series = 1 - square / 6 * (1 - square / 20)
    angle = jnp.sqrt(jnp.where(is_small, 1.0, square))
    return jnp.where(is_small, series, jnp.sin(angle) / angle)


def stereo_motion(offset: jax.Array) -> jax.Array:
    """Motion to a camera that lies `offset` (B,) metres to the right, in units of 5.4 m: (B, 4, 4).

    Example:
        >>> import jax.numpy as jnp
        >>> stereo_motion(jnp.array([0.54]))[0, 0]
        Array([ 1. ,  0. ,  0. , -0.1], dtype=float32)
    """
    zero = jnp.zeros_like(offset)
    translation = jnp.stack([-offset / STEREO_SCALE, zero, zero], axis=-1)
    return transform_matrix(jnp.zeros_like(translation), translation)


def frame_pairs(inputs: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The pairs of frames for the pose network, each in the order of time.

    Args:
        inputs: {"previous", "image", "following": (B, H, W, 3)}; other keys are ignored.

    Returns:
        Earlier frames (2B, H, W, 3), each sample's previous and image; and later ones, its image
        and following. One pass of the pose network serves both pairs.

    Raises:
        GrumoError: if one of the three is missing.
    """
    missing = [name for name in ("previous", "image", "following") if name not in inputs]
    if missing:
        raise GrumoError(
            f"the camera's motion is predicted from three frames; missing: {', '.join(missing)}"
        )
    previous, image, following = (inputs[name] for name in ("previous", "image", "following"))
    return in_turns(previous, image), in_turns(image, following)


def in_turns(first: jax.Array, second: jax.Array) -> jax.Array:
    """Interleave two batches (B, …) to one (2B, …).

    Concatenated, samples of a sharded batch would move to other devices.

    Example:
        >>> import jax.numpy as jnp
        >>> in_turns(jnp.array([1, 2]), jnp.array([-1, -2]))
        Array([ 1, -1,  2, -2], dtype=int32)
    """
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def from_turns(both: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse of `in_turns`: two batches (B, …)."""
    pairs = both.reshape(-1, 2, *both.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def motions_from_poses(poses: jax.Array) -> dict[str, jax.Array]:
    """Motions from the target's camera, given the poses of `frame_pairs`.

    The first pair's motion leads from the previous frame to the target and is inverted.

    Args:
        poses: (2B, 6) float32: axis-angle and translation.

    Returns:
        {"previous": (B, 4, 4), "following": (B, 4, 4)} float32.
    """
    before, after = from_turns(poses)
    return {
        "previous": transform_matrix(before[:, :3], before[:, 3:], invert=True),
        "following": transform_matrix(after[:, :3], after[:, 3:]),
    }


def predict_motions(
    pose_apply: Callable[[jax.Array, jax.Array], jax.Array], inputs: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Motions from the target's camera to those of the frames before and after.

    Args:
        pose_apply: (earlier frames, later frames) → (N, 6), such as a bound `PoseNetwork`. It is
            called once, with both pairs in one batch. (To update BatchNorm's statistics, call the
            network yourself, between `frame_pairs` and `motions_from_poses`.)
        inputs: {"previous", "image", "following": (B, H, W, 3)}.

    Returns:
        {"previous": (B, 4, 4), "following": (B, 4, 4)} float32.

    Raises:
        GrumoError: if a frame is missing.

    Example:
        >>> import jax.numpy as jnp
        >>> frames = dict.fromkeys(("previous", "image", "following"), jnp.zeros((1, 4, 4, 3)))
        >>> still = lambda first, second: jnp.zeros((len(first), 6))
        >>> predict_motions(still, frames)["previous"].shape
        (1, 4, 4)
    """
    return motions_from_poses(pose_apply(*frame_pairs(inputs)))


def back_project(depth: jax.Array, intrinsics: jax.Array) -> jax.Array:
    """Lift pixels to points in the camera's coordinates.

    Args:
        depth: (B, H, W) float32, z of the points, in any unit.
        intrinsics: (B, 3, 3) float32, without skew.

    Returns:
        (B, H, W, 3) float32, in the unit of `depth`.
    """
    _, height, width = depth.shape
    fx, fy, cx, cy = pinhole(intrinsics)
    x = (jnp.arange(width, dtype=depth.dtype)[None, None, :] - cx) / fx
    y = (jnp.arange(height, dtype=depth.dtype)[None, :, None] - cy) / fy
    return jnp.stack([x * depth, y * depth, depth], axis=-1)


def project(points: jax.Array, intrinsics: jax.Array, transform: jax.Array) -> jax.Array:
    """Move points into another camera and project them into its image.

    Args:
        points: (B, H, W, 3) float32, in the target's camera.
        intrinsics: (B, 3, 3) float32 of the other camera, without skew.
        transform: (B, 4, 4) float32, from the target's camera to the other.

    Returns:
        Pixel coordinates (x, y), (B, H, W, 2) float32: finite also for points behind the camera
        (see `SMALLEST_Z`), and not clipped to the image.
    """
    fx, fy, cx, cy = pinhole(intrinsics)
    moved = transform_points(points, transform)
    x, y, z = moved[..., 0], moved[..., 1], moved[..., 2]
    z = jnp.maximum(z, SMALLEST_Z)
    return jnp.stack([fx * (x / z) + cx, fy * (y / z) + cy], axis=-1)


def transform_points(points: jax.Array, transform: jax.Array) -> jax.Array:
    """Move points (B, H, W, 3) by motions (B, 4, 4)."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    rows = (transform[:, i, None, None, :] for i in range(3))
    moved = (r[..., 0] * x + r[..., 1] * y + r[..., 2] * z + r[..., 3] for r in rows)
    return jnp.stack(list(moved), axis=-1)


def pinhole(intrinsics: jax.Array) -> tuple[jax.Array, ...]:
    """fx, fy, cx, cy, each (B, 1, 1), of intrinsics (B, 3, 3)."""
    entries = ((0, 0), (1, 1), (0, 2), (1, 2))
    return tuple(intrinsics[:, i, j][:, None, None] for i, j in entries)


def shrink_intrinsics(intrinsics: jax.Array, factor: int) -> jax.Array:
    """Intrinsics (B, 3, 3) of pictures downsampled by a factor, with their corner fixed."""
    by = jnp.array([[factor, 1, factor], [1, factor, factor], [1, 1, 1]], intrinsics.dtype)
    # The corner is at (-0.5, -0.5).
    shift = 0.5 / factor - 0.5
    move = jnp.array([[0, 0, shift], [0, 0, shift], [0, 0, 0]], intrinsics.dtype)
    return intrinsics / by[None] + move[None]


def sample_bilinear(images: jax.Array, coordinates: jax.Array) -> jax.Array:
    """Sample images bilinearly, with edge padding.

    Args:
        images: (B, H, W, C) float32. No gradient flows into them.
        coordinates: (B, h, w, 2) float32, pixel coordinates (x, y). Their cotangent is finite, and
            0 outside of the image.

    Returns:
        (B, h, w, C) float32.

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.array([[0.0, 1.0, 4.0]])[None, ..., None]
        >>> points = jnp.array([[0.25, 0.0], [1.5, 0.0], [9.0, -3.0]])[None, None]
        >>> sample_bilinear(image, points)[0, 0, :, 0]
        Array([0.25, 2.5 , 4.  ], dtype=float32)
    """
    return _interpolate(images, coordinates[..., 0], coordinates[..., 1])


@jax.custom_jvp
def _interpolate(images: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    (top_left, top_right, low_left, low_right), right, down = _neighbours(images, x, y)
    right, down = right[..., None], down[..., None]
    upper = top_left * (1 - right) + top_right * right
    lower = low_left * (1 - right) + low_right * right
    return upper * (1 - down) + lower * down


@_interpolate.defjvp
def _interpolate_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    # Written by hand, channel by channel: XLA's CPU backend is slow with a short last axis, and
    # takes four times as long for JAX's own derivative.
    images, x, y = primals
    corners, right, down = _neighbours(images, x, y)
    _, height, width, channels = images.shape
    moved_x = jnp.where((x >= 0) & (x <= width - 1), tangents[1], 0)
    moved_y = jnp.where((y >= 0) & (y <= height - 1), tangents[2], 0)
    changes = []
    for channel in range(channels):
        top_left, top_right, low_left, low_right = (c[..., channel] for c in corners)
        slope_x = (top_right - top_left) * (1 - down) + (low_right - low_left) * down
        slope_y = (low_left - top_left) * (1 - right) + (low_right - top_right) * right
        changes.append(slope_x * moved_x + slope_y * moved_y)
    return _interpolate(images, x, y), jnp.stack(changes, axis=-1)


def _neighbours(
    images: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    """The four pixels around each point, and its offsets right of and below the first."""
    batch, height, width, channels = images.shape
    x, y = jnp.clip(x, 0, width - 1), jnp.clip(y, 0, height - 1)
    # Clipped to the last pixel but one, so that all four are in the image.
    left = jnp.clip(jnp.floor(x), 0, max(width - 2, 0))
    top = jnp.clip(jnp.floor(y), 0, max(height - 2, 0))
    right, down = min(1, width - 1), min(1, height - 1) * width
    first = top.astype(jnp.int32) * width + left.astype(jnp.int32)
    pixels = images.reshape(batch, height * width, channels)
    corners = tuple(take_pixels(pixels, first + i) for i in (0, right, down, down + right))
    return corners, x - left, y - top


def take_pixels(pixels: jax.Array, indices: jax.Array) -> jax.Array:
    """Gather pixels of each image: (B, H·W, C), indices (B, …) int32 → (B, …, C)."""
    return jax.vmap(lambda image, i: image.at[i].get(mode="promise_in_bounds"))(pixels, indices)


def warp(
    source: jax.Array, depth: jax.Array, intrinsics: jax.Array, transform: jax.Array
) -> jax.Array:
    """Synthesise the target's view from a source's picture and the target's depth.

    Args:
        source: (B, H, W, 3) float32, the other camera's picture. No gradient flows into it.
        depth: (B, H, W) float32 of the target, in the unit of the motion's translation.
        intrinsics: (B, 3, 3) float32 of both cameras, without skew.
        transform: (B, 4, 4) float32, from the target's camera to the source's.

    Returns:
        (B, H, W, 3) float32; edge padding outside of the source's picture.
    """
    points = back_project(depth, intrinsics)
    return sample_bilinear(source, project(points, intrinsics, transform))
