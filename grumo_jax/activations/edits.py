"""Ready-made edits of activations. The random draw is broadcast over the batch axis.

So an image's result is independent of its batch: with one key, its noise is the same at any index.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax.activations.calls import Call
from grumo_jax.networks.layouts import as_edit, find_layout
from grumo_jax.networks.network import DepthNetwork


def drop_channels(activation: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zero channels of (B, …, C) with probability `rate`, and scale the others by 1/(1 - rate)."""
    channels = (1,) * (activation.ndim - 1) + activation.shape[-1:]
    mask = jax.random.bernoulli(key, 1 - rate, channels).astype(activation.dtype)
    return activation * (mask / (1 - rate))


def add_noise(activation: jax.Array, std: float, key: jax.Array) -> jax.Array:
    """Add Gaussian noise to (B, h, w, C), `std` times the standard deviation of each map (h, w)."""
    spread = jnp.std(activation, axis=tuple(range(1, activation.ndim - 1)), keepdims=True)
    noise = jax.random.normal(key, (1, *activation.shape[1:]), activation.dtype)
    return activation + std * spread * noise


def edit_in_layout(
    network: DepthNetwork, call: Call, images: Any, edit: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Adapt an edit of channels-last activations to a layer's layout.

    Raises:
        LayerError: for an activation of four axes whose layout is neither recognised nor declared.
    """
    declared = network.declared_layout(call.name)
    if declared is None and getattr(call.shape, "ndim", 0) != 4:
        return edit
    return as_edit(find_layout(call.name, call.shape, declared, images), edit)
