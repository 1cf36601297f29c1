"""A report to read: one HTML file that needs no network and no server."""

import dataclasses
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from grumo_jax.report.charts import Charts, draw_charts, save_figure
from grumo_jax.report.html_data import data_uri, model_data, script_json
from grumo_jax.report.html_table import html_table
from grumo_jax.report.summary import Summary
from grumo_jax.report.table import Table
from grumo_jax.report.tables import labels

_HERE = Path(__file__).parent


def make_html(
    summaries: Sequence[Summary], tables: Sequence[Table], charts: Charts | None = None
) -> str:
    """Make a page of tables, curves, worst and best cases, and all images.

    Pictures of the worst and best cases are taken from the folder `pictures` beside each results
    file, where there is one.

    Args:
        summaries: of one data set and protocol.
        tables: to show, see `make_tables`.
        charts: of the same summaries, where they are drawn already.

    Returns:
        The file's text.

    Example:
        >>> from grumo_jax.report import make_tables, summarize
        >>> summaries = [summarize("results.jsonl")]
        >>> make_html(summaries, make_tables(summaries))[:15]
        '<!DOCTYPE html>'
    """
    named = list(zip(labels(summaries), summaries, strict=True))
    title = f"Uncertainty of depth on {summaries[0].configuration.get('dataset', 'unknown data')}"
    body = [
        _header(title, named),
        '<main><section id="results"><h2>Results</h2>',
        *_tables(tables),
        "</section>",
        _curves(charts or draw_charts(summaries), [label for label, _ in named]),
        _CASES,
        _IMAGES,
        _left_out(named),
        _configurations(named),
        "</main>",
    ]
    return _PAGE.format(
        title=escape(title),
        style=(_HERE / "page.css").read_text("utf-8"),
        body="\n".join(body),
        data=script_json([model_data(label, summary) for label, summary in named]),
        script=(_HERE / "page.js").read_text("utf-8"),
    )


def _tables(tables: Sequence[Table]) -> list[str]:
    """Tables below one another: a note that stands under an earlier one is not said again."""
    parts, said = list[str](), set[str]()
    for table in tables:
        notes = [note for note in table.notes if note not in said]
        said.update(notes)
        parts.append(html_table(dataclasses.replace(table, notes=notes)))
    return parts


def _header(title: str, named: Sequence[tuple[str, Summary]]) -> str:
    facts = [
        f"<li><b>{escape(label)}</b>: {escape(str(s.configuration.get('checkpoint', 'unknown')))}; "
        f"{escape(s.coverage)}.</li>"
        for label, s in named
    ]
    unfinished = [s for _, s in named if not s.finished]
    warnings = [
        f'<p class="warning" role="status">Not finished: {s.rows} of {s.expected} images so far '
        f"({escape(s.path.name)}). The numbers will change.</p>"
        for s in unfinished
    ]
    links = {
        "results": "Results",
        "curves": "Curves",
        "cases": "Worst and best",
        "all": "Images",
        "left-out": "Left out",
        "configuration": "Configuration",
    }
    return "\n".join(
        [
            f"<header><h1>{escape(title)}</h1>",
            f'<p class="lead">Protocol: {escape(_protocol(named[0][1]))}.</p>',
            *warnings,
            f'<ul class="facts">{"".join(facts)}</ul>',
            '<nav aria-label="Sections">',
            *(f'<a href="#{key}">{name}</a>' for key, name in links.items()),
            "</nav></header>",
        ]
    )


