"""From losses back to activations: in float32 outside the network, whatever it computes in."""

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
"""(depth, log σ) → losses (B, L), each image's its own."""

NEAR_ZERO = 1e-6
"""Outputs below this count as this much where cotangents are measured."""


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
        Depth (B, H, W), what each of the functions gives (B, L), and {layer: (L, B, h, w, C)} for
        the losses of all of them, one after another.
    """
    outputs, pull_back = outputs_vjp(network, variables, images, layers, log_sigma=log_sigma)
    found, cotangents = [], []
    for function in losses:
        # Each by itself: of a loss that is not finite, 0 times the gradient would be NaN.
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
    """Outputs of the network, and the function that pulls their cotangents back to activations.

    The gradient of a mean over pixels is so small that it would underflow in float16. The
    backward pass being linear, cotangents enter it scaled, each image's by a power of two, and
    what comes out is scaled back in float32. In float32 that changes nothing, to the bit.

    Args:
        network, variables, images: see `Estimator`.
        layers: names of activations.
        log_sigma: whether log σ is read, too, if the network has one.

    Returns:
        (outputs, pull_back); pull_back(cotangents) gives {layer: gradient (B, h, w, C), float32
        or wider}, and raises a `LayerError` for a layer that is no feature map of the images.
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
    # What enters the network is the cotangents of its own output: a network of disparity has
    # other ones than depth, which is read off it in float32.
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
    """Cotangents (L, B, L) of losses (B, L), one loss of every image in each.

    Losses are each image's own, so that images do not mix. Made of the losses, the cotangents are
    sharded like them.
    """
    one_loss = jnp.eye(losses.shape[1], dtype=losses.dtype)[:, None]
    return one_loss * jnp.ones_like(losses)[None]


def _scale(
    cotangents: Sequence[jax.Array], values: Sequence[jax.Array], depth: jax.Array
) -> jax.Array:
    """A power of two for each image (B,) that brings the cotangents of `values` to about 1.

    Networks multiply by the unit of depth somewhere before their output: the cotangent c of a
    value y grows there to about c · y. Neither must leave the range of float16, so that it is
    their geometric mean that is brought to 1.
    """
    size = jnp.zeros_like(depth[:, 0, 0])
    for cotangent, value in zip(cotangents, values, strict=True):
        # Outputs that are no numbers of the images have no part in depth.
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
    """Each image's gradient divided by its scale; of a layer of several arrays, each of them."""

    def divide(gradient: jax.Array) -> jax.Array:
        if gradient.shape[:1] != scale.shape:
            raise LayerError(
                f"layer {name!r} has shape {gradient.shape}, whose first axis is not that of the "
                f"{scale.shape[0]} images; name the outputs of convolutions"
            )
        return _of_images(1 / scale, widen(gradient))

    return jax.tree.map(divide, gradient)
