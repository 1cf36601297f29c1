"""The decoder's 3×3 convolutions, in the forms that XLA runs fast.

A convolution of a map that is upsampled twice, each pixel repeated, sees every value up to four
times: with the kernel's entries added up beforehand it is a 2×2 convolution at low resolution for
each of the four pixels that come of one, 4/9 of the operations.

A convolution of a padded map is, on CPUs, one of the map padded with zeros, which XLA does by
itself, and a correction at the border: to copy the map into a padded one takes as long as the
convolution where channels are few. Elsewhere the map is copied: on GPUs the correction is many
small kernels, and what follows a convolution at once, bias and sum, becomes a part of it
(`benchmarks/compiled.py`). All of this is exact up to rounding.
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
"""Pixels below which CPUs copy a map into a padded one all the same: that compiles faster."""


class ReflectionConv(nn.Conv):
    """3×3 convolution with reflection padding, of one map or of an upsampled one and another.

    The parameters are those of `nn.Conv(features, (3, 3))` of the map, or of the two maps'
    channels one after another. An `nn.Conv` by its class alone, so that it counts as a convolution
    where layers are chosen: of its options only `features`, `dtype` and the initialisers matter.
    """

    @nn.compact
    def __call__(self, x: jax.Array, upsampled: jax.Array | None = None) -> jax.Array:
        """Convolve.

        Args:
            x: (B, h, w, C), which may have no channels beside an upsampled one.
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
    if kernel.shape[-1] == 1:
        return _convolve_to_one(x, kernel)
    return _convolve_padded(x, kernel, inset=1)


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
    # To mirror an upsampled map is to repeat the edge of the map it was made of.
    found = _convolve_padded(x, together, inset=0)
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


def _convolve_to_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve (B, h, w, C) by (3, 3, C, 1), the border mirrored: products first, then shifts."""
    exact = x.dtype if jnp.finfo(x.dtype).bits > 16 else jnp.float32
    flat = kernel.reshape(SIDE * SIDE, -1)
    products = jnp.einsum("bhwc,tc->bhwt", x, flat, preferred_element_type=exact)
    # Differentiated, a split is one pass over all products, and a slice one for each of them.
    taps = jnp.split(jnp.moveaxis(products, 3, 0), SIDE * SIDE)
    rows = [_add_shifted(taps[SIDE * row :][:SIDE], axis=3) for row in range(SIDE)]
    return _add_shifted(rows, axis=2)[0][..., None].astype(x.dtype)


def _add_shifted(taps: Sequence[jax.Array], axis: int) -> jax.Array:
    """Of three maps, what lies before, here and behind along an axis, added up."""
    before, here, behind = taps
    length = here.shape[axis]

    def part(x: jax.Array, start: int, stop: int) -> jax.Array:
        return jax.lax.slice_in_dim(x, start, stop, axis=axis)

    # A single pixel is its own mirror image.
    first, last = min(1, length - 1), max(length - 2, 0)
    before = jnp.concatenate([part(before, first, first + 1), part(before, 0, length - 1)], axis)
    behind = jnp.concatenate([part(behind, 1, length), part(behind, last, last + 1)], axis)
    return before + here + behind


def _convolve_padded(x: jax.Array, kernel: jax.Array, *, inset: int) -> jax.Array:
    """Convolve (B, h, w, C), padded by one pixel: by what lies so far inside the border."""
    copied, corrected = (
        partial(way, inset=inset) for way in (_convolve_copied, _convolve_corrected)
    )
    height, width = x.shape[1:3]
    if height * width < SMALL or min(height, width) == 1:
        return copied(x, kernel)
    found: jax.Array = jax.lax.platform_dependent(x, kernel, cpu=corrected, default=copied)
    return found


def _convolve_copied(x: jax.Array, kernel: jax.Array, *, inset: int) -> jax.Array:
    # By hand, since `jnp.pad` by the edge also slices the batch, if only to add nothing to it, and
    # differentiated that makes devices that share the batch exchange maps.
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
    # Zeros leave out the rows above and below, and of the columns beside the map what lies
    # between. Of the pixels that are needed, and of their kernels, a matrix product: (the two
    # lines, pixels of the border, taps, channels).
    in_row = _windows(np.array([inset, *range(width), width - 1 - inset]), taps)
    in_column = _windows(np.array([-1, *range(height), -1]), taps)
    beside = np.stack([width * in_column + column for column in (inset, width - 1 - inset)])
    above = np.stack([width * row + in_row for row in (inset, height - 1 - inset)])
    places = [above.ravel(), np.where(in_column >= 0, beside, height * width).ravel()]
    # All at once: differentiated, each pick is a pass over the map.
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
    """Each run of so many neighbours: (N,) → (N - taps + 1, taps)."""
    return np.lib.stride_tricks.sliding_window_view(places, taps)


def _convolve(x: jax.Array, kernel: jax.Array, *, padding: int) -> jax.Array:
    """Convolve a map padded with so many pixels of zeros."""
    names, around = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), around, dimension_numbers=names)


def _add(y: jax.Array, part: jax.Array, row: int, column: int) -> jax.Array:
    """Add to the part of y that begins there, in place."""
    _, height, width, _ = part.shape
    before = y[:, row : row + height, column : column + width]
    return jax.lax.dynamic_update_slice(y, before + part, (0, row, column, 0))