def _protocol(summary: Summary) -> str:
    protocol = summary.configuration.get("protocol") or {}
    if not isinstance(protocol, dict):
        return str(protocol)
    said = ", ".join(
        f"{key.replace('_', ' ')} {_plain(value)}"
        for key, value in protocol.items()
        if key not in ("name", "bands") and value is not None
    )
    return f"{protocol.get('name', 'unnamed')} ({said})" if said else str(protocol.get("name"))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _curves(charts: Charts, labels: Sequence[str]) -> str:
    parts = [
        '<section id="curves"><h2>Curves</h2>',
        _figure(
            charts.curves,
            "Sparsification error against the fraction of removed pixels, for each metric",
            "Sparsification error: mean error of the pixels that are kept when the most uncertain "
            "are removed, minus that of the oracle, which removes the largest errors. The area "
            "below is AUSE; lower is better.",
        ),
    ]
    for label, bands in zip(labels, charts.bands, strict=True):
        if bands:
            parts.append(
                _figure(
                    bands,
                    f"AUSE within bands of true depth, {label}",
                    f"{label}: AUSE within bands of true depth. A score that only repeats the "
                    "distance says little within a narrow band.",
                )
            )
    for label, grid in zip(labels, charts.grids, strict=True):
        chart = _figure(
            grid,
            f"Sparsification of every estimator and metric, {label}",
            "Error of what is kept. Shaded: AUSE.",
            "tall",
        )
        parts.append(
            f"<details><summary>Every estimator, {escape(label)}</summary>{chart}</details>"
        )
    return "\n".join([*parts, "</section>"])


def _figure(figure: Figure, alt: str, caption: str, kind: str = "") -> str:
    stream = io.BytesIO()
    # Without a background and as curves, so that it suits light and dark pages at any size.
    save_figure(figure, stream, "svg", transparent=True)
    return (
        f'<figure><div class="wide" tabindex="0" role="group" aria-label="{escape(alt)}">'
        f'<img class="chart {kind}" alt="{escape(alt)}" '
        f'src="{data_uri(stream.getvalue(), "svg+xml")}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _left_out(named: Sequence[tuple[str, Summary]]) -> str:
    parts = []
    for label, summary in named:
        lists = {
            "damaged or failed": [sentence for _, sentence in summary.problems],
            "without valid pixels": summary.empty,
            "of the data set missing on disk": summary.missing,
        }
        for what, items in lists.items():
            if items:
                lines = "".join(f"<li>{escape(item)}</li>" for item in items)
                parts.append(
                    f"<details{' open' * (len(items) <= 10)}><summary>{escape(label)}: "
                    f"{len(items)} {what}</summary><ul>{lines}</ul></details>"
                )
    found = "".join(parts) or "<p>Nothing: every image of the data set counts.</p>"
    return f'<section id="left-out"><h2>Left out</h2>{found}</section>'


def _configurations(named: Sequence[tuple[str, Summary]]) -> str:
    parts = [
        f"<details><summary>{escape(label)}, {escape(summary.path.name)}</summary>"
        f"<pre>{escape(json.dumps(summary.configuration, indent=2, ensure_ascii=False))}</pre>"
        "</details>"
        for label, summary in named
    ]
    return f'<section id="configuration"><h2>Configuration</h2>{"".join(parts)}</section>'


_CASES = """<section id="cases"><h2>Worst and best images</h2>
<div class="controls">
<label class="models">base model <select data-choice="model"></select></label>
<label>estimator <select data-choice="estimator"></select></label>
<label>measure <select data-choice="measure"></select></label>
<label class="tick"><input type="checkbox" id="large"> large pictures</label>
</div>
<div class="cases"><div><h3>Worst</h3><ol id="worst"></ol></div>
<div><h3>Best</h3><ol id="best"></ol></div></div></section>"""

_IMAGES = """<section id="all"><h2>Images</h2>
<noscript><p class="warning">The table of images and the worst and best cases need JavaScript.</p>
</noscript>
<div class="controls">
<label class="models">base model <select data-choice="model"></select></label>
<label>estimator <select data-choice="estimator"></select></label>
<label>name contains <input id="filter" type="search" autocomplete="off"></label>
<span id="count" role="status"></span>
</div>
<div class="scroll" id="images" tabindex="0" role="region" aria-label="Table of images">
<table><caption hidden>Scores of every image; headings sort</caption>
<thead><tr id="images-head"></tr></thead><tbody id="images-body"></tbody></table></div>
</section>"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
<script type="application/json" id="data">{data}</script>
<script>
{script}</script>
</body>
</html>
"""
