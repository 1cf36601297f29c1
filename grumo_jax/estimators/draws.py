"""PRNG keys of references: derived from fixed numbers, so that renaming a class keeps its draws.

The number is the class's `stream`; see `grumo_jax.references.Reference`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any
from zlib import crc32

import jax

Numbered = tuple[Any, int]
"""A reference and the number of references of its kind before it."""


def number(references: Iterable[Any]) -> list[Numbered]:
    """Number references within their kind, so that each gets a key of its own.

    Example:
        >>> from grumo_jax import Flip, Noise
        >>> number([Noise(), Flip(), Noise(std=0.1)])
        [(Noise(std=0.01), 0), (Flip(), 0), (Noise(std=0.1), 1)]
    """
    seen: Counter[int] = Counter()
    numbered = []
    for reference in references:
        stream = _stream(reference)
        numbered.append((reference, seen[stream]))
        seen[stream] += 1
    return numbered


def reference_key(key: jax.Array | None, reference: Any, number: int) -> Any:
    """The key of the n-th reference of a kind, independent of references of other kinds.

    It is `fold_in(fold_in(key, stream), number)`. Options such as a strength do not enter, so two
    strengths are compared under the same draw.

    Args:
        key: the estimator's key; None gives None.
        reference: its `stream` is used; if that is None, the CRC-32 of its class's module and
            name, such as "package.module.Blur".
        number: number of references of the same kind before it, see `number`.
    """
    if key is None:
        return None
    return jax.random.fold_in(jax.random.fold_in(key, _stream(reference)), number)


def _stream(reference: Any) -> int:
    kind = type(reference)
    declared = getattr(reference, "stream", None)
    return (
        crc32(f"{kind.__module__}.{kind.__qualname__}".encode()) if declared is None else declared
    )
