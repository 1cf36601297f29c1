"""What differs between two descriptions of a run, which JSON can hold."""

import json
from collections.abc import Iterator, Mapping
from typing import Any


def differences(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    *,
    nested: bool = False,
    missing: str = "null",
) -> Iterator[tuple[str, str, str]]:
    """Each value that is not the same: its name, and both as JSON.

    Args:
        first, second: the descriptions.
        nested: name values of mappings within them, not the mappings as a whole.
        missing: what a value is taken for that one of them does not have.

    Example:
        >>> before, now = {"seed": 0, "metrics": {"rmse": 1}}, {"seed": 0, "metrics": {"rmse": 2}}
        >>> list(differences(before, now, nested=True))
        [('metrics: rmse', '1', '2')]
    """
    for name in {**first, **second}:
        ours, theirs = first.get(name), second.get(name)
        if nested and isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            for inner, *texts in differences(ours, theirs, nested=True, missing=missing):
                yield f"{name}: {inner}", texts[0], texts[1]
            continue
        before, now = (
            json.dumps(side[name], sort_keys=True) if name in side else missing
            for side in (first, second)
        )
        if before != now:
            yield name, before, now
