"""Ready-made edits of activations. Images of one batch share what is drawn.

Sharing makes every image's result independent of the batch it is in: the same key gives an
image the same noise wherever it stands.
"""

import jax
import jax.numpy as jnp


def drop_channels(activation: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Set whole channels of (B, …, C) to zero with probability `rate`; scale up the others."""
    channels = (1,) * (activation.ndim - 1) + activation.shape[-1:]
    mask = jax.random.bernoulli(key, 1 - rate, channels).astype(activation.dtype)
    return activation * (mask / (1 - rate))


def add_noise(activation: jax.Array, std: float, key: jax.Array) -> jax.Array:
    """Add Gaussian noise to (B, h, w, C), `std` times each map's own standard deviation."""
    spread = jnp.std(activation, axis=tuple(range(1, activation.ndim - 1)), keepdims=True)
    noise = jax.random.normal(key, (1, *activation.shape[1:]), activation.dtype)
    return activation + std * spread * noise
