"""A table's form in HTML."""

import dataclasses
from html import escape

from grumo_jax.report.table import Cell, Column, Table


def html_table(table: Table) -> str:
    """Write a table, its title above and its notes below.

    Columns of text at the left stay in sight when the rest is scrolled sideways.

    Example:
        >>> html = html_table(Table("Ablation", (Column("method"),), [("<grad>",)]))
        >>> "&lt;grad&gt;" in html
        True
    """
    table = _without_base_model(table.shown())
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return "\n".join(
        [
            f"<h3>{escape(table.title)}</h3>",
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">',
            f"<table><thead>{_headings(table)}</thead>",
            _bodies(table),
            "</table></div>",
            f'<ul class="notes">{notes}</ul>' if notes else "",
        ]
    )


def _without_base_model(table: Table) -> Table:
    """Leave out a first column that says the same in every row: phones have little room."""
    rows = table.cells()
    is_text = len(table.columns) > 2 and not table.numeric(0) and not table.numeric(1)
    if not is_text or len({row[0].value for row in rows}) != 1:
        return table
    return dataclasses.replace(table, columns=table.columns[1:], rows=[row[1:] for row in rows])


def _headings(table: Table) -> str:
    groups, names = list[list[str | int]](), list[str]()
    for index, column in enumerate(table.columns):
        if groups and column.group and groups[-1][0] == column.group:
            groups[-1][1] = int(groups[-1][1]) + 1
        else:
            groups.append([column.group, 1])
        names.append(f'<th scope="col"{_class(table, index)}>{_name(column)}</th>')
    lines = [f"<tr>{''.join(names)}</tr>"]
    if any(column.group for column in table.columns):
        above = (f'<th colspan="{width}">{escape(str(name))}</th>' for name, width in groups)
        lines.insert(0, f'<tr class="groups">{"".join(above)}</tr>')
    return "".join(lines)


def _name(column: Column) -> str:
    arrow = {"lower": "lower is better", "higher": "higher is better"}.get(column.better or "")
    shown = f' <span title="{arrow}">{column.arrow}</span>' if arrow else ""
    return escape(column.name) + shown


def _bodies(table: Table) -> str:
    """One tbody for each section."""
    parts = ["<tbody>"]
    for index, row in enumerate(table.cells()):
        if index in table.sections:
            parts.append('</tbody><tbody class="section">' if index else "")
            heading = table.sections[index]
            if heading:
                blank = f'<td colspan="{len(row) - 1}"></td>' if len(row) > 1 else ""
                parts.append(
                    f'<tr class="heading"><th class="sticky">{escape(heading)}</th>{blank}</tr>'
                )
        cells = "".join(_cell(table, cell, i) for i, cell in enumerate(row))
        parts.append(f"<tr>{cells}</tr>")
    return "\n".join([*parts, "</tbody>"])


def _cell(table: Table, cell: Cell, index: int) -> str:
    text = escape(table.text(cell, index))
    text = f"<b>{text}</b>" if cell.bold and text else text
    text += f"<sup>{escape(cell.mark)}</sup>" if cell.mark else ""
    tag = 'th scope="row"' if index == _named_by(table) else "td"
    return f"<{tag}{_class(table, index)}>{text}</{tag.split()[0]}>"


def _class(table: Table, index: int) -> str:
    """Text is at the left; what names the row stays in sight."""
    names = ["text"] * (not table.numeric(index)) + ["sticky"] * (index == _named_by(table))
    return f' class="{" ".join(names)}"' if names else ""


def _named_by(table: Table) -> int:
    """The column that names a row: the last of those of text before any number."""
    for index in range(len(table.columns)):
        if table.numeric(index) or table.columns[index].better:
            return max(index - 1, 0)
    return 0
