"""JSON that comes back from disk: read strictly, and sealed against what happens to files there.

A seal is a digest of a line and of the seal of the line before. So a line that was changed,
doubled, lost or moved is found when it is read, and known by its number.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from grumo_jax._internal.hashing import hash_bytes, hash_json

_DIGITS = 16
_SEALED = re.compile(rb'(.*), "seal": "([0-9a-f]{%d})"\}\n' % _DIGITS, re.DOTALL)


def parse_json(text: bytes) -> Any:
    """Parse JSON as this library writes it: UTF-8, no name twice, no NaN and no Infinity.

    Raises:
        ValueError: for anything else, too deeply nested for Python included.

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
    """A line of JSON with its seal, and that seal.

    Args:
        content: at least one entry, finite numbers.
        before: the seal of the line before; empty for the first line.

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
    """The content of a line, and its seal.

    Raises:
        ValueError: if it is not what `seal_line` made after the line of the seal `before`.
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
    """The seal of what JSON can hold, however it is laid out.

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
