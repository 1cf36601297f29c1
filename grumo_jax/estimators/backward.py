"""Gradients of losses at activations: float32 outside the network, whatever dtype it runs in."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from grumo_jax._internal.precision import widen
from grumo_jax._internal.vmap_or_loop import vmap_or_loop
from grumo_jax.activations import activation_vjp
from grumo_jax.errors import LayerError
from grumo_jax.networks.layouts import find_layout
from grumo_jax.networks.network import DepthNetwork, Variables

Outputs = tuple[jax.Array, jax.Array | None]
"""Depth and log σ, (B, H, W) each, float32 or wider; or their cotangents."""

Losses = Callable[[jax.Array, jax.Array | None], jax.Array]
"""(depth, log σ) → losses (B, L); each image's losses depend on that image alone."""

NEAR_ZERO = 1e-6
"""Least absolute value of an output when the scale of its cotangent is computed."""


def loss_gradients(
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    layers: Sequence[str],
    losses: Sequence[Losses],
    *,
    log_sigma: bool,
) -> tuple[jax.Array, list[jax.Array], dict[str, jax.Array]]:
    """Depth, losses, and the losses' gradients with respect to activations.

    Args:
        network, variables, images, layers, log_sigma: see `outputs_vjp`.
        losses: functions of the network's outputs.

    Returns:
        Depth (B, H, W), the losses of each function (B, L), and gradients {layer: (L, B, h, w, C)}
        with the losses of all functions concatenated.
    """
    outputs, pull_back = outputs_vjp(network, variables, images, layers, log_sigma=log_sigma)
    found, cotangents = [], []
    for function in losses:
        # One VJP per function: with a joint one, a loss that is not finite would make the other
        # gradients NaN, as 0 times infinity.
        values, to_outputs = jax.vjp(function, *outputs)
        found.append(values)
        cotangents.append(vmap_or_loop(to_outputs, _one_by_one(values)))
    together = jax.tree.map(lambda *several: jnp.concatenate(several), *cotangents)
    return outputs[0], found, vmap_or_loop(pull_back, together)


def outputs_vjp(
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    layers: Sequence[str],
    *,
    log_sigma: bool,
) -> tuple[Outputs, Callable[[Outputs], dict[str, jax.Array]]]:
    """The network's outputs, and a function that pulls their cotangents back to activations.

    The gradient of a mean over pixels would underflow in float16. The backward pass is linear, so
    each image's cotangents are scaled by a power of two, and its gradients scaled back in float32.
    In float32 the result is the same to the bit.

    Args:
        network, variables, images: see `Estimator`.
        layers: names of activations.
        log_sigma: whether to read log σ, too, if the network predicts it.

    Returns:
        (outputs, pull_back); pull_back(cotangents) returns {layer: gradient (B, h, w, C), float32
        or wider}, and raises a `LayerError` for a layer that is not a feature map of the images.
    """

    def read(output: Any) -> Outputs:
        return network.read_depth(output), network.read_log_sigma(output) if log_sigma else None

    def readout(output: Any) -> tuple[Outputs, tuple[Any, Any]]:
        outputs = read(output)
        if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(output)):
            return outputs, (Partial(read), output)
        return outputs, (Partial(lambda outputs: outputs), outputs)

    outputs, vjp, (read_again, raw) = activation_vjp(
        network, variables, images, tuple(layers), readout=readout, has_aux=True
    )
    # The scale must fit the cotangents that enter the network, those of its raw output: a
    # disparity network's differ from depth's, which is computed from it in float32.
    raw = widen(jax.lax.stop_gradient(raw))
    _, to_raw = jax.vjp(read_again, raw)

    def pull_back(cotangents: Outputs) -> dict[str, jax.Array]:
        entering = to_raw(jax.lax.stop_gradient(cotangents))
        scale = _scale(jax.tree.leaves(entering[0]), jax.tree.leaves(raw), outputs[0])
        gradients = vjp(jax.tree.map(lambda c: _of_images(scale, c), cotangents))
        return {name: to_map(name, _unscaled(name, g, scale)) for name, g in gradients.items()}

    def to_map(name: str, gradient: Any) -> jax.Array:
        layout = find_layout(name, gradient, network.declared_layout(name), images)
        return layout.to_map(gradient)

    return outputs, pull_back


def _one_by_one(losses: jax.Array) -> jax.Array:
    """One-hot cotangents (L, B, L) of losses (B, L): the l-th selects loss l of every image.

    All images share a pass, since each loss depends on one image alone. Computed from the losses,
    the cotangents have their sharding.
    """
    one_loss = jnp.eye(losses.shape[1], dtype=losses.dtype)[:, None]
    return one_loss * jnp.ones_like(losses)[None]


def _scale(
    cotangents: Sequence[jax.Array], values: Sequence[jax.Array], depth: jax.Array
) -> jax.Array:
    """A power of two for each image (B,) that brings the cotangents of `values` to about 1.

    Somewhere before its output a network multiplies by the unit of depth, and the cotangent c of a
    value y becomes about c · y there. Both must fit float16, so their geometric mean is scaled
    to 1.
    """
    size = jnp.zeros_like(depth[:, 0, 0])
    for cotangent, value in zip(cotangents, values, strict=True):
        # Skip outputs without gradient or batch axis: depth does not depend on them.
        if cotangent.dtype != jax.dtypes.float0 and value.shape[:1] == size.shape:
            unit = jnp.sqrt(jnp.maximum(jnp.abs(value), NEAR_ZERO))
            size = jnp.maximum(size, _largest(cotangent * unit).astype(size.dtype))
    exponent = jnp.clip(jnp.frexp(size)[1], -100, 100)
    return jnp.ldexp(jnp.ones_like(size), -exponent)


def _largest(values: jax.Array) -> jax.Array:
    """The largest finite absolute value of each image (B,)."""
    size = jnp.where(jnp.isfinite(values), jnp.abs(values), jnp.zeros((), values.dtype))
    return jnp.max(size, axis=tuple(range(1, values.ndim)), initial=0)


def _of_images(factor: jax.Array, values: jax.Array) -> jax.Array:
    return values * factor.astype(values.dtype).reshape(-1, *(1,) * (values.ndim - 1))


def _unscaled(name: str, gradient: Any, scale: jax.Array) -> Any:
    """A layer's gradient, a pytree of arrays (B, …), divided by each image's scale (B,)."""

    def divide(gradient: jax.Array) -> jax.Array:
        if gradient.shape[:1] != scale.shape:
            raise LayerError(
                f"layer {name!r} has shape {gradient.shape}, whose first axis is not that of the "
                f"{scale.shape[0]} images; name the outputs of convolutions"
            )
        return _of_images(1 / scale, widen(gradient))

    return jax.tree.map(divide, gradient)
