"""Map a function over a leading axis: `jax.vmap` on accelerators, a loop on CPUs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax._internal.hoisting import hoist_invariants

Function = Callable[[Any], Any]


def vmap_or_loop(function: Function, xs: Any) -> Any:
    """`jax.vmap(function)(xs)` on accelerators, `jax.lax.map(function, xs)` on CPUs.

    On one CPU core a batch is no faster than a loop and needs far more memory
    (`benchmarks/batching.py`). Accelerators run a batch in a fraction of a loop's kernels
    (`benchmarks/compiled.py`; not timed yet). The choice is made when the program is lowered.
    Either way, loop-invariant code runs once.

    Args:
        function: maps one element to a pytree of arrays; it may close over traced values.
        xs: a pytree of arrays, mapped over their first axis.

    Returns:
        The results, stacked along a new first axis.

    Example:
        >>> import jax.numpy as jnp
        >>> vmap_or_loop(lambda x: x**2, jnp.arange(3))
        Array([0, 1, 4], dtype=int32)
    """
    if _length(xs) == 0:
        return jax.vmap(function)(xs)
    if _length(xs) == 1:
        result = function(_element(xs))
        return jax.tree.map(lambda y: y[None], result)

    def loop(xs: Any) -> Any:
        return jax.lax.map(hoist_invariants(function, _element(xs), on_cpu=True), xs)

    return jax.lax.platform_dependent(xs, cpu=loop, default=jax.vmap(function))


def map_chunks(function: Function, xs: Any, chunk: int) -> Any:
    """`jax.vmap(function)(xs)` in chunks, to bound memory: a loop over `chunk` elements each.

    Loop-invariant code runs once.

    Args:
        function, xs: see `vmap_or_loop`.
        chunk: number of elements that are batched together.

    Returns:
        The results, stacked along a new first axis.

    Example:
        >>> import jax.numpy as jnp
        >>> map_chunks(lambda x: x**2, jnp.arange(5), 2)
        Array([ 0,  1,  4,  9, 16], dtype=int32)
    """
    length = _length(xs)
    if chunk >= length:
        return jax.vmap(function)(xs)
    # Pad the last chunk with copies of the last element.
    places = jnp.minimum(jnp.arange(-(-length // chunk) * chunk), length - 1).reshape(-1, chunk)
    chunks = jax.tree.map(lambda x: x[places], xs)

    def loop(chunks: Any, on_cpu: bool) -> Any:
        ready = hoist_invariants(jax.vmap(function), _element(chunks), on_cpu=on_cpu)
        return jax.lax.map(ready, chunks)

    found = jax.lax.platform_dependent(
        chunks, cpu=lambda c: loop(c, True), default=lambda c: loop(c, False)
    )
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:length], found)


def _length(xs: Any) -> int:
    return jax.tree.leaves(xs)[0].shape[0]


def _element(xs: Any) -> Any:
    return jax.tree.map(lambda x: x[0], xs)
