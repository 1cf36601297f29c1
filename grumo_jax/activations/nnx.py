"""NNX: watch, capture and edit the outputs of submodules on a merged copy.

`nnx.merge` creates a module inside the traced function. Each submodule of that copy gets a new
subclass of its class, whose call passes the output to a visitor. `isinstance` still holds, and the
user's module is not modified. As the subclasses are new in each run, `nnx.jit` retraces.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Set
from types import FrameType
from typing import Any

from flax import nnx

from grumo_jax.activations.arrays import only_arrays
from grumo_jax.activations.linen import Check, Visit
from grumo_jax.activations.traces import is_carried_out, is_in_branch_or_loop
from grumo_jax.errors import GrumoError

OUTPUTS = "grumo_outputs"
"""Attribute in which a watched submodule keeps its outputs."""


class _Outputs(nnx.Intermediate[Any]):
    """Outputs kept as module state, which NNX's lifted transforms carry out.

    There is an entry for each call, None if its output is not captured. So the module's state
    differs between its first and second call, and `nnx.jit` does not reuse the first one's trace.
    """


def run(
    graphdef: nnx.GraphDef[Any],
    state: Any,
    images: Any,
    kwargs: Mapping[str, Any],
    *,
    check: Check,
    visit: Visit,
    capture: Set[str] | None,
) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """Call the NNX module, passing every submodule's output to `visit`; see `linen.run`."""
    module = merge(graphdef, state)
    calls: Counter[str] = Counter()
    here = inspect.currentframe()
    watched = {}
    for parts, child in list(nnx.iter_modules(module)):
        if parts and callable(child):
            path = "/".join(map(str, parts))
            if not isinstance(child, nnx.bridge.ToNNX):  # passes all attributes on as variables
                watched[path] = child
                setattr(child, OUTPUTS, _Outputs(()))
            _watch(child, path, calls, check, visit, capture is None or path in capture, here)
    output = module(images, **kwargs)
    return output, {path: getattr(child, OUTPUTS).get_value() for path, child in watched.items()}


def merge(graphdef: nnx.GraphDef[Any], state: Any) -> Any:
    """`nnx.merge` into a new module, with the state's entries paired by path.

    `nnx.merge` pairs them by order. In a state restored without a target the indices are strings,
    and "10" sorts before "2".

    Args:
        graphdef: the module's.
        state: as returned by `nnx.split`, or `nnx.to_pure_dict` of it; or a tuple of several.

    Raises:
        GrumoError: if the state's entries are not the module's.
    """
    state = nnx.merge_state(*state) if isinstance(state, tuple | list) else state
    if not isinstance(state, Mapping):
        raise GrumoError(
            f"the variables of an NNX network are a {type(state).__name__}; expected its state, as "
            "graphdef, state = nnx.split(model) gives it"
        )
    given = {tuple(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.State(state))}
    try:
        # A copy, so that state changed by calls, such as RNG counts, does not leave this trace.
        module = nnx.merge(graphdef, state, copy=True)
    except ValueError as error:
        raise GrumoError(
            f"the state of {len(given)} entries does not belong to the network, which has "
            f"{graphdef.num_leaves}: split it again, or restore with its own state as target"
        ) from error
    expected = [path for path, _ in nnx.to_flat_state(nnx.state(module))]
    names = {tuple(map(str, path)): path for path in expected}
    if missing := [path for path in names if path not in given]:
        raise GrumoError(
            f"the state has no entry {'/'.join(missing[0])!r}, which the network has: split the "
            "network again, or restore it with its own state as target"
        )
    if list(given) == list(names):
        return module
    paired = nnx.from_flat_state([(path, given[name]) for name, path in names.items()])
    return nnx.merge(graphdef, paired, copy=True)


def _watch(
    module: Any,
    path: str,
    calls: Counter[str],
    check: Check,
    visit: Visit,
    wanted: bool,
    outermost: FrameType | None,
) -> None:
    original: Callable[..., Any] = type(module).__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        check(path, self, args, kwargs)
        output = original(self, *args, **kwargs)
        kept = vars(self).get(OUTPUTS)
        if kept is None or is_in_branch_or_loop(outermost) or not is_carried_out(kept):
            return visit(path, None, self, output)
        calls[path] += 1
        output = visit(path, calls[path] - 1, self, output)
        kept.set_value((*kept.get_value(), only_arrays(output) if wanted else None))
        return output

    module.__class__ = type(type(module).__name__, (type(module),), {"__call__": call})
