"""Read the rows of results files; errors name the line that is damaged."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from grumo_jax.errors import ResultsError
from grumo_jax.evaluation.results import Results, Row

_T = TypeVar("_T")


def read_rows(results: Results, read: Callable[[Row], _T]) -> Iterator[_T]:
    """Apply `read` to each row, after checking all its numbers.

    Raises:
        ResultsError: for the first line that `read` fails on, that holds anything but finite
            numbers where others hold numbers, or lists of another length.
    """
    forms = _Forms()
    for line, row in enumerate(results.rows(), 2):
        try:
            forms.check({k: v for k, v in row.items() if k not in ("index", "id", "problem")})
            if not isinstance(row.get("problem", ""), str):
                raise TypeError("a problem is a sentence")
            read_row = read(row)
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise ResultsError(
                f"{results.path}: line {line} is no row of these results; delete the file and give "
                "the command anew"
            ) from error
        yield read_row


def count_of(value: Any) -> int:
    """Check a number of pixels.

    Raises:
        ValueError: if it is not one.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number of pixels")
    return value


@dataclass
class Mean:
    """Elementwise running mean of finite values."""

    total: Any = 0.0
    count: Any = 0

    def add(self, values: Any, where: Any = True) -> None:
        """Add values that broadcast with those before; null counts as NaN."""
        values = np.asarray(values, np.float64)
        counts = np.isfinite(values) & where
        self.total = self.total + np.where(counts, values, 0.0)
        self.count = self.count + counts

    def result(self) -> np.ndarray:
        """The mean; NaN where nothing was finite."""
        return np.where(self.count, self.total / np.maximum(self.count, 1), np.nan)


@dataclass
class _Forms:
    """The lists in a row and their lengths, which are the same in all rows."""

    lengths: dict[tuple[str, ...], int] = field(default_factory=dict)

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise an error for anything but finite numbers, null, and lists as in rows before."""
        left: list[tuple[tuple[str, ...], Any]] = [((), row)]
        while left:
            path, value = left.pop()
            if isinstance(value, dict):
                left += [((*path, name), inner) for name, inner in value.items()]
            elif isinstance(value, list):
                if self.lengths.setdefault(path, len(value)) != len(value):
                    raise ValueError(f"{path} has another length than before")
                if not _are_numbers(value):
                    left += [((*path, ""), inner) for inner in value]
            elif value is not None and not _are_numbers([value]):
                raise TypeError(f"{value!r} is no number")


def _are_numbers(values: list[Any]) -> bool:
    return {*map(type, values)} <= {int, float} and all(map(math.isfinite, values))
