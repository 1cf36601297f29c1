"""Find values that cannot be the weights of a trained network."""

from typing import Any

import jax
import numpy as np

RUNNING_VARIANCE = "var"
"""Name of the running variance in Flax's BatchNorm."""


def find_unsound(variables: Any) -> str | None:
    """Describe the first entry that is not finite, or a negative variance; None without one.

    Args:
        variables: pytree of floating-point arrays.

    >>> find_unsound({"params": {"bias": np.array([0.0, np.nan])}})
    'params/bias: 1 of 2 numbers is not finite'
    """
    for path, leaf in jax.tree.leaves_with_path(variables):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if problem := what_is_wrong(name, np.asarray(leaf)):
            return f"{name}: {problem}"
    return None


def what_is_wrong(path: str, numbers: np.ndarray) -> str | None:
    """Why numbers cannot be the entry at a path such as "batch_stats/bn1/var"; None if they can.

    >>> what_is_wrong("batch_stats/bn1/var", np.array([1.0, -1.0]))
    '1 of 2 numbers is negative, and it is a variance'
    """
    finite = np.isfinite(numbers)
    if not finite.all():
        return f"{_count(~finite)} not finite"
    if path.rpartition("/")[2] == RUNNING_VARIANCE and (numbers < 0).any():
        return f"{_count(numbers < 0)} negative, and it is a variance"
    return None


def _count(chosen: np.ndarray) -> str:
    number = np.count_nonzero(chosen)
    return f"{number} of {chosen.size} numbers {'is' if number == 1 else 'are'}"
