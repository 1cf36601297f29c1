"""Write a report's files."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.report.ablation import (
    AblationSummary,
    best_table,
    layer_tables,
    settings_table,
)
from grumo_jax.report.charts import draw_charts, save_figure
from grumo_jax.report.gain import gain_table
from grumo_jax.report.heatmap import plot_layers_reductions, plot_layers_signals
from grumo_jax.report.html import make_html
from grumo_jax.report.summary import Summary
from grumo_jax.report.table import Table
from grumo_jax.report.tables import Published, make_tables


def write_report(
    folder: str | Path, summaries: Sequence[Summary], *, published: Published | None = None
) -> tuple[Path, list[Table]]:
    """Write tables.md, tables.tex, a CSV for each table, pictures and report.html.

    Each file is written atomically.

    Args:
        folder: for the files; created if missing.
        summaries: of one data set and protocol.
        published: see `make_tables`.

    Returns:
        The page and the tables.

    Raises:
        ResultsError: see `make_tables`.

    Example:
        >>> from grumo_jax.report import summarize
        >>> page, tables = write_report("report", [summarize("results.jsonl")])
        >>> page.as_posix()
        'report/report.html'
    """
    folder = Path(folder)
    tables = make_tables(summaries, published)
    gain = gain_table(summaries)
    tables += [gain] if gain else []
    _write(folder / "tables.md", "\n".join(table.to_markdown() for table in tables))
    head = "% Needs \\usepackage{booktabs,graphicx,textcomp}\n"
    _write(folder / "tables.tex", head + "\n".join(table.to_latex() for table in tables))
    for table in tables:
        _write(folder / f"{table.name}.csv", table.to_csv())
    charts = draw_charts(summaries)
    _save(folder / "curves", charts.curves)
    for place, (grid, bands) in enumerate(zip(charts.grids, charts.bands, strict=True)):
        suffix = f"_{place + 1}" if len(summaries) > 1 else ""
        _save(folder / f"sparsification{suffix}", grid)
        if bands:
            _save(folder / f"bands{suffix}", bands)
    page = folder / "report.html"
    _write(page, make_html(summaries, tables, charts))
    return page, tables


def write_ablation(folder: str | Path, summary: AblationSummary) -> list[Table]:
    """Write an ablation's tables.md, settings.csv and heat maps, each atomically.

    Returns:
        The tables: the best settings, layers by signals, layers by reductions.

    Example:
        >>> from grumo_jax.report import summarize_ablation
        >>> tables = write_ablation("report", summarize_ablation("ablation.jsonl"))
        >>> [table.name for table in tables]
        ['best', 'layers_signals', 'layers_reductions']
    """
    folder = Path(folder)
    tables = [best_table(summary), *layer_tables(summary)]
    _write(folder / "tables.md", "\n".join(table.to_markdown() for table in tables))
    _write(folder / "settings.csv", settings_table(summary).to_csv())
    _save(folder / "layers_signals", plot_layers_signals(summary))
    _save(folder / "layers_reductions", plot_layers_reductions(summary))
    return tables


def _write(path: Path, text: str) -> None:
    # File names may hold bytes that are no text.
    content = text.encode(errors="backslashreplace")
    write_atomically(path, lambda stream: stream.write(content))


def _save(path: Path, figure: Figure) -> None:
    """Save as PNG for screens, and as PDF for papers."""
    write_atomically(
        path.with_name(f"{path.name}.png"),
        lambda stream: save_figure(figure, stream, "png", dpi=150),
    )
    write_atomically(
        path.with_name(f"{path.name}.pdf"), lambda stream: save_figure(figure, stream, "pdf")
    )
