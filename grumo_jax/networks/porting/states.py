"""Unwrap and check state dicts: training code adds nesting and prefixes, files hold anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from grumo_jax.errors import WeightsError
from grumo_jax.networks.soundness import what_is_wrong

State = Mapping[str, Any]
"""A PyTorch state dict as numpy arrays (and plain values for extra entries)."""
LEVELS = ("state_dict", "model_state_dict", "model")
"""Keys under which training code nests the state dict."""
WRAPPERS = ("module", "_orig_mod")
"""Parts of names that DataParallel and `torch.compile` insert."""
EXTRAS = ("height", "width", "use_stereo")
"""Entries that the official programs save beside the weights."""
_DEEPEST = 8


@dataclass(frozen=True)
class Unreadable:
    """Stands for a tensor that cannot be a numpy array; an error only if it is used.

    Attributes:
        kind: description, such as "a sparse tensor".
    """

    kind: str


def plain_state(state: State, source: str) -> dict[str, Any]:
    """Remove the nesting and prefixes that training code adds to a state dict.

    Args:
        state: {name: array}, or such a dict nested as {"state_dict": …}; of the entries beside it
            only height, width and use_stereo are kept.
        source: name of the state dict in errors.

    Raises:
        WeightsError: if it is not a state dict, or two of its entries get the same name.

    >>> plain_state({"state_dict": {"module._orig_mod.bias": 1.0}, "height": 192}, "encoder.pth")
    {'height': 192, 'bias': 1.0}
    """
    extras: dict[str, Any] = {}
    for _ in range(_DEEPEST):
        if not isinstance(state, Mapping):
            raise WeightsError(f"{source}: holds a {type(state).__name__}; expected a state dict")
        levels = [name for name in LEVELS if isinstance(state.get(name), Mapping)]
        if len(levels) > 1:
            raise WeightsError(f"{source}: holds {' and '.join(levels)}; save the one to be used")
        if not levels:
            return extras | _without_wrappers(state, source)
        extras |= {name: state[name] for name in EXTRAS if name in state}
        state = state[levels[0]]
    raise WeightsError(f"{source}: holds state dicts in state dicts; save the innermost one")


def as_weights(value: Any, path: str, dimensions: int, name: str) -> np.ndarray:
    """Copy an entry to a float32 array.

    Args:
        value: array, or any other value of a file.
        path: Flax path of the variable that it becomes.
        dimensions: required number of axes.
        name: name of the entry in errors.

    Raises:
        WeightsError: if the entry cannot be weights of a network.
    """
    if isinstance(value, Unreadable):
        raise WeightsError(f"{name} is {value.kind}; expected an array of floating-point numbers")
    try:
        array = np.asarray(value)
    except Exception as error:  # of many classes, since the value may be anything
        raise WeightsError(f"{name} is a {type(value).__name__}; expected an array") from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        found = f"holds {array.dtype}" if isinstance(value, np.ndarray) else f"is {value!r:.40}"
        raise WeightsError(f"{name} {found}; expected an array of floating-point numbers")
    if array.ndim != dimensions:
        raise WeightsError(f"{name} has shape {array.shape}; expected {dimensions} dimensions")
    if not array.size:
        raise WeightsError(f"{name} has shape {array.shape} and is empty")
    if any(n > 1 and not step for n, step in zip(array.shape, array.strides, strict=True)):
        raise WeightsError(f"{name} repeats its numbers, by strides of 0; save a copy of it")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if problem := what_is_wrong(path, numbers):
        if np.isfinite(array).all() and not np.isfinite(numbers).all():
            problem = f"its {array.dtype} numbers become infinite in float32"
        raise WeightsError(f"{name}: {problem}; are these the weights of a trained network?")
    return numbers


def read_size(state: State, source: str, *, stride: int, largest: int) -> tuple[int, int] | None:
    """(height, width) of the training images from a state dict; None if it has neither.

    Raises:
        WeightsError: if one is missing, or not a multiple of `stride` up to `largest`.
    """
    names = ("height", "width")
    missing = [name for name in names if name not in state]
    if len(missing) == 2:
        return None
    if missing:
        raise WeightsError(
            f"{source}: {missing[0]} is missing, and {', '.join(names)} belong together"
        )
    sizes = []
    for name in names:
        value = state[name]
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not 0 < value <= largest or value % stride:
            raise WeightsError(
                f"{source}: {name} is {state[name]!r:.40}; expected a multiple of {stride}, up to "
                f"{largest}"
            )
        sizes.append(int(value))
    return sizes[0], sizes[1]


def _without_wrappers(state: State, source: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in state.items():
        if not isinstance(name, str):
            raise WeightsError(f"{source}: an entry is called {name!r:.40}; expected names")
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if bare in found:
            raise WeightsError(
                f"{source}: {bare} is there twice, with and without {' or '.join(WRAPPERS)}"
            )
        found[bare] = value
    return found
