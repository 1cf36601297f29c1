"""NNX: watch, capture and edit the outputs of submodules on a merged copy.

`nnx.merge` makes a fresh module inside the traced function; each submodule of that copy gets a
subclass of its own class, whose call passes the output on. Everything else about the modules,
`isinstance` included, stays as it was, and the user's own module is never touched.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Set
from typing import Any

from flax import nnx

from grumo_jax.activations.linen import Visit

OUTPUTS = "grumo_outputs"
"""The attribute in which a watched module keeps its outputs."""


class _Outputs(nnx.Intermediate):
    """Outputs kept as module state, which NNX's lifted transforms carry out correctly."""


def run(
    graphdef: nnx.GraphDef,
    state: Any,
    images: Any,
    kwargs: Mapping[str, Any],
    *,
    visit: Visit,
    capture: Set[str] | None,
) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """Call the NNX module, passing every submodule's output to `visit`; see `linen.run`."""
    # A copy: what calls change, such as the counters of dropout, is of this trace alone.
    module = nnx.merge(graphdef, state, copy=True)
    calls: Counter[str] = Counter()
    kept = {}
    for parts, child in list(nnx.iter_modules(module)):
        if not parts or not callable(child):
            continue
        path = "/".join(map(str, parts))
        if capture is None or path in capture:
            setattr(child, OUTPUTS, _Outputs(()))
            kept[path] = child
        _watch(child, path, calls, visit)
    output = module(images, **kwargs)
    return output, {path: getattr(child, OUTPUTS).get_value() for path, child in kept.items()}


def _watch(module: Any, path: str, calls: Counter[str], visit: Visit) -> None:
    original: Callable[..., Any] = type(module).__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls[path] += 1
        index = calls[path] - 1
        output = visit(path, index, self, original(self, *args, **kwargs))
        if (kept := getattr(self, OUTPUTS, None)) is not None:
            kept.set_value((*kept.get_value(), output))
        return output

    module.__class__ = type(type(module).__name__, (type(module),), {"__call__": call})
