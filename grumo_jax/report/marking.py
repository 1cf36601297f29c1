"""Mark the best numbers of a column, and methods that do not beat a baseline."""

import math
from collections.abc import Sequence
from typing import Literal

from grumo_jax.report.table import Cell, Column, Value

NOT_BEATING = "†"
"""Marks a method's number that is not better than the best baseline's."""
BEATING = "‡"
"""Marks a baseline's number that is better than every method's."""

Kind = Literal["method", "baseline", "published"]


def mark_column(
    values: Sequence[Value], kinds: Sequence[Kind], column: Column, *, against_baselines: bool
) -> list[Cell]:
    """Make a column's cells: the best method bold, and marks where baselines are as good.

    Numbers are compared as shown, rounded: equal ones tie, and all of a tie are bold. Nothing is
    bold if all methods tie, or there is only one. Baselines and published numbers are never bold.

    Args:
        values: numbers; anything else is left as it is.
        kinds: of the values.
        column: with the direction that is better; without one nothing is marked.
        against_baselines: whether to compare with baselines. Not for errors of depth, which
            baselines take from the network.

    Example:
        >>> kinds = ("method", "method", "baseline")
        >>> column = Column("AUSE", "lower")
        >>> cells = mark_column((0.1, 0.3, 0.2), kinds, column, against_baselines=True)
        >>> [(cell.value, cell.bold, cell.mark) for cell in cells]
        [(0.1, True, ''), (0.3, False, '†'), (0.2, False, '')]
    """
    # Signed so that lower is better; NaN, which no comparison holds for, if not compared.
    sign = {"lower": 1, "higher": -1}.get(column.better or "", math.nan)
    shown = [
        sign * round(v, column.digits) if isinstance(v, float) and math.isfinite(v) else math.nan
        for v in values
    ]
    known = [(kind, number) for kind, number in zip(kinds, shown, strict=True) if number == number]
    methods = [number for kind, number in known if kind == "method"]
    baselines = [number for kind, number in known if kind == "baseline"]
    best = min(methods, default=math.inf)
    limit = min(baselines, default=math.inf) if against_baselines else math.inf
    telling = max(methods, default=best) > best
    cells = []
    for value, number, kind in zip(values, shown, kinds, strict=True):
        fails = kind == "method" and number >= limit
        beats = kind == "baseline" and number < best < math.inf and against_baselines
        bold = kind == "method" and number == best and telling
        cells.append(Cell(value, bold=bold, mark=NOT_BEATING * fails + BEATING * beats))
    return cells


def notes_on_marks(rows: Sequence[Sequence[Cell | Value]]) -> list[str]:
    """Notes that explain the boldness and marks in use."""
    cells = [cell for row in rows for cell in row if isinstance(cell, Cell)]
    marks = {cell.mark for cell in cells}
    explained = {
        "Bold: best of a base model's methods, ties included; baselines are never bold.": any(
            cell.bold for cell in cells
        ),
        f"{NOT_BEATING} A method that does not beat the best baseline of its base model.": (
            NOT_BEATING in marks
        ),
        f"{BEATING} A baseline that beats every method of its base model.": BEATING in marks,
    }
    return [note for note, used in explained.items() if used]
