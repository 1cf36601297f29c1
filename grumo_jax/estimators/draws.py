"""What references draw: decided by numbers that are written down, and by no name.

A class's `stream` is such a number; see `grumo_jax.references.Reference`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any
from zlib import crc32

import jax

Numbered = tuple[Any, int]
"""A reference, and how many of its kind came before it."""


def number(references: Iterable[Any]) -> list[Numbered]:
    """Count how many of its kind came before each reference, so that each draws something else.

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
    """The key that the n-th reference of a kind draws with, whatever of other kinds is beside it.

    It is `fold_in(fold_in(key, stream), number)`: neither names nor options such as a strength
    enter, so that two strengths are compared under the same draw.

    Args:
        key: that the estimator was called with; None gives None.
        reference: whose `stream` counts, or where that is None the CRC-32 of its class's module
            and name, such as "package.module.Blur".
        number: of references of the same kind before it, see `number`.
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
