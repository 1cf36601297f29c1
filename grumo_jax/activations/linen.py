"""Linen: watch, capture and edit the outputs of submodules through interceptors.

An interceptor runs while JAX traces. So it is created inside the traced function, and no tracer
leaves it: captured values travel through Flax's `intermediates` collection, which `nn.remat` and
the other lifted transforms carry out.
"""

import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from flax import errors
from flax import linen as nn

from grumo_jax.activations.arrays import only_arrays
from grumo_jax.activations.traces import is_in_branch_or_loop
from grumo_jax.errors import GrumoError
from grumo_jax.networks.network import Variables

Check = Callable[[str, Any, Sequence[Any], Mapping[str, Any]], None]
"""(path, submodule, args, kwargs) → None; runs before each call of a submodule."""
Visit = Callable[[str, int | None, Any, Any], Any]
"""(path, number of earlier calls, submodule, output) → the output or its replacement.

The number is None inside transforms that carry no values out, where nothing can be captured.
"""

INTERMEDIATES = "intermediates"

STRANGE = (
    errors.ApplyScopeInvalidVariablesStructureError,
    errors.ApplyScopeInvalidVariablesTypeError,
    errors.ScopeCollectionNotFound,
    errors.ScopeParamNotFoundError,
    errors.ScopeParamShapeError,
    errors.ScopeVariableNotFoundError,
)
"""Flax's errors for variables that belong to another network."""


class _Unequal(str):
    """A string unequal to every other and to itself, so that it never hits a cache.

    `nn.jit` caches a trace for each configuration of a module and its scope; the cached trace would
    hold the edits of an earlier call. With this name among the scope's mutable collections every
    call is a new configuration, and `nn.jit` retraces.
    """

    _hashes = itertools.count()

    def __hash__(self) -> int:
        return hash((_Unequal, next(self._hashes)))

    def __eq__(self, other: object) -> bool:
        return False


def run(
    module: nn.Module,
    variables: Variables,
    images: Any,
    kwargs: Mapping[str, Any],
    *,
    check: Check,
    visit: Visit,
    capture: Set[str] | None,
) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """Apply a linen module, passing the output of every submodule's `__call__` to `visit`.

    Args:
        module, variables, images, kwargs: arguments of `module.apply`.
        check: runs before each call of a submodule.
        visit: maps each output to itself or its replacement.
        capture: paths whose outputs, after `visit`, are returned; None for all.

    Returns:
        The module's output, and {path: outputs of its calls in order}, through `only_arrays`.
    """
    calls: Counter[str] = Counter()
    here = inspect.currentframe()
    # Stale intermediates among the variables would be returned along with the new ones.
    variables = {name: value for name, value in variables.items() if name != INTERMEDIATES}

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, path = context.module, "/".join(context.module.path)
        if context.method_name != "__call__" or not path:
            return call(*args, **kwargs)
        check(path, module, args, kwargs)
        output = call(*args, **kwargs)
        if not module.is_mutable_collection(INTERMEDIATES) or is_in_branch_or_loop(here):
            return visit(path, None, module, output)
        calls[path] += 1
        output = visit(path, calls[path] - 1, module, output)
        if capture is None or path in capture:
            module.sow(INTERMEDIATES, "__call__", only_arrays(output))
        return output

    mutable = [INTERMEDIATES, _Unequal("nothing is kept in here")]
    with nn.intercept_methods(interceptor):
        try:
            output, state = module.apply(variables, images, mutable=mutable, **kwargs)
        except STRANGE as error:
            reason = str(error).partition(" (https://")[0]
            raise GrumoError(f"the variables or images are not this network's: {reason}") from error
    return output, _flatten(state.get(INTERMEDIATES, {}))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, ...]]:
    flat: dict[str, tuple[Any, ...]] = {}
    for name, value in tree.items():
        if name == "__call__":
            flat[prefix] = value
        elif isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}/{name}" if prefix else name)
    return flat
