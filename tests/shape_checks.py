"""What annotations say of arrays' shapes and dtypes is checked at every call of the tests."""

import dataclasses
import functools
import inspect
import sys
import types
import typing

import jax.numpy as jnp
import numpy as np
from beartype import BeartypeConf
from beartype.door import is_bearable
from jaxtyping import jaxtyped

from grumo_jax import losses, scores
from grumo_jax.metrics import bands, depth, masked, ranking, sparsification

MODULES = (losses, scores, bands, depth, masked, ranking, sparsification)
CONF = BeartypeConf(is_pep484_tower=True)


def check_calls():
    """Put functions that check in the place of the modules' public ones, wherever imported."""
    checking = {
        function: checked(function)
        for module in MODULES
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    }
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if isinstance(value, types.FunctionType) and value in checking:
                setattr(module, name, checking[value])


def checked(function):
    """The function, which then compares its arguments and its result with its annotations."""
    hints, signature = typing.get_type_hints(function), inspect.signature(function)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            hints[name] = tuple[hints[name], ...]

    @functools.wraps(function)
    def call(*args, **kwargs):
        # What it refuses by itself is refused in its own words.
        result = function(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        check({**given, "return": result}, hints, function.__qualname__)
        if dataclasses.is_dataclass(result):
            check_fields(result)
        return result

    return call


def check_fields(result):
    """Compare a result's fields with its annotations."""
    hints = typing.get_type_hints(type(result))
    values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    check(values, hints, type(result).__qualname__)


def as_jax(value):
    """NumPy's arrays, which serve everywhere, as JAX's, which annotations name."""
    if type(value) is tuple:
        return tuple(map(as_jax, value))
    return jnp.asarray(value) if isinstance(value, np.ndarray) else value


def check(values, hints, what):
    with jaxtyped("context"):  # sizes of one name must be the same
        for name, value in values.items():
            value = as_jax(value)
            assert is_bearable(value, hints[name], conf=CONF), f"{what}: {name} is {value!r}"
