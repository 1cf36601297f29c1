"""Port a state dict by rules: name pattern → Flax path and transform."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from grumo_jax.errors import WeightsError
from grumo_jax.networks.porting.states import State, as_weights


def conv_kernel(weight: np.ndarray) -> np.ndarray:
    """Transpose PyTorch's (out, in, h, w) to Flax's (h, w, in, out)."""
    return weight.transpose(2, 3, 1, 0)


def as_is(value: np.ndarray) -> np.ndarray:
    """Return a vector unchanged."""
    return value


@dataclass(frozen=True)
class Rule:
    """Maps the entries whose whole name matches a pattern to Flax paths.

    Attributes:
        pattern: regular expression for the PyTorch name.
        path: Flax path with `\\1`-style groups of the pattern; None drops the entry.
        transform: maps the PyTorch array to the Flax one.
    """

    pattern: str
    path: str | None
    transform: Callable[[np.ndarray], np.ndarray] = as_is


def apply_rules(state: State, rules: Iterable[Rule], source: str) -> dict[str, np.ndarray]:
    """Rename and transform every entry of a state dict.

    Args:
        state: {PyTorch name: array}.
        rules: the first whose pattern matches the whole name is applied.
        source: name of the state dict in errors, such as "encoder.pth".

    Returns:
        {Flax path ("params/encoder/conv1/kernel"): array}.

    Raises:
        WeightsError: for entries that match no rule, or an entry that cannot be weights.
    """
    ported, surplus = {}, []
    for name, value in state.items():
        rule = next((r for r in rules if re.fullmatch(r.pattern, name)), None)
        if rule is None:
            surplus.append(name)
        elif rule.path is not None:
            path = re.sub(rule.pattern, rule.path, name)
            dimensions = 4 if rule.transform is conv_kernel else 1
            weights = as_weights(value, path, dimensions, f"{source}: {name}")
            ported[path] = rule.transform(weights)
    if surplus:
        raise WeightsError(f"{source}: {_listed(surplus)} not known in this network")
    return ported


def match_shapes(ported: Mapping[str, np.ndarray], expected: Any, source: str) -> Any:
    """Nest ported arrays like `expected`, after checking that they match.

    Args:
        ported: {Flax path: array}.
        expected: the variables, as a pytree of `jax.ShapeDtypeStruct`.
        source: name of the weights in errors.

    Raises:
        WeightsError: for an entry that is missing, surplus or of a wrong shape.
    """
    wanted = traverse_util.flatten_dict(expected, sep="/")
    missing = [path for path in wanted if path not in ported]
    if missing:
        raise WeightsError(f"{source}: {_listed(missing)} missing")
    surplus = [path for path in ported if path not in wanted]
    if surplus:
        raise WeightsError(f"{source}: {_listed(surplus)} not part of this network")
    for path, leaf in wanted.items():
        if ported[path].shape != leaf.shape:
            raise WeightsError(
                f"{source}: {path} has shape {ported[path].shape}; this network needs {leaf.shape}"
            )
    arrays = {path: jnp.asarray(ported[path], leaf.dtype) for path, leaf in wanted.items()}
    return jax.tree.map(lambda x: x, traverse_util.unflatten_dict(arrays, sep="/"))


def _listed(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))
    return f"{shown} {'is' if len(names) == 1 else 'are'}"
