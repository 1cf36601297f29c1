"""What JAX is doing while a module is called."""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import CodeType, FrameType

import jax
from flax import nnx
from flax.core import lift
from flax.errors import TraceContextError

_CUSTOM = {
    inspect.unwrap(f.__call__).__code__.co_filename for f in (jax.custom_vjp, jax.custom_jvp)
}
_BRANCHES = {inspect.unwrap(f).__code__ for f in (lift.cond, lift.switch, nnx.cond, nnx.switch)}
_LOOPS = {inspect.unwrap(f).__code__.co_filename for f in (nnx.while_loop, nnx.vmap)}

# Made at import, since JAX wants nothing else of itself to happen meanwhile.
_ANEW = jax.make_user_context()


def traced_anew() -> AbstractContextManager[None]:
    """Within it every jitted function is traced, whatever was traced before.

    A network that applies another one through `jax.jit` calls its modules in its first trace alone.
    """
    context: AbstractContextManager[None] = _ANEW(object())
    return context


def is_carried_out(kept: nnx.Variable) -> bool:
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
    running = _running(outermost)
    return any(code in _BRANCHES or code.co_filename in _LOOPS for code in running)


def _running(outermost: FrameType | None) -> Iterator[CodeType]:
    frame = inspect.currentframe()
    while frame is not None and frame is not outermost:
        yield frame.f_code
        frame = frame.f_back
