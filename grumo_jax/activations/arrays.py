"""Outputs of modules: pytrees whose leaves need not all be arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_array(leaf: object) -> bool:
    """Whether a leaf is an array (or its shape) of numbers or bools; PRNG keys are not."""
    if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return False
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in (np.number, np.bool_))


def only_arrays(output: Any) -> Any:
    """The pytree with None, which has no leaves, in place of leaves that are not arrays."""
    return jax.tree.map(lambda leaf: leaf if is_array(leaf) else None, output)


def map_arrays(function: Any, output: Any, *others: Any) -> Any:
    """`jax.tree.map` over the leaves that are arrays; other leaves are returned unchanged."""

    def at(leaf: Any, *more: Any) -> Any:
        return function(leaf, *more) if is_array(leaf) else leaf

    return jax.tree.map(at, output, *others)
