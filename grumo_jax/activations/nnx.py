"""NNX: watch, capture and edit the outputs of submodules through taps on a merged copy.

`nnx.merge` makes a fresh module inside the traced function; each submodule of that copy is
replaced by a tap that calls it. The user's own module is never touched.
"""

from collections import Counter
from collections.abc import Mapping, Set
from typing import Any

from flax import nnx

from grumo_jax.activations.linen import Visit


class _Captured(nnx.Intermediate):
    """Outputs kept as module state, which NNX's lifted transforms carry out correctly."""


class _Tap(nnx.Module):
    """Stands in for a submodule: calls it and hands its output to a function."""

    def __init__(self, inner: nnx.Module, on_output: Any, keep: bool):
        self.inner = inner
        self.on_output = on_output
        self.outputs = _Captured(()) if keep else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.on_output(self.inner(*args, **kwargs))
        if self.outputs is not None:
            self.outputs.set_value((*self.outputs.get_value(), output))
        return output

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


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
    module = nnx.merge(graphdef, state)
    calls: Counter[str] = Counter()
    taps: dict[str, _Tap] = {}
    replacements: dict[int, _Tap] = {}
    for parts, child in list(nnx.iter_modules(module)):
        if parts and callable(child):
            path = "/".join(map(str, parts))
            keep = capture is None or path in capture
            taps[path] = _Tap(child, _on_output(path, child, calls, visit), keep)
            replacements[id(child)] = taps[path]
    _replace_children(module, replacements)
    output = module(images, **kwargs)
    kept = {path: tap.outputs for path, tap in taps.items() if tap.outputs is not None}
    return output, {path: outputs.get_value() for path, outputs in kept.items()}


def _on_output(path: str, module: nnx.Module, calls: Counter[str], visit: Visit) -> Any:
    def on_output(output: Any) -> Any:
        calls[path] += 1
        return visit(path, calls[path] - 1, module, output)

    return on_output


def _replace_children(module: nnx.Module, replacements: Mapping[int, _Tap]) -> None:
    # A module that two parents share is replaced in both, by the same tap.
    parents = [node for _, node in nnx.iter_graph(module) if isinstance(node, nnx.Module)]
    for parent in parents:
        for name, child in list(nnx.iter_children(parent)):
            if (tap := replacements.get(id(child))) is None:
                continue
            if isinstance(parent, nnx.List):
                parent[name] = tap  # type: ignore[index]
            else:
                setattr(parent, str(name), tap)
