"""The report as one HTML file that needs no network and no server."""

import base64
import dataclasses
import io
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image, features

from grumo_jax.errors import ImageError
from grumo_jax.images import read_image
from grumo_jax.metrics import METRICS
from grumo_jax.report.charts import Charts, draw_charts, save_figure
from grumo_jax.report.pages import PICTURES
from grumo_jax.report.summary import PER_IMAGE, Summary
from grumo_jax.report.table import Column, Table
from grumo_jax.report.tables import COLUMNS, labels, order
from grumo_jax.report.templates import FOLDER, render_html

MOST_PICTURES = 24
PICTURE_WIDTH = 1400


def make_html(
    summaries: Sequence[Summary], tables: Sequence[Table], charts: Charts | None = None
) -> str:
    """Make a page of tables, curves, worst and best cases, and all images.

    Pictures of the worst and best cases are taken from the folder `pictures` beside each results
    file, where there is one.

    Args:
        summaries: of one data set and protocol.
        tables: to show, see `make_tables`.
        charts: of the same summaries; drawn if not given.

    Returns:
        The file's text.

    Example:
        >>> from grumo_jax.report import make_tables, summarize
        >>> summaries = [summarize("results.jsonl")]
        >>> make_html(summaries, make_tables(summaries))[:15]
        '<!DOCTYPE html>'
    """
    names = labels(summaries)
    named = list(zip(names, summaries, strict=True))
    charts = charts or draw_charts(summaries)
    dataset = summaries[0].configuration.get("dataset", "unknown data")
    return render_html(
        "page.html",
        title=f"Uncertainty of depth on {dataset}",
        protocol=_protocol(summaries[0]),
        named=named,
        tables=_below_one_another(tables),
        curves=charts.curves,
        bands=[(n, figure) for n, figure in zip(names, charts.bands, strict=True) if figure],
        grids=list(zip(names, charts.grids, strict=True)),
        left_out=[entry for label, summary in named for entry in _left_out(label, summary)],
        data=[_model_data(label, summary) for label, summary in named],
        as_svg=_as_svg,
        as_json=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        style=(FOLDER / "page.css").read_text("utf-8"),
        script=(FOLDER / "page.js").read_text("utf-8"),
    )


def _below_one_another(tables: Sequence[Table]) -> list[Table]:
    """The tables for people; each note stands under the first of them only."""
    shown, said = list[Table](), set[str]()
    for table in tables:
        notes = [note for note in table.notes if note not in said]
        said.update(notes)
        shown.append(_without_base_model(dataclasses.replace(table.shown(), notes=notes)))
    return shown


def _without_base_model(table: Table) -> Table:
    """Drop the first column if all rows have the same value: phones have little room."""
    is_text = len(table.columns) > 2 and not any(table.numeric()[:2])
    if not is_text or len({row[0].value for row in table.cells()}) != 1:
        return table
    return table.keep(range(1, len(table.columns)))


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


def _left_out(label: str, summary: Summary) -> list[tuple[str, Sequence[str]]]:
    """(heading, sentences or names) of images that were left out."""
    lists: dict[str, Sequence[str]] = {
        "damaged or failed": [sentence for _, sentence in summary.problems],
        "without valid pixels": summary.empty,
        "of the data set missing on disk": summary.missing,
    }
    return [(f"{label}: {len(found)} {what}", found) for what, found in lists.items() if found]


def _model_data(label: str, summary: Summary) -> dict[str, Any]:
    """The data of the page's script, as compact as possible."""
    estimators = order(summary.estimators)
    scores = {name: found.scores for name, found in estimators.items()}
    pixels = {i: n for found in reversed(scores.values()) for i, n in found["pixels"].items()}
    return {
        "label": label,
        "estimators": list(estimators),
        "measures": [
            {"key": path, "name": _measure_name(COLUMNS[path]), "better": COLUMNS[path].better}
            for path in PER_IMAGE
        ],
        "images": [[index, name, int(pixels[index])] for index, name in summary.images.items()],
        "scores": {
            name: [
                [_short(value) for value in row]
                for row in found.reindex([*summary.images])[[*PER_IMAGE]].to_numpy().tolist()
            ]
            for name, found in scores.items()
        },
        "pictures": _pictures(summary, next(iter(scores.values()))) if scores else {},
    }


def _measure_name(column: Column) -> str:
    """A column in one line: "AUSE abs_rel ↓", "normalised AUSE rmse ↓", "Spearman ↑"."""
    names = [column.name, column.group] if column.group in METRICS else [column.group, column.name]
    said = " ".join(filter(None, (*names, column.arrow)))
    return said.replace("AUSE, normalised", "normalised AUSE")


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _pictures(summary: Summary, scores: pd.DataFrame) -> dict[int, str]:
    """{index: data URI} of the worst and best cases that have pictures."""
    folder = summary.path.parent / PICTURES
    if not folder.is_dir():
        return {}
    found = dict[int, str]()
    for index in _by_interest(scores):
        file = folder / f"{index:06d}.png"
        if file.is_file() and len(found) < MOST_PICTURES:
            try:
                found[index] = _embed(file)
            except ImageError:
                continue  # One damaged picture must not stop the report.
    return found


def _by_interest(scores: pd.DataFrame) -> list[int]:
    """Indices: the worst and best of each measure in turn, then the second worst and best, …."""
    orders = list[list[int]]()
    for path in ("ause.abs_rel", "errors.abs_rel", "aurg.abs_rel"):
        rising = scores[path].dropna().sort_values(kind="stable").index.tolist()
        orders += [rising, rising[::-1]]
    turns = itertools.zip_longest(*orders)
    return list(dict.fromkeys(index for turn in turns for index in turn if index is not None))


def _embed(file: Path) -> str:
    picture = Image.fromarray(read_image(file))
    picture.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
    kind = "webp" if features.check("webp") else "jpeg"
    stream = io.BytesIO()
    picture.save(stream, format=kind, quality=82)
    return _data_uri(stream.getvalue(), kind)


def _as_svg(figure: Figure) -> str:
    """Transparent, and with text as curves: fits light and dark pages at any size."""
    stream = io.BytesIO()
    save_figure(figure, stream, "svg", transparent=True)
    return _data_uri(stream.getvalue(), "svg+xml")


def _data_uri(content: bytes, kind: str) -> str:
    """A picture's content as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
