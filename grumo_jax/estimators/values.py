"""Checks that need concrete values: the range of images, and depth that is not positive."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from grumo_jax.errors import GrumoError, GrumoWarning
from grumo_jax.networks.layouts import batch_size, fits, picture_size

FAR = (-4.0, 5.0)
"""Accepted range: images are in [0, 1], or were normalised beforehand and lie within this."""

MUCH = 0.05
"""Largest share of an image's depth that may be zero or negative without a warning."""


@struct.dataclass
class Values:
    """Statistics (B,) per image, so that devices do not communicate.

    Attributes:
        low, high: range of the images with one or three channels.
        finite: whether all values of these are finite.
        not_finite, not_positive: shares of the depth's pixels.
        size: (height, width) of the images.
        depth_size: (height, width) of the depth.
    """

    low: jax.Array
    high: jax.Array
    finite: jax.Array
    not_finite: jax.Array
    not_positive: jax.Array
    size: tuple[int, int] = struct.field(pytree_node=False)
    depth_size: tuple[int, int] = struct.field(pytree_node=False)


def summarize(images: Any, depth: jax.Array) -> Values:
    """Compute the input of `check_values` in the estimate's program; depth is (B, H, W).

    Raises:
        GrumoError: if the numbers of depth maps and images differ.
    """
    if len(depth) != batch_size(images):
        raise GrumoError(
            f"the network gives {len(depth)} depth maps for {batch_size(images)} images; say how "
            "to read one of each: grumo_jax.wrap(model, depth=lambda output: …)"
        )
    pictures = [x for x in jax.tree.leaves(images) if jnp.ndim(x) == 4 and x.shape[-1] in (1, 3)]
    # Without such images: in range and finite.
    pictures = pictures or [jnp.zeros((len(depth), 1, 1, 1))]
    low = [jnp.min(x, axis=(1, 2, 3)).astype(jnp.float32) for x in pictures]
    high = [jnp.max(x, axis=(1, 2, 3)).astype(jnp.float32) for x in pictures]
    finite = [jnp.all(jnp.isfinite(x), axis=(1, 2, 3)) for x in pictures]

    def share(mask: jax.Array) -> jax.Array:
        return jnp.mean(mask, axis=(1, 2), dtype=jnp.float32)

    return Values(
        low=jnp.min(jnp.stack(low), axis=0),
        high=jnp.max(jnp.stack(high), axis=0),
        finite=jnp.all(jnp.stack(finite), axis=0),
        not_finite=share(~jnp.isfinite(depth)),
        not_positive=share(depth <= 0),
        size=picture_size(images),
        depth_size=(depth.shape[1], depth.shape[2]),
    )


def check_values(values: Values) -> None:
    """Refuse images out of range and warn of invalid depth, unless values are traced.

    Raises:
        GrumoError: for images far outside [0, 1], or not finite.

    Warns:
        GrumoWarning: see `Estimator.__call__`.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)):
        return
    low, high, finite, not_finite, not_positive = map(_at_hand, jax.tree.leaves(values))
    if not finite.all():
        raise GrumoError(
            "the images hold values that are not finite (NaN or infinity); expected float32 in "
            "[0, 1]"
        )
    if low.size and (low.min() < FAR[0] or high.max() > FAR[1]):
        raise GrumoError(
            f"the images reach from {low.min():.4g} to {high.max():.4g}; expected float32 in "
            "[0, 1]: divide them by their largest possible value, such as 255"
        )
    wrong = not_finite + not_positive
    if not_finite.any() or wrong.max(initial=0) > MUCH:
        warnings.warn(
            f"of the depth of an image, {100 * wrong.max():.3g} % is negative, 0 or not finite "
            f"({100 * not_finite.max():.3g} % NaN or infinity): scores there mean nothing; if the "
            "network predicts log depth or disparity, say how to read depth: "
            "grumo_jax.wrap(model, depth=lambda output: …)",
            GrumoWarning,
            stacklevel=4,
        )
    if not fits(values.depth_size, values.size):
        warnings.warn(
            f"depth has {values.depth_size[0]}×{values.depth_size[1]} pixels and the images "
            f"{values.size[0]}×{values.size[1]}, of another aspect; if axes are exchanged, say how "
            "to read depth: grumo_jax.wrap(model, depth=lambda output: …)",
            GrumoWarning,
            stacklevel=4,
        )


def _at_hand(values: jax.Array) -> np.ndarray:
    """The values; of an array shared by processes, those on this process's first device."""
    return np.asarray(values if values.is_fully_addressable else values.addressable_data(0))


def check_key(key: Any) -> None:
    """Raise a `GrumoError` unless `key` is a typed PRNG key, a legacy uint32 key, or None."""
    if key is None:
        return
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            if key.ndim == 0:
                return
            raise GrumoError(
                f"the key is an array of keys, of shape {key.shape}; expected one: jax.vmap takes "
                "several"
            )
        raw = jax.eval_shape(lambda: jax.random.PRNGKey(0))
        if (key.shape, key.dtype) == (raw.shape, raw.dtype):
            return
    raise GrumoError(
        f"key is {key!r}; expected a PRNG key: of a seed, jax.random.key(seed) makes one"
    )
