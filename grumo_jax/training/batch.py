"""The arrays of a training step."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax._internal.checks import check_images
from grumo_jax.errors import GrumoError

Arrays = dict[str, Any]
"""Samples as loaded: pictures uint8, the rest float32; see `TrainingBatch`."""
VIEWS = ("previous", "following", "stereo")
"""Names of the optional other pictures of the scene."""


@struct.dataclass
class TrainingBatch:
    """Pictures, cameras and true depth, all float32; None if unknown.

    Attributes:
        image: (B, H, W, 3) in [0, 1].
        intrinsics: (B, 3, 3) in pixels of `image`, without skew; the centre of the first pixel
            is at (0, 0).
        previous: (B, H, W, 3), the frame before.
        following: (B, H, W, 3), the frame after.
        stereo: (B, H, W, 3), the other camera's picture at the same time.
        stereo_offset: (B,) metres from this camera to that of `stereo`, to the right; negative if
            it is to the left.
        depth: (B, H, W) metres, 0 where unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> batch = TrainingBatch(jnp.zeros((2, 32, 64, 3)), depth=jnp.ones((2, 32, 64)))
        >>> batch.image.shape, batch.stereo
        ((2, 32, 64, 3), None)
    """

    image: jax.Array
    intrinsics: jax.Array | None = None
    previous: jax.Array | None = None
    following: jax.Array | None = None
    stereo: jax.Array | None = None
    stereo_offset: jax.Array | None = None
    depth: jax.Array | None = None

    @property
    def pictures(self) -> dict[str, jax.Array]:
        """The image and the known views, by name.

        Example:
            >>> import jax.numpy as jnp
            >>> list(TrainingBatch(jnp.zeros((1, 4, 4, 3)), stereo=jnp.ones((1, 4, 4, 3))).pictures)
            ['image', 'stereo']
        """
        named = {name: getattr(self, name) for name in ("image", *VIEWS)}
        return {name: picture for name, picture in named.items() if picture is not None}


def check_batch(batch: TrainingBatch) -> None:
    """Raise a `GrumoError` unless every field that is not None has the right shape and dtype."""
    check_images(batch.image, channels=3)
    size, height, width, _ = batch.image.shape
    expected = {
        "intrinsics": (size, 3, 3),
        **dict.fromkeys(VIEWS, batch.image.shape),
        "stereo_offset": (size,),
        "depth": (size, height, width),
    }
    for name, shape in expected.items():
        value = getattr(batch, name)
        if value is None:
            continue
        if jnp.shape(value) != shape:
            raise GrumoError(f"{name} has shape {jnp.shape(value)}; expected {shape}")
        if jnp.result_type(value) != batch.image.dtype:
            raise GrumoError(f"{name} is {jnp.result_type(value)}; expected {batch.image.dtype}")


def check_within(name: str, value: float, low: float, high: float) -> None:
    """Raise a `GrumoError` unless low <= value <= high."""
    if not low <= value <= high:
        raise GrumoError(f"{name} is {value}; it must lie between {low} and {high}")
