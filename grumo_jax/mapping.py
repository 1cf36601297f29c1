"""Run one function over many inputs in the way that is fast on the platform at hand."""

from collections.abc import Callable
from typing import Any

import jax


def map_fast(function: Callable[[Any], Any], xs: Any, *, unroll: bool = False) -> Any:
    """Like `jax.vmap(function)(xs)`: batched on accelerators, one after another on CPUs.

    On one CPU core XLA takes about twice as long for five images in one batch as for five
    images one by one (`benchmarks/batching.py`). That batches are faster on accelerators is
    assumed, not yet measured. The choice is made when the program is lowered.

    Args:
        function: maps one element to a tree of arrays; it may close over traced values.
        xs: a tree of arrays whose first axis is mapped over.
        unroll: on CPUs, write the program out once for each element instead of looping. For
            backward passes, whose convolutions XLA runs ten times slower inside a loop
            (`benchmarks/batching.py`); it takes longer to compile.

    Example:
        >>> import jax.numpy as jnp
        >>> map_fast(lambda x: x**2, jnp.arange(3))
        Array([0, 1, 4], dtype=int32)
    """
    if jax.tree.leaves(xs)[0].shape[0] == 1:
        result = function(jax.tree.map(lambda x: x[0], xs))
        return jax.tree.map(lambda y: y[None], result)
    return jax.lax.platform_dependent(
        xs,
        cpu=lambda xs: jax.lax.scan(lambda _, x: (None, function(x)), None, xs, unroll=unroll)[1],
        default=jax.vmap(function),
    )
