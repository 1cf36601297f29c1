"""What JAX is doing while a module is called."""

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

# Made at import, since JAX wants nothing else of itself to happen meanwhile.
_ANEW = jax.make_user_context()


def traced_anew() -> AbstractContextManager[None]:
    """Within it every jitted function is traced, whatever was traced before.

    A network that applies another one through `jax.jit` calls its modules in its first trace alone.
    """
    context: AbstractContextManager[None] = _ANEW(object())
    return context


def is_carried_out(kept: Any) -> bool:
    """Whether values that a variable gets now leave the transform in force.

    They leave NNX's transforms and none of JAX's own.
    """
    try:
        kept.set_value(kept.get_value())
    except TraceContextError:
        return False
    return True


def has_custom_derivative(outermost: FrameType | None) -> bool:
    """Whether the caller runs inside a function that brings its own derivative.

    JAX does not tell, and a gradient with respect to what such a function computes inside ends
    as a leaked tracer, which under `jax.jit` appears only when the program is lowered.

    Args:
        outermost: the frame below which to look.
    """
    return any(code.co_filename in _CUSTOM for code in _running(outermost))


def is_in_branch_or_loop(outermost: FrameType | None) -> bool:
    """Whether the caller runs inside a branch of Flax's cond or switch, or a loop or vmap of NNX.

    What a module keeps there would have to be the same in all branches and after every step.

    Args:
        outermost: the frame below which to look.
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
