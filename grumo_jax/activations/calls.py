"""Names of activations: which submodules a network calls, in which order, with which shapes.

A layer is named by its submodule's path, "decoder/up_1_0/conv". A submodule called several times
has one name for each call, "deconv#0", "deconv#1", …, since each call returns an activation of its
own, perhaps of another shape. Submodules inside `nn.scan`, or another transform that stacks or
hides their outputs, are listed with the reason why they cannot be used. "input" names the input.
"""

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import jax
from flax import linen as nn

from grumo_jax.activations import linen as _linen
from grumo_jax.activations.arrays import only_arrays
from grumo_jax.activations.kinds import is_nnx, loaded_nnx
from grumo_jax.activations.mode import check_arguments, check_mode
from grumo_jax.activations.traces import has_custom_derivative, traced_anew
from grumo_jax.errors import LayerError
from grumo_jax.networks.network import DepthNetwork, Model, Variables, matches

INPUT = "input"
"""Name of the network's input, unless a submodule has it."""
INPUT_PATH = ""
"""Path of the network's input; no submodule has it."""


@dataclass(frozen=True)
class Call:
    """One call of one submodule.

    Attributes:
        name: the layer's name: the path, with "#i" if the submodule is called several times.
        path: the submodule's path.
        index: number of earlier calls of the submodule.
        kind: the submodule's class.
        shape: pytree of `jax.ShapeDtypeStruct`, one for each array of the output.
        hidden: why the output cannot be captured, or None.
        custom_derivative: whether the call runs inside a `jax.custom_vjp` or `jax.custom_jvp`.
        own_weights: whether the submodule itself holds a parameter of two or more axes, as
            convolutions and matrix products do.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> shape = jax.ShapeDtypeStruct((1, 4, 4, 8), jnp.float32)
        >>> call = Call("conv#1", "conv", 1, nn.Conv, shape)
        >>> call.is_input, call.hidden
        (False, None)
    """

    name: str
    path: str
    index: int
    kind: type
    shape: Any
    hidden: str | None = None
    custom_derivative: bool = False
    own_weights: bool = False

    @property
    def is_input(self) -> bool:
        """Whether this is the network's input, not a submodule's output."""
        return self.path == INPUT_PATH


def run(
    model: Model,
    variables: Variables,
    images: Any,
    kwargs: Mapping[str, Any],
    *,
    visit: _linen.Visit | None = None,
    capture: Set[str] | None = frozenset(),
) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """Run a model of either API, passing every submodule's output to `visit`; see `linen.run`."""
    visit = visit or (lambda path, index, module, output: output)
    check = _no_check
    if isinstance(model, DepthNetwork):
        if model.edits:
            visit = _one_after_another(edit_calls(model.edits), visit)
        model, kwargs, check = model.module, {**dict(model.kwargs), **kwargs}, check_mode
    images = visit(INPUT_PATH, 0, None, images)
    if isinstance(model, nn.Module):
        check_arguments(variables, kwargs)
        output, captured = _linen.run(
            model, variables, images, kwargs, check=check, visit=visit, capture=capture
        )
    elif (nnx := loaded_nnx()) is not None and isinstance(model, nnx.GraphDef):
        from grumo_jax.activations import nnx as _nnx  # which imports NNX

        output, captured = _nnx.run(
            model, variables, images, kwargs, check=check, visit=visit, capture=capture
        )
    else:
        hint = "; split it: graphdef, state = nnx.split(model)" * is_nnx(model)
        raise LayerError(
            f"the model is a {type(model).__name__}; expected a linen module, the nnx.GraphDef of "
            f"an NNX module, or grumo_jax.wrap of one{hint}"
        )
    return output, {**captured, INPUT_PATH: (only_arrays(images),)}


