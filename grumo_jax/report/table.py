"""A table, and its forms: Markdown, CSV, LaTeX."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from grumo_jax.errors import printable

Value = float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: heading.
        better: which way is better, shown as an arrow.
        digits: decimals shown; CSV has all.
        key: heading in CSV; the name by default.
        group: heading above it and its neighbours of the same group.
        reader: who it is for; machines read CSV, people the rest.

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
        """Group, name and arrow in one."""
        return " ".join(filter(None, (self.group, self.name, self.arrow)))


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
        title: what it shows, in a line.
        columns: of the table.
        rows: cells, or plain values, one for each column.
        notes: sentences below.
        sections: {index of a row: heading, or ""}, a rule above that row.
        name: of the file it is written to.

    Example:
        >>> columns = (Column("method"), Column("AUSE", "lower"))
        >>> table = Table("Ablation", columns, [("grad", Cell(0.0312, bold=True)), ("a|b", None)])
        >>> print(table.to_markdown())
        **Ablation**
        <BLANKLINE>
        | method | AUSE ↓    |
        |:-------|----------:|
        | grad   | **0.031** |
        | a\\|b   |           |
        <BLANKLINE>
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | Value]]
    notes: Sequence[str] = ()
    sections: dict[int, str] = field(default_factory=dict)
    name: str = "table"

    def cells(self) -> list[list[Cell]]:
        """All rows, plain values made cells."""
        return [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in self.rows]

    def shown(self) -> "Table":
        """The table that people see: without the columns that are for machines."""
        return self._without("machines")

    def _without(self, reader: str) -> "Table":
        if not any(column.reader == reader for column in self.columns):
            return self
        kept = [i for i, column in enumerate(self.columns) if column.reader != reader]
        rows = [[row[i] for i in kept] for row in self.rows]
        return dataclasses.replace(self, columns=[self.columns[i] for i in kept], rows=rows)

    def numeric(self, column: int) -> bool:
        """Whether a column holds no text, and is aligned to the right."""
        return not any(isinstance(row[column].value, str) for row in self.cells())

    def to_markdown(self) -> str:
        """GitHub's Markdown, its columns aligned so that it reads well as plain text, too."""
        return self.shown()._to_markdown()

    def _to_markdown(self) -> str:
        lines = [[_markdown(column.heading) for column in self.columns]]
        for index, row in enumerate(self.cells()):
            if self.sections.get(index):
                lines.append([f"*{_markdown(self.sections[index])}*", *[""] * (len(row) - 1)])
            lines.append([self._markdown_cell(cell, i) for i, cell in enumerate(row)])
        widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
        right = [self.numeric(i) for i in range(len(self.columns))]
        rule = [
            "-" * (w + 1) + ":" if r else ":" + "-" * (w + 1)
            for w, r in zip(widths, right, strict=True)
        ]
        text = [_piped(line, widths, right) for line in lines]
        # Headings are to the left, where they are easier to find in plain text.
        text[0] = _piped(lines[0], widths, [False] * len(widths))
        text.insert(1, f"|{'|'.join(rule)}|")
        notes = [f"- {_markdown(note)}" for note in self.notes]
        return "\n".join([f"**{_markdown(self.title)}**", "", *text, "", *notes, ""[: len(notes)]])

    def to_csv(self) -> str:
        """One line of headings, then values with all their digits; nothing where undefined."""
        table, stream = self._without("people"), io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([column.key or column.heading for column in table.columns])
        for row in table.cells():
            writer.writerow([_plain(cell.value) for cell in row])
        return stream.getvalue()

    def to_latex(self) -> str:
        """A LaTeX table for the packages booktabs and graphicx, as wide as the page at most."""
        return self.shown()._to_latex()

    def _to_latex(self) -> str:
        kinds = "".join("r" if self.numeric(i) else "l" for i in range(len(self.columns)))
        body = [*_latex_headings(self.columns), r"\midrule"]
        for index, row in enumerate(self.cells()):
            if index in self.sections:
                body += _latex_section(self.sections[index], len(row), first=index == 0)
            cells = (self._latex_cell(cell, i) for i, cell in enumerate(row))
            body.append(" & ".join(cells) + r" \\")
        notes = [rf"\par\smallskip {{\footnotesize {_latex(note)}}}" for note in self.notes]
        return "\n".join(
            [
                r"\begin{table*}",
                r"\centering\small\setlength{\tabcolsep}{3pt}",
                rf"\caption{{{_latex(self.title)}}}",
                rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', self.name)}}}",
                # As it is where it fits, else scaled down to the width of the page.
                r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                rf"\begin{{tabular}}{{{kinds}}}",
                r"\toprule",
                *body,
                r"\bottomrule",
                r"\end{tabular}}",
                *notes,
                r"\end{table*}",
                "",
            ]
        )

    def text(self, cell: Cell, column: int) -> str:
        """What a cell shows, without boldness and mark: "–" where a number is undefined."""
        value = cell.value
        if isinstance(value, float):
            # Adding 0 makes 0.000 of -0.000.
            digits = self.columns[column].digits
            return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else "–"
        return "" if value is None else str(value)

    def _markdown_cell(self, cell: Cell, column: int) -> str:
        text = _markdown(self.text(cell, column))
        return (f"**{text}**" if cell.bold and text else text) + cell.mark

    def _latex_cell(self, cell: Cell, column: int) -> str:
        text = _latex(self.text(cell, column))
        if isinstance(cell.value, float):
            text = text.replace("-", "$-$")
        # What marks add must not shift the digits.
        mark = rf"\rlap{{{_latex(cell.mark)}}}" if cell.mark else ""
        return (rf"\textbf{{{text}}}" if cell.bold and text else text) + mark


