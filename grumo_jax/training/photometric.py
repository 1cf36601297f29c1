"""Building blocks of losses: photometric error, smoothness of disparity, likelihood.

Reference: Godard et al., ICCV 2019, section 3.1; Wang et al., "Image Quality Assessment: From
Error Visibility to Structural Similarity", 2004, for SSIM; Kendall & Gal, "What Uncertainties Do
We Need in Bayesian Deep Learning for Computer Vision?", NeurIPS 2017, for the likelihood.
"""

from functools import reduce

import jax
import jax.numpy as jnp

SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2

SMALLEST_ERROR = 1e-6
"""Errors are clipped from below at this in a likelihood: of 0 the best s would be −∞."""

LOWEST_LOG_SIGMA = -20.0
"""Below this exp(−s) continues as its tangent: it stays finite, and still pushes s up."""


def absolute(x: jax.Array) -> jax.Array:
    """|x| with the gradient 0 at 0, where `jnp.abs` has 1; any shape.

    Example:
        >>> import jax
        >>> jax.grad(absolute)(0.0), absolute(-2.0)
        (Array(0., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    return x * jax.lax.stop_gradient(jnp.sign(x))


def ssim_distance(first: jax.Array, second: jax.Array) -> jax.Array:
    """Structural dissimilarity of two images: (1 − SSIM) / 2, mean over channels.

    SSIM = (2·μ₁μ₂ + C₁)(2·σ₁₂ + C₂) / ((μ₁² + μ₂² + C₁)(σ₁² + σ₂² + C₂)), moments over uniform
    windows of 3×3 pixels, images reflection-padded, C₁ = 0.01², C₂ = 0.03².

    Args:
        first, second: (B, H, W, C) float32 in [0, 1]; H and W at least 2.

    Returns:
        (B, H, W) float32 in [0, 1]; 0 where the windows are the same.

    Example:
        >>> import jax.numpy as jnp
        >>> black, white = jnp.zeros((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1))
        >>> ssim_distance(black, white)[0, 0].round(4), ssim_distance(white, white)[0, 0]
        (Array([0.5, 0.5], dtype=float32), Array([0., 0.], dtype=float32))
    """
    # As planes: XLA's CPU backend is slow with a short last axis.
    distances = _plane_distance(_planes(first), _planes(second))
    batch, height, width, channels = first.shape
    return jnp.mean(distances.reshape(batch, channels, height, width), axis=1)


def _planes(images: jax.Array) -> jax.Array:
    """Channels as separate images: (B, H, W, C) → (B·C, H, W).

    An image's planes stay together, so that a sharded batch stays sharded.
    """
    return jnp.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3])


def _plane_distance(first: jax.Array, second: jax.Array) -> jax.Array:
    mean1, mean2 = _window_mean(first), _window_mean(second)
    variance1 = _window_mean(jnp.square(first)) - jnp.square(mean1)
    variance2 = _window_mean(jnp.square(second)) - jnp.square(mean2)
    covariance = _window_mean(first * second) - mean1 * mean2
    likeness = (2 * mean1 * mean2 + SSIM_C1) * (2 * covariance + SSIM_C2)
    limit = (jnp.square(mean1) + jnp.square(mean2) + SSIM_C1) * (variance1 + variance2 + SSIM_C2)
    return jnp.clip((1 - likeness / limit) / 2, 0, 1)


def _window_mean(x: jax.Array) -> jax.Array:
    """Mean over 3×3 windows of (B, H, W), with reflection padding."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    for window in ((1, 3, 1), (1, 1, 3)):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 1, 1), "VALID")
    return x / 9


def _channels(images: jax.Array) -> list[jax.Array]:
    return [images[..., i] for i in range(images.shape[-1])]


def _mean(maps: list[jax.Array]) -> jax.Array:
    return reduce(jnp.add, maps) / len(maps)


def photometric_error(
    prediction: jax.Array, target: jax.Array, *, ssim_weight: float = 0.85
) -> jax.Array:
    """Photometric error of a synthesised view: 0.85 · SSIM distance + 0.15 · L1.

    Args:
        prediction, target: (B, H, W, C) float32 in [0, 1].
        ssim_weight: of the SSIM distance; the mean absolute difference has the rest.

    Returns:
        (B, H, W) float32 in [0, 1].
    """
    difference = _mean(_channels(absolute(prediction - target)))
    return ssim_weight * ssim_distance(prediction, target) + (1 - ssim_weight) * difference


def edge_aware_smoothness(disparity: jax.Array, images: jax.Array) -> jax.Array:
    """Smoothness loss: how much disparity changes where the image does not.

    mean |∂x d*|·exp(−|∂x I|) + mean |∂y d*|·exp(−|∂y I|), with d* = d / mean(d) of each image and
    |∂I| the mean over channels; differences of neighbouring pixels.

    Args:
        disparity: (B, h, w) float32, positive; h and w at least 2.
        images: (B, H, W, C) float32 in [0, 1]; H and W multiples of h and w. They are averaged
            over blocks of pixels ("area") to the size of `disparity`.

    Returns:
        () float32.

    Example:
        >>> import jax.numpy as jnp
        >>> edge_aware_smoothness(jnp.array([[[1.0, 3.0], [1.0, 3.0]]]), jnp.zeros((1, 4, 4, 3)))
        Array(1., dtype=float32)
    """
    images = shrink(images, disparity.shape[1:3])
    # Disparities in (0, 1) may all underflow to 0.
    mean = jnp.mean(disparity, axis=(1, 2), keepdims=True)
    normalized = disparity / (mean + 1e-7)

    def along(axis: int) -> jax.Array:
        edges = jnp.mean(jnp.abs(jnp.diff(images, axis=axis)), axis=-1)
        return jnp.mean(absolute(jnp.diff(normalized, axis=axis)) * jnp.exp(-edges))

    return along(2) + along(1)


def shrink(images: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Average images (B, H, W) or (B, H, W, C) over blocks of pixels; `size` divides theirs."""
    batch, height, width, *channels = images.shape
    rows, columns = height // size[0], width // size[1]
    if (rows, columns) == (1, 1):
        return images
    blocks = images.reshape(batch, size[0], rows, size[1], columns, *channels)
    return jnp.mean(blocks, axis=(2, 4))


def laplace_likelihood(error: jax.Array, log_sigma: jax.Array) -> jax.Array:
    """Negative log-likelihood of a Laplace density, without its constant: e·exp(−s) + s, any shape.

    Errors are clipped from below at 1e-6, and below s = −20 exp(−s) continues linearly: the result
    and its gradients are finite for all s, and every e has a best s.

    Example:
        >>> laplace_likelihood(jnp.array([3.0, 2.0]), jnp.array([0.0, jnp.log(2.0)]))
        Array([3.       , 1.6931472], dtype=float32)
    """
    bounded = jnp.maximum(log_sigma, LOWEST_LOG_SIGMA)
    inverse_sigma = jnp.exp(-bounded) * (1 + bounded - log_sigma)
    return jnp.maximum(error, SMALLEST_ERROR) * inverse_sigma + log_sigma
