"""The decoder's 3×3 convolutions, in forms that XLA runs fast; all are exact up to rounding.

Upsampled maps: after nearest-neighbour upsampling by 2, a 3×3 window sees each value up to four
times. With the kernel's entries summed beforehand, each of the four output pixels of a
low-resolution pixel needs a 2×2 convolution at low resolution: 4/9 of the operations.

Reflection padding: with few channels, copying the map into a padded one takes as long as the
convolution. So on CPUs the map is padded with zeros, by XLA itself, and the border corrected.
On other platforms the map is copied: on GPUs the correction is many small kernels, and a
convolution fuses with the bias and sum that follow it (`benchmarks/compiled.py`).
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

SIDE = 3
SMALL = 48 * 160
"""Number of pixels below which CPUs copy the map, too, since that compiles faster."""


class ReflectionConv(nn.Conv):
    """3×3 convolution with reflection padding, of a map, or of an upsampled map and another.

    The parameters are those of `nn.Conv(features, (3, 3))` of the map, or of both maps with their
    channels concatenated. It is a subclass of `nn.Conv` only so that `choose_layers` counts it as
    a convolution; only the options `features`, `dtype` and the initialisers have an effect.
    """

    @nn.compact
    def __call__(self, x: jax.Array, upsampled: jax.Array | None = None) -> jax.Array:
        """Convolve.

        Args:
            x: (B, h, w, C); C may be 0 if `upsampled` is given.
            upsampled: (B, h/2, w/2, D), repeated 2×2; its channels come first in the kernel.
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
    """Convolve (B, h, w, C) by (3, 3, C, D) with reflection padding: (B, h, w, D).

    Example:
        >>> x = jnp.array([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1) * jnp.ones((1, 3, 1, 1))
        >>> convolve_reflected(x, jnp.ones((3, 3, 1, 1)))[0, 0, :, 0]
        Array([15., 21., 24.], dtype=float32)
    """
    if kernel.shape[-1] == 1:
        return _convolve_to_one(x, kernel)
    return _convolve_padded(x, kernel, inset=1)


def convolve_upsampled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve (B, h, w, C), each pixel repeated 2×2, by (3, 3, C, D) with reflection padding.

    Returns:
        (B, 2h, 2w, D).

    Example:
        >>> x = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
        >>> convolve_upsampled(x, jnp.ones((3, 3, 1, 1)))[0, 0, :, 0]
        Array([ 9., 12., 15., 18.], dtype=float32)
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # (row, column among the 2×2 output pixels, 2, 2, C, D)
    phases = jnp.stack([_of_phases(k, axis=1) for k in _of_phases(kernel, axis=0)])
    together = phases.transpose(2, 3, 4, 0, 1, 5).reshape(2, 2, channels, 4 * features)
    # Reflection padding of the upsampled map is edge padding of the original one.
    found = _convolve_padded(x, together, inset=0)
    found = found.reshape(batch, height + 1, width + 1, 2, 2, features)
    rows = [
        jnp.stack([found[:, a : a + height, b : b + width, a, b] for b in (0, 1)], axis=3)
        for a in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, features)


def _of_phases(kernel: jax.Array, axis: int) -> jax.Array:
    """Two-tap kernels for the first and second of two repeated pixels, stacked on a first axis."""
    before, here, after = jnp.split(kernel, SIDE, axis)
    first = jnp.concatenate([before, here + after], axis)
    second = jnp.concatenate([before + here, after], axis)
    return jnp.stack([first, second])


