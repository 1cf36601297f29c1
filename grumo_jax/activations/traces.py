"""Which transforms are in force while a module is called."""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import CodeType, FrameType
from typing import Any

import jax
from flax.core import lift
from flax.errors import TraceContextError

from grumo_jax.activations.kinds import loaded_nnx

_CUSTOM = {
    inspect.unwrap(f.__call__).__code__.co_filename for f in (jax.custom_vjp, jax.custom_jvp)
}

# Created at import, since this must not run concurrently with other JAX APIs.
_ANEW = jax.make_user_context()


def traced_anew() -> AbstractContextManager[None]:
    """Context in which `jax.jit` misses its cache, so that every jitted function is retraced.

    A network may apply a submodule through `jax.jit`; on a cache hit the submodule is not called.
    """
    context: AbstractContextManager[None] = _ANEW(object())
    return context


def is_carried_out(kept: Any) -> bool:
    """Whether the transform in force carries out the new value of an NNX variable.

    NNX's transforms do, JAX's do not.
    """
    try:
        kept.set_value(kept.get_value())
    except TraceContextError:
        return False
    return True


def has_custom_derivative(outermost: FrameType | None) -> bool:
    """Whether the caller runs inside a `jax.custom_vjp` or `jax.custom_jvp` function.

    JAX has no API for this. A gradient with respect to a value inside such a function leaks a
    tracer, and under `jax.jit` the error comes only at lowering.

    Args:
        outermost: search the stack from the caller up to this frame.
    """
    return any(code.co_filename in _CUSTOM for code in _running(outermost))


def is_in_branch_or_loop(outermost: FrameType | None) -> bool:
    """Whether the caller runs inside a branch of Flax's cond or switch, or a loop or vmap of NNX.

    State kept there would need the same structure in all branches and after every step.

    Args:
        outermost: search the stack from the caller up to this frame.
    """
    nnx = loaded_nnx()
    branches = [lift.cond, lift.switch, *((nnx.cond, nnx.switch) if nnx else ())]
    codes = {inspect.unwrap(branch).__code__ for branch in branches}
    files = {inspect.unwrap(nnx.while_loop).__code__.co_filename} if nnx else set()
    return any(code in codes or code.co_filename in files for code in _running(outermost))


def _running(outermost: FrameType | None) -> Iterator[CodeType]:
    frame = inspect.currentframe()
    while frame is not None and frame is not outermost:
        yield frame.f_code
        frame = frame.f_back