def _piped(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
    return f"| {' | '.join(cells)} |"


def _plain(value: Value) -> str:
    """A cell of CSV; text that a spreadsheet would take for a formula gets an apostrophe first.

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
"""What a formula begins with, in spreadsheets of any language."""


def _latex_headings(columns: Sequence[Column]) -> list[str]:
    """One line of headings, below one of groups if there are any."""
    names = [_latex(f"{c.name} {c.arrow}".strip()) for c in columns]
    lines = [" & ".join(names) + r" \\"]
    if any(column.group for column in columns):
        spans = list[tuple[str, int]]()
        for column in columns:
            if spans and column.group and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        groups, rules, start = [], [], 1
        for group, width in spans:
            groups.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(group)}}}" if group else "")
            rules += [rf"\cmidrule(lr){{{start}-{start + width - 1}}}"] * bool(group)
            start += width
        lines = [" & ".join(groups) + r" \\", " ".join(rules), *lines]
    return lines


def _latex_section(heading: str, width: int, *, first: bool) -> list[str]:
    rule = [] if first else [r"\midrule"]
    named = rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_latex(heading)}}}}} \\"
    return rule + [named] * bool(heading)


def _markdown(text: str) -> str:
    r"""Escape text for a cell; what means nothing stays as it is, such as _ within words.

    >>> print(_markdown("a|b <i> *c* abs_rel _d_ [0, 1] [e](f)"))
    a\|b \<i\> \*c\* abs_rel \_d\_ [0, 1] [e]\(f)
    """
    text = re.sub(r"([\\`*<>|#~&]|(?<=\])\()", r"\\\1", printable(" ".join(text.split())))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "†": r"\textsuperscript{\textdagger}",
    "‡": r"\textsuperscript{\textdaggerdbl}",
    "×": r"$\times$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "δ": r"$\delta$",
    "σ": r"$\sigma$",
    "→": r"$\rightarrow$",
    "–": "--",
    "…": r"\dots{}",
}


def _latex(text: str) -> str:
    r"""Escape text.

    >>> print(_latex("50 % of a_b & c"))
    50 \% of a\_b \& c
    """
    return "".join(
        _LATEX.get(character, character) for character in printable(" ".join(text.split()))
    )
