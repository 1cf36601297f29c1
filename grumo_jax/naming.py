"""Names of options that are the same in every run: for configurations, and for random draws."""

import dataclasses
import re
from functools import partial
from types import CodeType
from typing import Any
from zlib import crc32


def stable_name(value: Any) -> str:
    """Like `repr`, but without addresses: functions by their place and a checksum of their code.

    Example:
        >>> import grumo_jax
        >>> stable_name(grumo_jax.Noise(std=0.1))
        'Noise(std=0.1)'
        >>> stable_name(lambda x: x) == stable_name(lambda x: 2 * x)
        False
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (
            f"{f.name}={stable_name(getattr(value, f.name))}" for f in dataclasses.fields(value)
        )
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(stable_name, value))})"
    if isinstance(value, partial):
        parts = (value.func, value.args, sorted(value.keywords.items()))
        return f"partial{stable_name(parts)}"
    if hasattr(value, "__code__"):
        return f"{value.__module__}.{value.__qualname__}#{_checksum(value.__code__):08x}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _checksum(code: CodeType) -> int:
    constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
    inner = [_checksum(c) for c in code.co_consts if isinstance(c, CodeType)]
    return crc32(code.co_code + repr((constants, code.co_names, inner)).encode())
