"""A sensible choice of layers for a network nobody has described."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
from jax.extend import core

from grumo_jax.activations.calls import Call, edit_calls, find_calls, list_calls, run
from grumo_jax.errors import LayerError
from grumo_jax.network import DepthNetwork, as_network

Role = Literal["gradient", "decoder", "dropout", "features"]
LayerNames = str | int | Sequence[str | int]
"""As `name_layers` takes them."""


def choose_layers(model: Any, variables: Any, images: Any, role: Role) -> tuple[str, ...]:
    """Name the layers that an estimator uses where it was given none.

    What the network says of itself counts first (`Monodepth2` does, and `wrap` takes names).
    For other networks the convolutions are listed in the order of their calls, without those
    that depth does not depend on; the decoder begins with the last one of the lowest
    resolution. Then

    - "decoder": all convolutions of the decoder, coarse to fine;
    - "gradient": of these the last at a quarter of the input's width, or the nearest to that
      (in Monodepth2 this is the papers' layer 6);
    - "dropout": all of the decoder but the last, which gives the prediction;
    - "features": the last convolution before the decoder at each resolution.

    Args:
        model: a linen module, an `nnx.GraphDef`, or `wrap` of one.
        variables, images: what it is applied to.
        role: what the layers are for.

    Raises:
        LayerError: if the network has no convolution that depth depends on.

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
    convolutions = _convolutions_of_depth(network, variables, images)
    start = _decoder_start(convolutions)
    if role == "features":
        last_at = {call.shape.shape[1:3]: call.name for call in convolutions[:start]}
        if not last_at:
            raise LayerError("found no encoder before the decoder; name the layers to augment")
        return tuple(last_at.values())
    names = tuple(call.name for call in convolutions[start:])
    if role == "dropout":
        return names[:-1] or names
    return names


def name_layers(model: Any, variables: Any, images: Any, layers: LayerNames) -> tuple[str, ...]:
    """Names of layers that may have been given by number.

    Args:
        model, variables, images: see `choose_layers`.
        layers: one or several names, which stay as they are; of a number, such as 6 or "6", the
            decoder's convolution that has it, counted coarse to fine as the papers do; "decoder"
            for all of those.

    Raises:
        LayerError: if the decoder has no such number, or a layer is named twice.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2(
        ...     encoder_widths=(8, 8, 8, 16, 16), decoder_widths=(4, 4, 8, 8, 8)
        ... )
        >>> images = jnp.zeros((1, 32, 64, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> name_layers(model, variables, images, [6, "encoder/conv1"])
        ('decoder/up_1_0/conv', 'encoder/conv1')
    """
    return tuple(name for _, name in number_layers(model, variables, images, layers))


def number_layers(
    model: Any, variables: Any, images: Any, layers: LayerNames
) -> list[tuple[str | None, str]]:
    """Like `name_layers`: (number, name) of each, the number None where a name was given.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2()
        >>> images = jax.ShapeDtypeStruct((1, 192, 640, 3), jnp.float32)
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> number_layers(model, variables, images, (6, "decoder/head_0"))
        [('6', 'decoder/up_1_0/conv'), (None, 'decoder/head_0')]
    """
    given = list(map(str, [layers] if isinstance(layers, str | int) else layers))
    decoder: tuple[str, ...] = ()
    if any(name == "decoder" or _is_number(name) for name in given):
        decoder = choose_layers(model, variables, images, "decoder")
    found = list[tuple[str | None, str]]()
    for name in given:
        if name == "decoder":
            found += [(str(i), layer) for i, layer in enumerate(decoder)]
        elif not _is_number(name):
            found.append((None, name))
        elif 0 <= int(name) < len(decoder):
            found.append((name, decoder[int(name)]))
        else:
            raise LayerError(
                f"there is no decoder layer {name}; the decoder's layers are 0 … {len(decoder) - 1}"
            )
    names = [name for _, name in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise LayerError(f"the layer {twice[0]!r} is named twice; name it once")
    return found


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _nearest_to_quarter(
    network: DepthNetwork, variables: Any, images: Any, decoder: Sequence[str]
) -> str:
    if len(decoder) == 1:
        return decoder[0]
    calls = find_calls(list_calls(network, variables, images), decoder)
    widths = {name: jax.tree.leaves(call.shape)[0].shape[2] for name, call in calls.items()}
    quarter = images.shape[2] / 4
    # Reversed, since `min` keeps the first of equals and the last one is wanted.
    return min(reversed(decoder), key=lambda name: abs(widths[name] / quarter - 1))


def _decoder_start(convolutions: Sequence[Call]) -> int:
    pixels = [call.shape.shape[1] * call.shape.shape[2] for call in convolutions]
    return len(pixels) - 1 - pixels[::-1].index(min(pixels))


def _convolutions_of_depth(network: DepthNetwork, variables: Any, images: Any) -> list[Call]:
    calls = [
        call
        for call in list_calls(network, variables, images)
        if call.is_convolution and not call.hidden
    ]
    reaching = _reaching_depth(network, variables, images, calls)
    found = [call for call in calls if call.name in reaching]
    if not found:
        raise LayerError(
            "the network has no convolution that its depth depends on, so no layer can be chosen "
            "for it; name the layers (grumo_jax.activation_shapes lists them)"
        )
    return found


def _reaching_depth(
    network: DepthNetwork, variables: Any, images: Any, calls: Sequence[Call]
) -> set[str]:
    """Names of the calls whose outputs depth depends on, read off the traced program."""

    def forward(offsets: dict[str, jax.Array], variables: Any, images: Any) -> jax.Array:
        edits = {
            (c.path, c.index): (lambda output, name=c.name: output + offsets[name]) for c in calls
        }
        output, _ = run(network, variables, images, {}, visit=edit_calls(edits))
        return network.read_depth(output)

    shapes = {call.name: call.shape for call in calls}
    jaxpr = jax.make_jaxpr(forward)(shapes, variables, images).jaxpr
    needed = {v for v in jaxpr.outvars if isinstance(v, core.Var)}
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in equation.invars if isinstance(v, core.Var))
    return {name for name, var in zip(sorted(shapes), jaxpr.invars, strict=False) if var in needed}
