"""Tables, as Markdown, CSV and LaTeX."""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from grumo_jax.errors import printable
from grumo_jax.report.templates import render_latex

Value = float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: heading.
        better: the direction that is better, shown as an arrow.
        digits: decimals shown; CSV has all.
        key: heading in CSV; the name by default.
        group: common heading above neighbours of the same group.
        reader: who it is for: machines read CSV, people the other forms.

    Example:
        >>> Column("abs_rel", "lower", group="AUSE").heading
        'AUSE abs_rel ↓'
    """

    name: str
    better: Literal["lower", "higher"] | None = None
    digits: int = 3
    key: str = ""
    group: str = ""
    reader: Literal["anyone", "people", "machines"] = "anyone"

    @property
    def arrow(self) -> str:
        """↓, ↑ or nothing."""
        return {"lower": "↓", "higher": "↑"}.get(self.better or "", "")

    @property
    def heading(self) -> str:
        """Group, name and arrow in one line."""
        return " ".join(filter(None, (self.group, self.name, self.arrow)))

    def text(self, cell: "Cell") -> str:
        """A cell's text without boldness and mark; "–" for an undefined number."""
        value = cell.value
        if isinstance(value, float):
            # Adding 0 turns -0.000 into 0.000.
            rounded = round(value, self.digits) + 0.0
            return f"{rounded:.{self.digits}f}" if math.isfinite(value) else "–"
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Cell:
    """A cell: its value, whether it is the best of its column, and a mark such as "†".

    Example:
        >>> Cell(0.031, bold=True).value
        0.031
    """

    value: Value
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: one line above it.
        columns: of the table.
        rows: cells, or plain values, one for each column.
        notes: sentences below.
        sections: {index of a row: heading, or ""}: a rule is drawn above that row.
        name: stem of the file it is written to.

    Example:
        >>> columns = (Column("method"), Column("AUSE", "lower"))
        >>> table = Table("Ablation", columns, [("grad", Cell(0.0312, bold=True)), ("a|b", None)])
        >>> print(table.to_markdown())
        **Ablation**
        <BLANKLINE>
        | method   | AUSE ↓    |
        |:---------|----------:|
        | grad     | **0.031** |
        | a\\|b     |           |
        <BLANKLINE>
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | Value]]
    notes: Sequence[str] = ()
    sections: dict[int, str] = field(default_factory=dict)
    name: str = "table"

    def cells(self) -> list[list[Cell]]:
        """All rows, plain values wrapped in cells."""
        return [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in self.rows]

    def parts(self) -> list[tuple[str, list[list[Cell]]]]:
        """(heading or "", rows) of each section."""
        cells, starts = self.cells(), sorted({0, *self.sections})
        bounds = itertools.pairwise([*starts, len(cells)])
        return [(self.sections.get(start, ""), cells[start:end]) for start, end in bounds]

    def groups(self) -> list[tuple[str, int, int]]:
        """(heading, first column, last column, from 1) of each group; empty without groups."""
        if not any(column.group for column in self.columns):
            return []
        # Columns without a group stand alone, without a common heading.
        keyed = enumerate((c.group or str(i), c.group) for i, c in enumerate(self.columns))
        runs = [[*run] for _, run in itertools.groupby(keyed, lambda item: item[1])]
        return [(run[0][1][1], run[0][0] + 1, run[-1][0] + 1) for run in runs]

    def shown(self) -> "Table":
        """The table for people, without the columns for machines."""
        return self._without("machines")

    def _without(self, reader: str) -> "Table":
        return self.keep([i for i, c in enumerate(self.columns) if c.reader != reader])

    def keep(self, places: Sequence[int]) -> "Table":
        """The table with some of the columns."""
        rows = [[row[i] for i in places] for row in self.rows]
        return dataclasses.replace(self, columns=[self.columns[i] for i in places], rows=rows)

    def numeric(self) -> list[bool]:
        """Whether each column holds no text and is aligned to the right."""
        columns = [*zip(*self.cells(), strict=True)] or [()] * len(self.columns)
        return [not any(isinstance(cell.value, str) for cell in column) for column in columns]

    def named_by(self) -> int:
        """Index of the column that names rows: the last column of text before any numbers."""
        for index, numeric in enumerate(self.numeric()):
            if numeric or self.columns[index].better:
                return max(index - 1, 0)
        return 0

    def to_markdown(self) -> str:
        """GitHub's Markdown, with aligned columns, so that it is readable as plain text, too."""
        table, lines = self.shown(), list[list[str]]()
        for heading, rows in table.parts():
            if heading:
                lines.append([f"*{_markdown(heading)}*", *[""] * (len(table.columns) - 1)])
            lines += [
                [_markdown_cell(c, cell) for c, cell in zip(table.columns, row, strict=True)]
                for row in rows
            ]
        headings = [_markdown(column.heading) for column in table.columns]
        text = _frame(lines, headings).to_markdown(
            index=False,
            tablefmt="pipe",
            colalign=["right" if numeric else "left" for numeric in table.numeric()],
            headersglobalalign="left",  # where they are easier to find in plain text
            disable_numparse=True,
        )
        notes = [f"- {_markdown(note)}" for note in self.notes]
        return "\n".join([f"**{_markdown(self.title)}**", "", text, "", *notes, ""[: len(notes)]])

    def to_csv(self) -> str:
        """One line of headings, then values with all digits; empty where undefined."""
        table = self._without("people")
        rows = [[_plain(cell.value) for cell in row] for row in table.cells()]
        headings = [_plain(column.key or column.heading) for column in table.columns]
        return _frame(rows, headings).to_csv(index=False, lineterminator="\n")

    def to_latex(self) -> str:
        """A LaTeX table, at most as wide as the page; needs booktabs and graphicx."""
        return render_latex("table.tex", table=self.shown(), label=_label(self.name))


def _frame(rows: list[list[str]], headings: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=headings, dtype=object)


def _label(name: str) -> str:
    return "tab:" + re.sub(r"[^A-Za-z0-9]+", "-", name)


def _markdown_cell(column: Column, cell: Cell) -> str:
    text = _markdown(column.text(cell))
    return (f"**{text}**" if cell.bold and text else text) + cell.mark


def _plain(value: Value) -> str:
    """A cell of CSV; text that spreadsheets would take for a formula starts with an apostrophe.

    >>> _plain("=1+1"), _plain("grad"), _plain(-0.5)
    ("'=1+1", 'grad', '-0.5')
    """
    if isinstance(value, float):
        return repr(float(value)) if math.isfinite(value) else ""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


_FORMULA = tuple("=+-@＝＋－＠")
"""First characters of formulas, in spreadsheets of any language."""


def _markdown(text: str) -> str:
    r"""Escape Markdown in a cell, but not what has no meaning, such as _ within words.

    >>> print(_markdown("a|b <i> *c* abs_rel _d_ [0, 1] [e](f)"))
    a\|b \<i\> \*c\* abs_rel \_d\_ [0, 1] [e]\(f)
    """
    text = re.sub(r"([\\`*<>|#~&]|(?<=\])\()", r"\\\1", printable(" ".join(text.split())))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
