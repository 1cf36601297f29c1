"""Descriptions of options that are the same in every run and on every version of Python."""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from grumo_jax._internal.hashing import hash_bytes
from grumo_jax.errors import GrumoError

_LAMBDA = "<lambda>"


def stable_description(value: Any) -> str:
    """Like `repr`, but without what changes from run to run: addresses, byte code, set order.

    A function is described by its module, name, a digest of its source text, its defaults and the
    values it closes over; functions that it calls are not followed. Without source, as for
    functions written in C, only module and name remain. Arrays are described by a digest.

    Raises:
        GrumoError: for a lambda without source, which could not be told from another.

    Example:
        >>> import grumo_jax
        >>> stable_description(grumo_jax.Noise(std=0.1))
        'Noise(std=0.1)'
        >>> stable_description(lambda x: x) == stable_description(lambda x: 2 * x)
        False
    """
    return _name(value, ())


def _name(value: Any, outer: tuple[int, ...]) -> str:
    """Describe a value nested in others, whose ids are `outer`."""
    if id(value) in outer:
        return "…"  # A cycle, such as a recursive function that closes over itself.
    name = functools.partial(_name, outer=(*outer, id(value)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return f"{type(value).__name__}({_pairs(fields, name)})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(name, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(name, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{name(k)}: {name(v)}' for k, v in value.items()))}}}"
    if isinstance(value, functools.partial):
        return f"partial{name((value.func, value.args, sorted(value.keywords.items())))}"
    if isinstance(value, MethodType):
        return f"{name(value.__self__)}.{name(value.__func__)}"
    if isinstance(value, FunctionType):
        return _function_name(value, name)
    if callable(getattr(value, "__wrapped__", None)):  # jitted functions
        return name(value.__wrapped__)
    if hasattr(value, "__array__") and np.ndim(value):
        return f"{value.dtype}{list(value.shape)}#{_digest(np.asarray(value).tobytes())}"
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__:
        state = _pairs(getattr(value, "__dict__", {}), name)
        return f"{kind.__module__}.{kind.__qualname__}({state})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _pairs(values: Mapping[str, Any], name: Any) -> str:
    return ", ".join(f"{key}={name(value)}" for key, value in values.items())


def _function_name(function: FunctionType, name: Any) -> str:
    place, source = f"{function.__module__}.{function.__qualname__}", _source(function)
    if source is None and function.__code__.co_name == _LAMBDA:
        raise GrumoError(
            f"the lambda {place} cannot be told from others, since its source is not known, or its "
            "line has several; write it as a function with a name, in a file"
        )
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    enclosed = [*held, *_contents(function.__closure__ or ())]
    rest = name(enclosed) if enclosed else ""
    return place + (f"#{_digest(source.encode())}" if source else "") + rest


def _contents(cells: Iterable[Any]) -> list[Any]:
    """Values that a function closes over; cells that are still empty are left out."""
    contents = []
    for cell in cells:
        try:
            contents.append(cell.cell_contents)
        except ValueError:
            continue
    return contents


def _digest(content: bytes) -> str:
    return hash_bytes(content)[:8]


def _source(function: FunctionType) -> str | None:
    """A function's source text, of a lambda the expression alone; None if unavailable."""
    try:
        # From the code object: `inspect` would follow `__wrapped__` to another function.
        if function.__code__.co_name != _LAMBDA:
            return textwrap.dedent(inspect.getsource(function.__code__))
        lines, _ = inspect.findsource(function.__code__)
        return _lambda_source("".join(lines), function)
    except (OSError, TypeError, SyntaxError):
        return None


def _lambda_source(text: str, function: FunctionType) -> str | None:
    """Of the lambdas that begin on this line, the source of the one with this code object."""
    code = function.__code__
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
    ]
    if len(found) > 1:
        # Instructions that the compiler adds have no position, or an empty one.
        places = [p for p in code.co_positions() if None not in p and p[0::2] != p[1::2]]
        around = [n for n in found if places and all(_is_within(n.body, *p) for p in places)]
        # Lambdas may be nested: take the innermost.
        found = sorted(around, key=lambda node: node.col_offset)[-1:]
    return ast.get_source_segment(text, found[0]) if found else None


def _is_within(body: Any, line: Any, end_line: Any, column: Any, end_column: Any) -> bool:
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    return start <= (line, column) and (end_line, end_column) <= end
