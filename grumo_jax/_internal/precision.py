"""Half precision is for networks only: everything after them is float32."""

from typing import Any

import jax
import jax.numpy as jnp


def widen(tree: Any) -> Any:
    """Cast float16 and bfloat16 leaves of a pytree to float32; leave all others unchanged.

    Example:
        >>> widen({"depth": jnp.ones(2, jnp.float16), "scale": 4})
        {'depth': Array([1., 1.], dtype=float32), 'scale': 4}
    """
    return jax.tree.map(lambda x: x.astype(jnp.float32) if _is_half(x) else x, tree)


def _is_half(leaf: Any) -> bool:
    floating = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
    return floating and leaf.dtype.itemsize < 4
