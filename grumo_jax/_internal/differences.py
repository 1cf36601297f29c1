"""What differs between two descriptions of a run, which JSON can hold."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST = 120
"""Characters of a value that are shown."""


def list_differences(
    stored: Mapping[str, Any], given: Mapping[str, Any], *, missing: str = "null"
) -> Iterator[str]:
    """A phrase for each value that is not the same, in mappings within mappings, too.

    Args:
        stored, given: the description as it was, and as it is now.
        missing: what is shown where one of them has no such value.

    Example:
        >>> before, now = {"seed": 0, "metrics": {"rmse": 1}}, {"seed": 0, "metrics": {"rmse": 2}}
        >>> list(list_differences(before, now))
        ['metrics: rmse was 1 and is now 2']
    """
    for name in {**stored, **given}:
        before, now = stored.get(name), given.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            inner = list_differences(before, now, missing=missing)
            yield from (f"{name}: {phrase}" for phrase in inner)
            continue
        texts = [_show(side[name]) if name in side else missing for side in (stored, given)]
        if texts[0] != texts[1]:
            shown = [text if len(text) <= LONGEST else text[: LONGEST - 1] + "…" for text in texts]
            yield f"{name} was {shown[0]} and is now {shown[1]}"


def _show(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
