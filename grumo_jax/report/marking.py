"""Which numbers of a column are best, and which say nothing because a baseline is as good."""

import math
from collections.abc import Sequence
from typing import Literal

from grumo_jax.report.table import Cell, Column, Value

NOT_BEATING = "†"
"""At a method's number: it is not better than the best baseline's."""
BEATING = "‡"
"""At a baseline's number: it is better than every method's."""

Kind = Literal["method", "baseline", "published"]


def mark_column(
    values: Sequence[Value], kinds: Sequence[Kind], column: Column, *, against_baselines: bool
) -> list[Cell]:
    """Make cells of a column: the best method's bold, and marks where baselines are as good.

    Numbers count as they are shown, rounded: what reads alike is a tie, and all of a tie are
    bold. Where all methods tie, or there is only one, none is. Baselines and published numbers
    are never bold.

    Args:
        values: numbers; anything else is left as it is.
        kinds: of each.
        column: says which way is better; without that nothing is marked.
        against_baselines: whether baselines say anything of this column. Not so for errors of
            depth, which baselines take from the network.

    Example:
        >>> kinds = ("method", "method", "baseline")
        >>> column = Column("AUSE", "lower")
        >>> cells = mark_column((0.1, 0.3, 0.2), kinds, column, against_baselines=True)
        >>> [(cell.value, cell.bold, cell.mark) for cell in cells]
        [(0.1, True, ''), (0.3, False, '†'), (0.2, False, '')]
    """
    # So that lower is better and None stands for what is not compared.
    sign = {"lower": 1, "higher": -1}.get(column.better or "", 0)
    shown = [_rounded(value, column, sign) for value in values]
    methods = [
        s for s, kind in zip(shown, kinds, strict=True) if kind == "method" and s is not None
    ]
    baselines = [s for s, k in zip(shown, kinds, strict=True) if k == "baseline" and s is not None]
    best = min(methods, default=math.inf)
    limit = min(baselines, default=math.inf) if against_baselines else math.inf
    telling = max(methods, default=best) > best
    cells = []
    for value, number, kind in zip(values, shown, kinds, strict=True):
        is_method = kind == "method" and number is not None
        beats = against_baselines and kind == "baseline" and number is not None and number < best
        fails = is_method and number is not None and number >= limit
        mark = NOT_BEATING * fails + BEATING * (beats and bool(methods))
        cells.append(Cell(value, bold=is_method and number == best and telling, mark=mark))
    return cells


def _rounded(value: Value, column: Column, sign: int) -> float | None:
    if not sign or not isinstance(value, float) or not math.isfinite(value):
        return None
    return sign * round(value, column.digits)


def notes_on_marks(rows: Sequence[Sequence[Cell | Value]]) -> list[str]:
    """Explain what is used of boldness and marks."""
    cells = [cell for row in rows for cell in row if isinstance(cell, Cell)]
    explained = {
        "Bold: best of a base model's methods, ties included; baselines are never bold.": any(
            cell.bold for cell in cells
        ),
        f"{NOT_BEATING} A method that does not beat the best baseline of its base model.": any(
            NOT_BEATING in cell.mark for cell in cells
        ),
        f"{BEATING} A baseline that beats every method of its base model.": any(
            BEATING in cell.mark for cell in cells
        ),
    }
    return [note for note, used in explained.items() if used]