def _convolve_to_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve (B, h, w, C) by (3, 3, C, 1) with reflection padding: products, then shifts."""
    exact = x.dtype if jnp.finfo(x.dtype).bits > 16 else jnp.float32
    flat = kernel.reshape(SIDE * SIDE, -1)
    products = jnp.einsum("bhwc,tc->bhwt", x, flat, preferred_element_type=exact)
    # The VJP of a split is one pass over all products; that of slices is one pass for each.
    taps = jnp.split(jnp.moveaxis(products, 3, 0), SIDE * SIDE)
    rows = [_add_shifted(taps[SIDE * row :][:SIDE], axis=3) for row in range(SIDE)]
    return _add_shifted(rows, axis=2)[0][..., None].astype(x.dtype)


def _add_shifted(taps: Sequence[jax.Array], axis: int) -> jax.Array:
    """Sum of three maps, the first and last shifted by one pixel along an axis and reflected."""
    before, here, behind = taps
    length = here.shape[axis]

    def part(x: jax.Array, start: int, stop: int) -> jax.Array:
        return jax.lax.slice_in_dim(x, start, stop, axis=axis)

    # A single pixel is its own reflection.
    first, last = min(1, length - 1), max(length - 2, 0)
    before = jnp.concatenate([part(before, first, first + 1), part(before, 0, length - 1)], axis)
    behind = jnp.concatenate([part(behind, 1, length), part(behind, last, last + 1)], axis)
    return before + here + behind


def _convolve_padded(x: jax.Array, kernel: jax.Array, *, inset: int) -> jax.Array:
    """Convolve (B, h, w, C), padded by one pixel: a copy of the line `inset` from the border."""
    copied, corrected = (
        partial(way, inset=inset) for way in (_convolve_copied, _convolve_corrected)
    )
    height, width = x.shape[1:3]
    if height * width < SMALL or min(height, width) == 1:
        return copied(x, kernel)
    found: jax.Array = jax.lax.platform_dependent(x, kernel, cpu=corrected, default=copied)
    return found


def _convolve_copied(x: jax.Array, kernel: jax.Array, *, inset: int) -> jax.Array:
    # Not `jnp.pad`, whose edge mode also slices the batch axis, to pad it by 0: if that is sharded,
    # the backward pass then communicates between devices.
    for axis in (1, 2):
        length = x.shape[axis]
        inside = min(inset, length - 1)
        first, last = (
            jax.lax.slice_in_dim(x, place, place + 1, axis=axis)
            for place in (inside, length - 1 - inside)
        )
        x = jnp.concatenate([first, x, last], axis)
    return _convolve(x, kernel, padding=0)


def _convolve_corrected(x: jax.Array, kernel: jax.Array, *, inset: int) -> jax.Array:
    batch, height, width, channels = x.shape
    y = _convolve(x, kernel, padding=1)
    taps, rows, columns = len(kernel), y.shape[1], y.shape[2]
    # Zero padding omits the rows above and below the map, and between them the columns beside it.
    # Their contribution is a matrix product of windows (the two lines, pixels of the border, taps,
    # channels) and kernels.
    in_row = _windows(np.array([inset, *range(width), width - 1 - inset]), taps)
    in_column = _windows(np.array([-1, *range(height), -1]), taps)
    beside = np.stack([width * in_column + column for column in (inset, width - 1 - inset)])
    above = np.stack([width * row + in_row for row in (inset, height - 1 - inset)])
    places = [above.ravel(), np.where(in_column >= 0, beside, height * width).ravel()]
    # One gather, since the VJP of each is a pass over the map.
    flat = x.reshape(batch, height * width, channels)
    picked = jnp.take(flat, np.concatenate(places), axis=1, mode="fill", fill_value=0)
    lines = jnp.split(picked, [above.size], axis=1)
    kernels = (kernel[jnp.array([0, -1])], kernel[:, jnp.array([0, -1])].swapaxes(0, 1))
    for line, ends, across in zip(lines, kernels, (False, True), strict=True):
        windows = line.reshape(batch, 2, -1, taps, channels)
        first, last = jnp.moveaxis(jnp.einsum("bsptc,stcd->bspd", windows, ends), 1, 0)
        if across:
            y = _add(_add(y, first[:, :, None], 0, 0), last[:, :, None], 0, columns - 1)
        else:
            y = _add(_add(y, first[:, None], 0, 0), last[:, None], rows - 1, 0)
    return y


def _windows(places: np.ndarray, taps: int) -> np.ndarray:
    """Sliding windows: (N,) → (N - taps + 1, taps)."""
    return np.lib.stride_tricks.sliding_window_view(places, taps)


def _convolve(x: jax.Array, kernel: jax.Array, *, padding: int) -> jax.Array:
    """Convolve a map, padded with zeros by `padding` pixels."""
    names, around = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), around, dimension_numbers=names)


def _add(y: jax.Array, part: jax.Array, row: int, column: int) -> jax.Array:
    """Add `part` to y at an offset, by an update that XLA does in place."""
    _, height, width, _ = part.shape
    before = y[:, row : row + height, column : column + width]
    return jax.lax.dynamic_update_slice(y, before + part, (0, row, column, 0))
