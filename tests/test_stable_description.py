"""Names of options that are the same in every run, on every version of Python."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grumo_jax
from grumo_jax._internal.stable_description import stable_description


def difference(depth, reference, power=2):
    """Not called: its text is what counts."""
    return abs(depth - reference) ** power


def abs_difference(depth, reference):
    return abs(depth - reference)


def times(factor):
    def loss(depth, reference):
        return factor * (depth - reference)

    return loss


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def loss(self, depth, reference):
        return self.factor * depth


@dataclasses.dataclass(frozen=True)
class Holder:
    function: Callable[..., Any]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def test_names_hang_on_the_text_alone():
    text = "def abs_difference(depth, reference):\n    return abs(depth - reference)\n"
    assert stable_description(abs_difference) == f"{__name__}.abs_difference#{digest(text)}"
    inner = "def loss(depth, reference):\n    return factor * (depth - reference)\n"
    assert stable_description(times(3)) == f"{__name__}.times.<locals>.loss#{digest(inner)}(3)"
    name = stable_description(Holder(lambda d, r: d - r))
    assert name.startswith("Holder(function=")
    assert name.endswith(f"<lambda>#{digest('lambda d, r: d - r')})")


def test_byte_code_does_not_count(monkeypatch):
    """Which differs between versions of Python."""
    before = stable_description(difference)
    code = difference.__code__.replace(co_code=abs_difference.__code__.co_code, co_consts=(3,))
    monkeypatch.setattr(difference, "__code__", code)
    assert stable_description(difference) == before


def test_wrappers_are_told_from_what_they_wrap():
    def doubled(function):
        @functools.wraps(function)
        def twice(*arguments):
            return 2 * function(*arguments)

        return twice

    names = map(stable_description, (difference, doubled(difference), doubled(abs_difference)))
    assert len(set(names)) == 3


def test_lambdas_of_one_line_are_told_apart():
    shapes = [lambda d, r: d, lambda d, r: r, lambda d, r: 2.0 * d, lambda d, r: 3.0 * d]
    nested = [lambda x: lambda y: x + y, lambda x: lambda y: x - y]
    assert len({stable_description(f) for f in (*shapes, *nested)}) == 6
    assert stable_description(nested[0](1)) != stable_description(nested[1](1))


def test_what_a_function_holds_counts():
    different = [
        times(2),
        times(3),
        functools.partial(difference, power=2),
        functools.partial(difference, power=3),
        Scaled(2).loss,
        Scaled(3).loss,
        Scaled(2),
        jax.jit(times(4)),
        times(np.zeros(2000)),
        times(np.r_[np.zeros(1999), 1]),
        times(jnp.zeros(3)),
    ]
    names = [stable_description(value) for value in different]
    assert len(set(names)) == len(names)
    assert names == [stable_description(value) for value in different]
    assert stable_description(times(2)) == stable_description(times(2))


def test_nothing_of_the_moment_is_in_a_name():
    values = (grumo_jax.Flip(), jnp.tanh, object(), {"b", "a", "c"}, len, Scaled)
    assert " at 0x" not in stable_description(values)
    assert stable_description({"b", "a", "c"}) == "{'a', 'b', 'c'}"
    assert stable_description({"b": 1, "a": 2}) == stable_description({"a": 2, "b": 1})


def test_what_holds_itself_has_a_name():
    def again(n):
        return again(n - 1)

    assert stable_description(again) == stable_description(again)


def test_a_lambda_without_source_is_refused():
    with pytest.raises(grumo_jax.GrumoError, match=r"cannot be told from others, .* with a name"):
        stable_description(eval("lambda d, r: d"))
