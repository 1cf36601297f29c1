"""Linen: watch, capture and edit the outputs of submodules through interceptors.

An interceptor acts while JAX traces, so it is made anew inside every traced function, and
nothing but static shapes is ever kept outside of it: captured values travel through Flax's
own `intermediates` collection, which survives `nn.remat` and the other lifted transforms.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Set
from typing import Any

from flax import linen as nn

Visit = Callable[[str, int, Any, Any], Any]
"""(path, how many calls came before, submodule, output) → output."""


def run(
    module: nn.Module,
    variables: Any,
    images: Any,
    kwargs: Mapping[str, Any],
    *,
    visit: Visit,
    capture: Set[str] | None,
) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """Apply a linen module, passing the output of every submodule's `__call__` to `visit`.

    Args:
        module, variables, images, kwargs: what `module.apply` takes.
        visit: sees every output and returns what stands in its place.
        capture: paths whose outputs, after `visit`, are returned; None for all.

    Returns:
        The module's output, and {path: outputs of its calls in order}.
    """
    calls: Counter[str] = Counter()

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        path = _path(context.module)
        if context.method_name != "__call__" or not path:
            return output
        calls[path] += 1
        return visit(path, calls[path] - 1, context.module, output)

    def is_wanted(module: nn.Module, method: str) -> bool:
        return method == "__call__" and (capture is None or _path(module) in capture)

    with nn.intercept_methods(interceptor):
        output, state = module.apply(
            variables,
            images,
            capture_intermediates=is_wanted,
            mutable=["intermediates"],
            **kwargs,
        )
    return output, _flatten(state.get("intermediates", {}))


def _path(module: nn.Module) -> str:
    return "/".join(module.path)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, ...]]:
    flat: dict[str, tuple[Any, ...]] = {}
    for name, value in tree.items():
        if name == "__call__":
            flat[prefix] = value
        elif isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}/{name}" if prefix else name)
    return flat
