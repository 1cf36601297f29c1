"""List, capture, differentiate and edit named activations.

Each function takes an unmodified linen module with its variables, an `nnx.GraphDef` with its
state, or `wrap` of either. `images` is the model's first argument, any pytree; further keyword
arguments (`train=False`, `rngs=…`) are passed to the model. Layers are given by a name that
`activation_shapes` lists, "input" for the model's input, or a number (see `name_layers`); results
are keyed by name. All functions are pure: use them under `jax.jit`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax.activations.arrays import map_arrays, only_arrays
from grumo_jax.activations.calls import Call, check_editable, edit_calls, list_calls, run
from grumo_jax.activations.names import LayerNames, find_layers
from grumo_jax.errors import LayerError
from grumo_jax.networks.network import Model, Variables


def activation_shapes(
    model: Model, variables: Variables, images: Any, **kwargs: Any
) -> dict[str, Any]:
    """List the layers of a model in the order in which their calls return. Nothing is computed.

    Returns:
        {name: `jax.ShapeDtypeStruct` of the output}; for an output that is a pytree, the same
        pytree with None for leaves that are not arrays. A module called several times has one
        name for each call, "path#0", "path#1", …. Layers hidden by `nn.scan` and the like, and
        layers that return no array, are left out.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(1, (3, 3))])
        >>> images = jnp.ones((1, 8, 8, 3))
        >>> variables = model.init(jax.random.key(0), images)
        >>> for name, shape in grumo_jax.activation_shapes(model, variables, images).items():
        ...     print(name, shape.shape, shape.dtype)
        layers_0 (1, 8, 8, 4) float32
        layers_2 (1, 8, 8, 1) float32
    """
    calls = list_calls(model, variables, images, kwargs)
    return {call.name: call.shape for call in calls if not call.hidden and not call.is_input}


def capture_activations(
    model: Model, variables: Variables, images: Any, layers: LayerNames, **kwargs: Any
) -> Any:
    """Return the outputs of the named layers.

    Args:
        layers: one name or number, or several.

    Returns:
        The activation for one layer, {name: activation} for several.

    Raises:
        LayerError: for an unknown layer, naming near matches.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(1, (3, 3))])
        >>> images = jnp.ones((1, 8, 8, 3))
        >>> variables = model.init(jax.random.key(0), images)
        >>> grumo_jax.capture_activations(model, variables, images, "layers_0").shape
        (1, 8, 8, 4)
    """
    calls = find_layers(model, variables, images, layers, kwargs)
    return _like(layers, calls, _capture(model, variables, images, calls, kwargs))


def activation_gradients(
    model: Model,
    variables: Variables,
    images: Any,
    layers: LayerNames,
    loss: Callable[[Any], jax.Array],
    **kwargs: Any,
) -> Any:
    """Gradient of a scalar function of the output with respect to named activations.

    One backward pass serves all layers and stops at the earliest of them: parameters and earlier
    layers cost nothing.

    Args:
        layers: one name or number, or several.
        loss: maps the model's output to a scalar.

    Returns:
        The gradient for one layer, {name: gradient} for several; each has the shape and dtype of
        its activation.

    Raises:
        LayerError: for an unknown layer, or a loss that is not scalar.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([nn.Dense(2), nn.relu, nn.Dense(1)])
        >>> variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> gradient = grumo_jax.activation_gradients(
        ...     model, variables, jnp.ones((1, 3)), "layers_2", lambda y: jnp.sum(y**2) / 2
        ... )
        >>> bool(jnp.allclose(gradient, model.apply(variables, jnp.ones((1, 3)))))
        True
    """
    value, pull_back = activation_vjp(
        model, variables, images, layers, readout=_scalar(loss), **kwargs
    )
    return pull_back(jnp.ones_like(value))


def activation_vjp(
    model: Model,
    variables: Variables,
    images: Any,
    layers: LayerNames,
    *,
    readout: Callable[[Any], Any] = lambda output: output,
    has_aux: bool = False,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """`jax.vjp` for activations: the model's output, and a function of its cotangent.

    For several losses, or one per pixel, `jax.vmap` that function over cotangents: the forward
    pass is then shared.

    Args:
        layers: one name or number, or several.
        readout: maps the model's output to the value that is differentiated.
        has_aux: whether `readout` returns (value, aux), with auxiliary data that is not
            differentiated.

    Returns:
        (value, pull_back), or (value, pull_back, aux); pull_back(cotangent) returns the gradient
        for one layer, {name: gradient} for several.

    Raises:
        LayerError: for an unknown layer, naming near matches.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> net, images = nn.Sequential([nn.Conv(2, (3, 3)), jnp.mean]), jnp.ones((1, 4, 4, 3))
        >>> variables = net.init(jax.random.key(0), images)
        >>> mean, pull_back = activation_vjp(net, variables, images, "layers_0")
        >>> float(pull_back(jnp.ones_like(mean)).sum())
        1.0
    """
    calls = find_layers(model, variables, images, layers, kwargs)

    def forward(offsets: dict[str, Any]) -> tuple[Any, Any]:
        edits = {(c.path, c.index): _add(offsets[name]) for name, c in calls.items()}
        result = readout(run(model, variables, images, kwargs, visit=edit_calls(edits))[0])
        return result if has_aux else (result, None)

    # Zeros like the activations: of their dtype, since float32 would widen a bfloat16 network; of
    # their sharding and varying axes, since under shard_map the gradient of a replicated zero is
    # summed over devices. Under jit the captured values are unused, so XLA does not compute them.
    zeros = {
        name: _zeros(activation)
        for name, activation in _capture(model, variables, images, calls, kwargs).items()
    }
    for name, call in calls.items():
        if not jax.tree.leaves(zeros[name]):
            raise LayerError(f"layer {name!r} gives no real numbers and has no gradient")
        if call.custom_derivative:
            raise LayerError(
                f"no gradient reaches layer {name!r}: it runs inside a function that brings its "
                "own derivative (custom_vjp, custom_jvp); name a layer outside of it"
            )
    result, vjp, aux = jax.vjp(forward, zeros, has_aux=True)

    def pull_back(cotangent: Any) -> Any:
        return _like(layers, calls, vjp(cotangent)[0])

    return (result, pull_back, aux) if has_aux else (result, pull_back)


def edit_activations(
    model: Model,
    variables: Variables,
    images: Any,
    edits: Mapping[str, Callable[[Any], Any]] | Mapping[int, Callable[[Any], Any]],
    **kwargs: Any,
) -> Any:
    """Run the model with some activations replaced, and return its output.

    Args:
        edits: {layer: function}; each function maps the layer's output to its replacement, of the
            same shape and dtype.

    Raises:
        LayerError: for an unknown layer, a layer inside a `jax.custom_vjp` or `jax.custom_jvp`
            function, or an edit that changes shape or dtype.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([nn.Dense(2), nn.Dense(1, use_bias=False)])
        >>> variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> grumo_jax.edit_activations(
        ...     model, variables, jnp.ones((1, 3)), {"layers_0": jnp.zeros_like}
        ... )
        Array([[0.]], dtype=float32)
    """
    calls = find_layers(model, variables, images, list(edits), kwargs)
    check_editable(calls.values())
    by_call = {
        (call.path, call.index): _checked(edit, call)
        for edit, call in zip(edits.values(), calls.values(), strict=True)
    }
    return run(model, variables, images, kwargs, visit=edit_calls(by_call))[0]


def apply_model(model: Model, variables: Variables, images: Any, **kwargs: Any) -> Any:
    """Run a model of either API, linen or NNX, and return its output.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> net, images = nn.Conv(2, (3, 3)), jnp.ones((1, 4, 4, 3))
        >>> apply_model(net, net.init(jax.random.key(0), images), images).shape
        (1, 4, 4, 2)
    """
    return run(model, variables, images, kwargs)[0]


def _capture(
    model: Model,
    variables: Variables,
    images: Any,
    calls: Mapping[str, Call],
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    paths = frozenset(call.path for call in calls.values())
    _, captured = run(model, variables, images, kwargs, capture=paths)
    return {name: captured[call.path][call.index] for name, call in calls.items()}


def _like(layers: LayerNames, names: Iterable[str], results: dict[str, Any]) -> Any:
    """The result itself if one layer was given, not a sequence; else {name: result}, in order."""
    if isinstance(layers, Sequence) and not isinstance(layers, str):
        return {name: results[name] for name in names}
    (result,) = results.values()
    return result


def _add(offset: Any) -> Callable[[Any], Any]:
    return lambda output: map_arrays(lambda x, o: x if o is None else x + o, output, offset)


def _zeros(activation: Any) -> Any:
    """Zeros like the inexact leaves; None for the others, which have no gradient."""

    def zero(leaf: jax.Array) -> jax.Array | None:
        return jnp.zeros_like(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else None

    return jax.tree.map(zero, activation)


def _scalar(loss: Callable[[Any], jax.Array]) -> Callable[[Any], jax.Array]:
    def checked(output: Any) -> jax.Array:
        value = loss(output)
        if jnp.shape(value) != ():
            raise LayerError(
                f"the loss has shape {jnp.shape(value)}; it must map the model's output to a "
                "scalar, such as jnp.mean(…)"
            )
        return value

    return checked


def _checked(edit: Callable[[Any], Any], call: Call) -> Callable[[Any], Any]:
    def checked(output: Any) -> Any:
        edited = edit(output)
        forms = [
            jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), only_arrays(tree))
            for tree in (output, edited)
        ]
        if forms[0] != forms[1]:
            raise LayerError(
                f"the edit of layer {call.name!r} returns {forms[1]}; the activation is "
                f"{forms[0]}, and an edit must keep shape and dtype"
            )
        return edited

    return checked
