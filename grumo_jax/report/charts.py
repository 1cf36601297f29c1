"""The figures of a report, drawn once for its page and its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from grumo_jax.plots import as_written
from grumo_jax.report.curves import (
    plot_all_bands,
    plot_all_sparsification_errors,
    plot_sparsification_grid,
)
from grumo_jax.report.summary import Summary


@dataclass(frozen=True)
class Charts:
    """The figures of a report.

    Attributes:
        curves: `plot_all_sparsification_errors` of all base models.
        grids: `plot_sparsification_grid` of each base model.
        bands: `plot_all_bands` of each, None for those without bands.
    """

    curves: Figure
    grids: tuple[Figure, ...]
    bands: tuple[Figure | None, ...]


def draw_charts(summaries: Sequence[Summary]) -> Charts:
    """Draw every figure of a report."""
    return Charts(
        _laid_out(plot_all_sparsification_errors(summaries)),
        tuple(_laid_out(plot_sparsification_grid(summary)) for summary in summaries),
        tuple(
            _laid_out(plot_all_bands(summary)) if summary.has_bands else None
            for summary in summaries
        ),
    )


def save_figure(figure: Figure, stream: IO[bytes], kind: str, **options: Any) -> None:
    """Save a figure reproducibly, byte for byte: without dates and random ids.

    Args:
        figure: the figure.
        stream: open binary file.
        kind: "png", "pdf" or "svg".
        options: of `Figure.savefig`.
    """
    dates: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with rc_context({"svg.hashsalt": "grumo_jax"}):
        figure.savefig(stream, format=kind, metadata=dates.get(kind), **options)


def _laid_out(figure: Figure) -> Figure:
    """Fix the layout once, or each of the three formats computes it again."""
    as_written(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    return figure
