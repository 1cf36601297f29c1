"""Linen: watch, capture and edit the outputs of submodules through interceptors.

An interceptor acts while JAX traces, so it is made anew inside every traced function, and
nothing but static shapes is ever kept outside of it: captured values travel through Flax's
own `intermediates` collection, which survives `nn.remat` and the other lifted transforms.
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
"""(path, submodule, arguments of its call, keyword arguments), called before a submodule is."""
Visit = Callable[[str, int | None, Any, Any], Any]
"""(path, how many calls came before, submodule, output) → output.

The number is None where nothing can be captured: inside transforms that carry nothing out.
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
"""Flax's errors for variables of another network."""


class _Unequal(str):
    """A name that equals none, itself included, so that no cache finds what was kept under it.

    `nn.jit` keeps a traced program for each configuration of a module and its scope; in that
    program, other edits than today's would be in force, or none. With this name among a scope's
    mutable collections every call is a configuration of its own, and is traced anew.
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
        module, variables, images, kwargs: what `module.apply` takes.
        check: sees every submodule before it is called.
        visit: sees every output and returns what stands in its place.
        capture: paths whose outputs, after `visit`, are returned; None for all.

    Returns:
        The module's output, and {path: outputs of its calls in order}, of outputs the arrays only.
    """
    calls: Counter[str] = Counter()
    here = inspect.currentframe()
    # What a network once kept of itself is none of what it keeps now.
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
