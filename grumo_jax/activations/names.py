"""Layers by name and by number."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from grumo_jax.activations.calls import Call, find_calls, list_calls
from grumo_jax.activations.choose import choose_layers
from grumo_jax.errors import LayerError
from grumo_jax.networks.network import Model, Variables, as_network

LayerNames = str | int | Sequence[str | int]
"""Layers by name or number; see `name_layers`."""


def name_layers(
    model: Model, variables: Variables, images: Any, layers: LayerNames
) -> tuple[str, ...]:
    """Replace layer numbers by names.

    Args:
        model, variables, images: see `choose_layers`.
        layers: one or several. Names are returned unchanged. A number, such as 6 (or "6", if no
            layer has that name), counts the decoder's convolutions from 0, coarse to fine, as the
            papers do. "decoder" means all of them (a submodule with that name is "decoder#0").

    Raises:
        LayerError: if the decoder has no such number, or a layer is given twice.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2.tiny()
        >>> images = jnp.zeros((1, 32, 64, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> name_layers(model, variables, images, [6, "encoder/conv1"])
        ('decoder/up_1_0/conv', 'encoder/conv1')
    """
    return tuple(name for _, name in number_layers(model, variables, images, layers))


def number_layers(
    model: Model, variables: Variables, images: Any, layers: LayerNames
) -> list[tuple[str | None, str]]:
    """Like `name_layers`, but return (number, name) pairs; the number is None for a given name.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model, images = grumo_jax.Monodepth2.tiny(), jnp.zeros((1, 32, 64, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> number_layers(model, variables, images, (6, "decoder/head_0"))
        [('6', 'decoder/up_1_0/conv'), (None, 'decoder/head_0')]
    """
    given = _as_list(layers)
    existing = set[str]()
    if any(isinstance(layer, str) and layer.isdecimal() for layer in given):
        existing = _names_in(list_calls(model, variables, images))
    decoder: tuple[str, ...] = ()
    if any(layer == "decoder" or _number(layer, existing) is not None for layer in given):
        decoder = choose_layers(model, variables, images, "decoder")
    found = list[tuple[str | None, str]]()
    for layer in given:
        number = _number(layer, existing)
        if layer == "decoder":
            found += [(str(i), name) for i, name in enumerate(decoder)]
        elif number is None:
            found.append((None, str(layer)))
        elif 0 <= number < len(decoder):
            found.append((str(number), decoder[number]))
        else:
            raise LayerError(
                f"there is no decoder layer {number}; the decoder's layers are "
                f"0 … {len(decoder) - 1}"
            )
    names = [name for _, name in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise LayerError(f"the layer {twice[0]!r} is named twice; name it once")
    return found


def find_layers(
    model: Model, variables: Variables, images: Any, layers: LayerNames, kwargs: Mapping[str, Any]
) -> dict[str, Call]:
    """The calls of layers given by name or number, in the given order.

    Raises:
        LayerError: for a layer that does not exist, is given twice, or is hidden.
    """
    calls = list_calls(model, variables, images, kwargs)
    existing = _names_in(calls)
    given = _as_list(layers)
    if any(_number(layer, existing) is not None for layer in given):
        network = as_network(model)
        settings = tuple(sorted({**dict(network.kwargs), **kwargs}.items()))
        network = replace(network, kwargs=settings)
        given = list(name_layers(network, variables, images, given))
    found = find_calls(calls, map(str, given))
    if len(found) < len(given):
        raise LayerError(f"the layers {given} are not all different; name each once")
    return found


@overload
def as_layers(layers: LayerNames) -> tuple[str | int, ...]: ...
@overload
def as_layers(layers: None) -> None: ...
def as_layers(layers: LayerNames | None) -> tuple[str | int, ...] | None:
    """One or several names or numbers as a tuple; None stays None.

    Raises:
        LayerError: for an entry that is neither a name nor a number.

    Example:
        >>> as_layers(6), as_layers(["encoder/conv1"]), as_layers(None)
        ((6,), ('encoder/conv1',), None)
    """
    return None if layers is None else tuple(_as_list(layers))


def _as_list(layers: LayerNames) -> list[str | int]:
    if isinstance(layers, np.ndarray):
        layers = layers.tolist()
    given = [layers] if isinstance(layers, str) or not isinstance(layers, Sequence) else layers
    for layer in given:
        if isinstance(layer, bool) or not (isinstance(layer, str) or hasattr(layer, "__index__")):
            raise LayerError(f"a layer is {layer!r}; expected a name, or a number of the decoder's")
    return [layer if isinstance(layer, str) else operator.index(layer) for layer in given]


def _names_in(calls: Iterable[Call]) -> set[str]:
    """Names of calls and paths of their submodules."""
    return {name for call in calls for name in (call.name, call.path)}


def _number(layer: str | int, existing: set[str]) -> int | None:
    """The layer's number; None for a name."""
    if isinstance(layer, int):
        return layer
    return int(layer) if layer.isdecimal() and layer not in existing else None
