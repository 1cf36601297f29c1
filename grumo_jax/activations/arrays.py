"""Outputs of modules are trees in which not every leaf is an array."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_array(leaf: object) -> bool:
    """Whether a leaf is an activation: an array, and no number, string, key or other object."""
    if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return False
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in (np.number, np.bool_))


def only_arrays(output: Any) -> Any:
    """The tree with None, which has no leaves, in the place of all that is no array."""
    return jax.tree.map(lambda leaf: leaf if is_array(leaf) else None, output)


def map_arrays(function: Any, output: Any, *others: Any) -> Any:
    """Apply a function to the arrays of a tree, and of others like it; leave the rest as it is."""

    def at(leaf: Any, *more: Any) -> Any:
        return function(leaf, *more) if is_array(leaf) else leaf

    return jax.tree.map(at, output, *others)