def _no_check(path: str, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """A bare module may run in any mode; only a `DepthNetwork` must be in evaluation mode."""


def _one_after_another(first: _linen.Visit, second: _linen.Visit) -> _linen.Visit:
    def visit(path: str, index: int | None, module: Any, output: Any) -> Any:
        return second(path, index, module, first(path, index, module, output))

    return visit


def list_calls(
    model: Model, variables: Variables, images: Any, kwargs: Mapping[str, Any] | None = None
) -> tuple[Call, ...]:
    """List every call of every submodule in the order in which they return; nothing is computed.

    Args:
        model: a linen module, an `nnx.GraphDef`, or `wrap` of one.
        variables, images: the model's arguments (arrays or `jax.ShapeDtypeStruct`).
        kwargs: further keyword arguments of the call.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> net = nn.Sequential([nn.Conv(2, (3, 3)), nn.Conv(1, (3, 3))])
        >>> images = jnp.ones((1, 4, 4, 3))
        >>> variables = net.init(jax.random.key(0), images)
        >>> [(call.name, call.shape.shape) for call in list_calls(net, variables, images)]
        [('input', (1, 4, 4, 3)), ('layers_0', (1, 4, 4, 2)), ('layers_1', (1, 4, 4, 1))]
    """
    seen: list[tuple[int | None, Call]] = []
    here = inspect.currentframe()

    def visit(path: str, index: int | None, module: Any, output: Any) -> Any:
        if jax.tree.leaves(only_arrays(output)):
            call = Call(
                path,
                path,
                index or 0,
                type(module),
                _shapes(output),
                custom_derivative=has_custom_derivative(here),
                own_weights=_has_weights(module),
            )
            seen.append((index, call))
        return output

    def forward(variables: Variables, images: Any) -> Any:
        return run(model, variables, images, kwargs or {}, visit=visit, capture=None)[1]

    with traced_anew():
        captured = jax.eval_shape(forward, variables, images)
    counts = Counter(call.path for index, call in seen if index is not None)
    taken = {call.path for _, call in seen}
    calls: dict[str, Call] = {}
    for index, call in seen:
        path = call.path
        hidden = _why_hidden(call.shape, index, counts[path], captured.get(path, ()))
        name = path if counts[path] == 1 or hidden else f"{path}#{index}"
        if call.is_input:
            name = INPUT if INPUT not in taken else f"{INPUT}#"
        if name in calls and (calls[name].path, calls[name].index) != (path, call.index):
            name = f"{path}#{call.index}"  # a submodule's own name may be "conv#1"
        calls.setdefault(name, replace(call, name=name, hidden=hidden))
    if isinstance(model, DepthNetwork):
        _check_patterns(model, calls)
    return tuple(calls.values())


def _has_weights(module: Any) -> bool:
    if isinstance(module, nn.Module):
        own = list(module.variables.get("params", {}).values())
    elif (nnx := loaded_nnx()) is not None and isinstance(module, nnx.Module):
        own = [value.get_value() for value in vars(module).values() if type(value) is nnx.Param]
    else:
        return False
    return any(getattr(value, "ndim", 0) >= 2 for value in own)


def _check_patterns(network: DepthNetwork, names: Iterable[str]) -> None:
    """Raise a `LayerError` for a declared layout whose pattern matches no layer."""
    for pattern, layout in network.layouts:
        if not any(matches(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.5)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise LayerError(
                f"no layer is called {pattern!r}, of which wrap(…, layouts=…) says {layout}{guess}"
            )


def _shapes(output: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), only_arrays(output))


def _why_hidden(shape: Any, index: int | None, count: int, captured: tuple[Any, ...]) -> str | None:
    if index is None or not captured:
        return (
            "it runs inside a transform, such as nn.scan, nn.cond or jax.checkpoint, or a bridge, "
            "that keeps its outputs to itself (of nn.scan: variable_axes without 'intermediates')"
        )
    if count != len(captured) or _shapes(captured[index]) != shape:
        return (
            "it runs inside a lifted transform, such as nn.scan or nn.vmap, that stacks its outputs"
        )
    return None


def find_calls(calls: Iterable[Call], names: Iterable[str]) -> dict[str, Call]:
    """Look layers up by name, in the order given.

    Raises:
        LayerError: for a name that does not exist (with near matches), that is ambiguous between
            several calls, or whose output is hidden in a lifted transform.
    """
    by_name = {call.name: call for call in calls}
    # "conv#0" also names a submodule that is called once.
    by_call = {f"{call.path}#{call.index}": call for call in by_name.values()}
    found = {}
    for name in names:
        call = by_name.get(name) or by_call.get(name)
        if call is None:
            raise LayerError(_unknown(name, by_name))
        if call.hidden:
            raise LayerError(f"layer {name!r} cannot be used: {call.hidden}")
        found[call.name] = call
    return found


def _unknown(name: str, calls: Mapping[str, Call]) -> str:
    same_path = [call.name for call in calls.values() if call.path == name]
    if same_path:
        return (
            f"layer {name!r} is called {len(same_path)} times; name one call: "
            f"{same_path[0]!r} … {same_path[-1]!r}"
        )
    near = difflib.get_close_matches(name, calls, n=3, cutoff=0.5)
    near += [known for known in calls if known.endswith(f"/{name}") and known not in near]
    guess = f"; did you mean {', '.join(map(repr, near[:4]))}?" if near else "."
    return (
        f"there is no layer {name!r}{guess} grumo_jax.activation_shapes(model, variables, images), "
        f"or `grumo layers CHECKPOINT --all`, lists all {len(calls)}"
    )


def check_editable(calls: Iterable[Call]) -> None:
    """Raise a `LayerError` for layers inside a `jax.custom_vjp` or `jax.custom_jvp` function.

    Under differentiation its rule runs in place of the function, so the edit would be lost.
    """
    for call in calls:
        if call.custom_derivative:
            raise LayerError(
                f"layer {call.name!r} cannot be edited: it runs inside a function that brings its "
                "own derivative (custom_vjp, custom_jvp); name a layer outside of it"
            )


def edit_calls(edits: Mapping[tuple[str, int], Callable[[Any], Any]]) -> _linen.Visit:
    """A `visit` that replaces an output by edits[path, index](output), where there is an edit."""

    def visit(path: str, index: int | None, module: Any, output: Any) -> Any:
        edit = None if index is None else edits.get((path, index))
        return output if edit is None else edit(output)

    return visit
