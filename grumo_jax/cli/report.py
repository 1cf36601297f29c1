"""`grumo report`: tables, curves and an HTML page from results files."""

from pathlib import Path
from typing import Annotated

import typer

from grumo_jax.cli.messages import say, say_table
from grumo_jax.cli.options import check_out


def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="Results files of `grumo evaluate`: one for each base model."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("report"),
) -> None:
    """Turn results into tables, curves and a page to read.

    Writes report.html, which needs no network; tables.md, tables.tex and a CSV for each table with
    all digits; curves.png, sparsification.png and bands.png, and the same as PDF. Results that are
    not finished are reported as far as they go. Several files go side by side; their data set and
    protocol must be the same.

    Example: grumo report results/post.jsonl results/drop.jsonl --out report
    """
    # Slow imports, which other commands do not need.
    from grumo_jax.report import summarize, write_report

    check_out(out)
    page, tables = write_report(out, [summarize(path) for path in results])
    say_table(tables[0].to_markdown())
    say(f"report: {page.resolve()}")
