"""What JAX is doing while a module is called."""

import inspect
from contextlib import AbstractContextManager
from types import FrameType

import jax
from flax import nnx
from flax.errors import TraceContextError

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
    frame = inspect.currentframe()
    while frame is not None and frame is not outermost:
        if frame.f_code.co_filename in _CUSTOM:
            return True
        frame = frame.f_back
    return False
