"""JSON files that notice damage: parsed strictly, with a seal on every line.

A seal is a digest of a line and of the previous line's seal. So reading finds the first line that
was changed, duplicated, deleted or moved, and can name its number.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from grumo_jax._internal.hashing import hash_bytes, hash_json

_DIGITS = 16
_SEALED = re.compile(rb'(.*), "seal": "([0-9a-f]{%d})"\}\n' % _DIGITS, re.DOTALL)


def parse_json(text: bytes) -> Any:
    """Parse strict JSON: UTF-8, no duplicate keys, no NaN, no Infinity.

    Raises:
        ValueError: for anything else, and for nesting too deep for Python.

    Example:
        >>> parse_json(b'{"a": [1, null]}')
        {'a': [1, None]}
        >>> parse_json(b'{"a": 1, "a": 2}')
        Traceback (most recent call last):
        ...
        ValueError: 'a' stands twice
    """
    try:
        return json.loads(
            text.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_number
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def seal_line(content: Mapping[str, Any], before: str = "") -> tuple[bytes, str]:
    """Encode one line of JSON with its seal.

    Args:
        content: at least one entry; numbers must be finite.
        before: the previous line's seal; empty for the first line.

    Returns:
        (the line, its seal).

    Example:
        >>> line, seal = seal_line({"a": 1})
        >>> line
        b'{"a": 1, "seal": "f9d86028c6e0d64e"}\\n'
        >>> unseal_line(line)
        ({'a': 1}, 'f9d86028c6e0d64e')
    """
    body = json.dumps(content, allow_nan=False).encode()
    seal = _seal(body, before)
    return body[:-1] + f', "seal": "{seal}"}}\n'.encode(), seal


def unseal_line(line: bytes, before: str = "") -> tuple[dict[str, Any], str]:
    """Decode one line and verify its seal; the inverse of `seal_line`.

    Args:
        line: of a file, newline included.
        before: the previous line's seal; empty for the first line.

    Returns:
        (content, seal).

    Raises:
        ValueError: if the line was changed, or does not follow the line with the seal `before`.
    """
    match = _SEALED.fullmatch(line)
    if match is None:
        raise ValueError("there is no seal")
    body, seal = match[1] + b"}", match[2].decode()
    if seal != _seal(body, before):
        raise ValueError("the seal is of another line")
    content = parse_json(body)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content, seal


def seal_of(content: Any) -> str:
    """A digest of anything JSON can hold, whatever the order of its keys.

    >>> seal_of({"a": 1, "b": 2}) == seal_of({"b": 2, "a": 1})
    True
    """
    return hash_json(content)[:_DIGITS]


def _seal(body: bytes, before: str) -> str:
    return hash_bytes(before.encode(), body)[:_DIGITS]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands twice")
    return content


def _no_number(token: str) -> Any:
    raise ValueError(f"{token} is no number")
