"""Default layers for a network that declares none."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
from jax.interpreters import partial_eval

from grumo_jax.activations.calls import (
    Call,
    edit_calls,
    find_calls,
    list_calls,
    run,
)
from grumo_jax.activations.kinds import is_bridge, is_convolution, is_linear
from grumo_jax.errors import LayerError
from grumo_jax.networks.layouts import Layout, find_layout, picture_size
from grumo_jax.networks.network import DepthNetwork, Model, Variables, as_network

Role = Literal["gradient", "decoder", "dropout", "features"]


def choose_layers(model: Model, variables: Variables, images: Any, role: Role) -> tuple[str, ...]:
    """Name the layers that an estimator uses by default.

    Layers that the network declares take precedence (`Monodepth2` declares them; `wrap` takes
    them as options). For other networks, the convolutions whose outputs are maps of the image and
    that depth depends on are listed in call order. The decoder starts at the last of them that has
    the lowest resolution. If layers of another kind come next, such as a transformer's or layers
    hidden in a scan, this is not a decoder, and a `LayerError` is raised. The roles:

    - "decoder": all convolutions of the decoder, coarse to fine;
    - "gradient": of these the one whose width is nearest to a quarter of the input's, the last of
      several (in Monodepth2 the papers' layer 6);
    - "dropout": all of the decoder except the last, which makes the prediction;
    - "features": the last convolution before the decoder at each resolution.

    Args:
        model: a linen module, an `nnx.GraphDef`, or `wrap` of one.
        variables, images: the model's arguments (arrays or `jax.ShapeDtypeStruct`).
        role: what the layers are for.

    Raises:
        LayerError: if depth depends on no convolution, or no decoder is recognised.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2()
        >>> images = jax.ShapeDtypeStruct((1, 192, 640, 3), jnp.float32)
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> choose_layers(model, variables, images, "gradient")
        ('decoder/up_1_0/conv',)
    """
    network = as_network(model)
    if role == "gradient":
        decoder = choose_layers(network, variables, images, "decoder")
        return (_nearest_to_quarter(network, variables, images, decoder),)
    known = {
        "decoder": network.decoder_layers,
        "dropout": network.dropout_layers,
        "features": network.feature_layers,
    }[role]
    if known:
        return known
    calls = list_calls(network, variables, images)
    shaping = _shaping_depth(network, variables, images, calls)
    convolutions = [call for call in shaping if _is_convolution(call)]
    if not convolutions:
        raise LayerError(_no_convolution(network, calls))
    start = _decoder_start(convolutions)
    _check_decoder(shaping, convolutions[start:])
    if role == "features":
        last_at = {call.shape.shape[1:3]: call.name for call in convolutions[:start]}
        if not last_at:
            raise LayerError("found no encoder before the decoder; name the layers to augment")
        return tuple(last_at.values())
    names = tuple(call.name for call in convolutions[start:])
    if role == "dropout":
        return names[:-1] or names
    return names


def _nearest_to_quarter(
    network: DepthNetwork, variables: Variables, images: Any, decoder: Sequence[str]
) -> str:
    if len(decoder) == 1:
        return decoder[0]
    calls = find_calls(list_calls(network, variables, images), decoder)

    def width(call: Call) -> int:
        layout = find_layout(call.name, call.shape, network.declared_layout(call.name), images)
        return jax.eval_shape(layout.to_map, call.shape).shape[2]

    widths = dict(zip(decoder, map(width, calls.values()), strict=True))
    quarter = picture_size(images)[1] / 4
    # Reversed, since `min` returns the first of equals and the last is wanted.
    return min(reversed(decoder), key=lambda name: abs(widths[name] / quarter - 1))


def _decoder_start(convolutions: Sequence[Call]) -> int:
    pixels = [call.shape.shape[1] * call.shape.shape[2] for call in convolutions]
    return len(pixels) - 1 - pixels[::-1].index(min(pixels))


def _check_decoder(shaping: Sequence[Call], decoder: Sequence[Call]) -> None:
    """Raise a `LayerError` unless the next layer after the decoder's first is a convolution."""
    first = shaping.index(decoder[0])
    end = shaping.index(decoder[1]) if len(decoder) > 1 else len(shaping)
    if strange := shaping[first + 1 : end]:
        names = ", ".join(repr(call.name) for call in strange[:3])
        more = f" and {len(strange) - 3} more" * (len(strange) > 3)
        raise LayerError(
            f"no decoder can be recognised: on {decoder[0].name!r}, the last convolution of the "
            f"lowest resolution, follow layers that are no convolutions or cannot be seen: {names}"
            f"{more}; name the layers, as layers= of the estimator or wrap(…, decoder_layers=…)"
        )


def _shaping_depth(
    network: DepthNetwork, variables: Variables, images: Any, calls: Sequence[Call]
) -> list[Call]:
    """Calls that may form a decoder: maps and tokens that depth depends on, and hidden calls."""
    linear = [call for call in calls if call.own_weights or _mixes(call.kind)]
    visible = [
        call
        for call in linear
        if not call.hidden and _has_places(call, network.declared_layout(call.name), images)
    ]
    reaching = _reaching_depth(network, variables, images, visible)
    return [call for call in linear if call.hidden or call.name in reaching]


def _mixes(kind: type) -> bool:
    return is_convolution(kind) or is_linear(kind) or is_bridge(kind)


def _is_convolution(call: Call) -> bool:
    return is_convolution(call.kind) and not call.hidden and call.shape.ndim == 4


def _has_places(call: Call, declared: Layout | None, images: Any) -> bool:
    try:
        find_layout(call.name, call.shape, declared, images)
    except LayerError:
        return False
    return True


def _no_convolution(network: DepthNetwork, calls: Sequence[Call]) -> str:
    kinds = [getattr(network.module, "type", type(network.module)), *(call.kind for call in calls)]
    hint = ""
    if any(is_bridge(kind) for kind in kinds):
        hint = "a bridge of flax shows no layers: use the module behind it itself; or "
    return (
        "the network has no convolution that its depth depends on, so no layer can be chosen "
        f"for it; {hint}name the layers (grumo_jax.activation_shapes lists them)"
    )


def _reaching_depth(
    network: DepthNetwork, variables: Variables, images: Any, calls: Sequence[Call]
) -> set[str]:
    """Names of the calls whose outputs depth depends on, by dead code elimination of the jaxpr."""

    def forward(offsets: dict[str, jax.Array], variables: Variables, images: Any) -> jax.Array:
        edits = {
            (c.path, c.index): (lambda output, name=c.name: output + offsets[name]) for c in calls
        }
        output, _ = run(network, variables, images, {}, visit=edit_calls(edits))
        return network.read_depth(output)

    shapes = {call.name: call.shape for call in calls}
    jaxpr = jax.make_jaxpr(forward)(shapes, variables, images).jaxpr
    # dce_jaxpr also descends into jit and remat, where perhaps only one output is used.
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return {name for name, is_used in zip(sorted(shapes), used, strict=False) if is_used}
