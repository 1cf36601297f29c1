"""The decoder's 3×3 convolutions, in the forms that XLA runs fast.

A convolution with reflection padding is one with zeros, which XLA pads by itself, and a correction at
the border; to copy the map into a padded one takes longer than the convolution where channels are
few. A convolution of a map that is upsampled twice, each pixel repeated, sees every value up to
four times: with the kernel's entries added up beforehand it is a 2×2 convolution at low resolution
for each of the four pixels that come of one, 4/9 of the operations. Both are exact up to rounding
(`benchmarks/README.md` has the gain).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

SIDE = 3


class ReflectionConv(nn.Conv):
    """3×3 convolution with reflection padding, of one map or of an upsampled one and another.

    The parameters are those of `nn.Conv(features, (3, 3))` of the map, or of the two maps'
    channels one after another.
    """

    @nn.compact
    def __call__(self, x: jax.Array, upsampled: jax.Array | None = None) -> jax.Array:
        """Convolve.

        Args:
            x: (B, h, w, C), which may have no channels.
            upsampled: (B, h/2, w/2, D): each pixel counts as 2×2, and its channels come first.
        """
        added = 0 if upsampled is None else upsampled.shape[-1]
        shape = (SIDE, SIDE, added + x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, upsampled, kernel, bias = promote_dtype(x, upsampled, kernel, bias, dtype=self.dtype)
        bias = bias.reshape(1, 1, 1, -1)
        if upsampled is None:
            return convolve_reflected(x, kernel) + bias
        found = convolve_upsampled(upsampled, kernel[:, :, :added])
        if x.shape[-1]:
            found = found + convolve_reflected(x, kernel[:, :, added:])
        return found + bias


def convolve_reflected(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve (B, h, w, C) by (3, 3, C, D), the border mirrored: (B, h, w, D).

    Example:
        >>> x = jnp.array([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1) * jnp.ones((1, 3, 1, 1))
        >>> convolve_reflected(x, jnp.ones((3, 3, 1, 1)))[0, 0, :, 0]
        Array([15., 21., 24.], dtype=float32)
    """
    y = _convolve(x, kernel, "SAME")
    _, height, width, _ = y.shape
    # What zero padding leaves out: of the rows above and below all of it, then of the columns
    # what lies between these rows.
    around = ((0, 0), (0, 0), (1, 1), (0, 0))
    above, below = (jnp.pad(x[:, i : i + 1], around, mode="reflect") for i in (1, height - 2))
    y = _add(y, _convolve(above, kernel[:1], "VALID"), 0, 0)
    y = _add(y, _convolve(below, kernel[2:], "VALID"), height - 1, 0)
    left, right = (x[:, :, i : i + 1] for i in (1, width - 2))
    y = _add(y, _convolve(left, kernel[:, :1], ((1, 1), (0, 0))), 0, 0)
    return _add(y, _convolve(right, kernel[:, 2:], ((1, 1), (0, 0))), 0, width - 1)


def convolve_upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve (B, h, w, C), each pixel repeated 2×2, by (3, 3, C, D), the border mirrored.

    Returns:
        (B, 2h, 2w, D).

    Example:
        >>> x = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
        >>> convolve_upsampled(x, jnp.ones((3, 3, 1, 1)))[0, 0, :, 0]
        Array([ 9., 12., 15., 18.], dtype=float32)
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # (row of the four, column of the four, 2, 2, C, D)
    phases = jnp.stack([_of_phases(k, axis=1) for k in _of_phases(kernel, axis=0)])
    together = phases.transpose(2, 3, 4, 0, 1, 5).reshape(2, 2, channels, 4 * features)
    # A mirrored upsampled map is the upsampled map with its edge repeated.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    found = _convolve(padded, together, "VALID")
    found = found.reshape(batch, height + 1, width + 1, 2, 2, features)
    rows = [
        jnp.stack([found[:, a : a + height, b : b + width, a, b] for b in (0, 1)], axis=3)
        for a in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, features)


def _of_phases(kernel: jax.Array, axis: int) -> jax.Array:
    """Kernels of two taps for the first and the second of two equal pixels, stacked in front."""
    before, here, after = jnp.split(kernel, SIDE, axis)
    first = jnp.concatenate([before, here + after], axis)
    second = jnp.concatenate([before + here, after], axis)
    return jnp.stack([first, second])


def _convolve(x: jax.Array, kernel: jax.Array, padding: object) -> jax.Array:
    names = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=names)  # type: ignore[arg-type]


def _add(y: jax.Array, part: jax.Array, row: int, column: int) -> jax.Array:
    """Add to the part of y that begins there, in place."""
    _, height, width, _ = part.shape
    before = y[:, row : row + height, column : column + width]
    return jax.lax.dynamic_update_slice(y, before + part, (0, row, column, 0))
