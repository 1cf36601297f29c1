"""The figures of a report, which its page and its files share."""

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
    """Figures that can be saved in several formats.

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
    """Save a figure so that the same one is always the same bytes: without dates and random ids.

    Args:
        figure: what to save.
        stream: where to.
        kind: "png", "pdf" or "svg".
        options: of `Figure.savefig`.
    """
    dates: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with rc_context({"svg.hashsalt": "grumo_jax"}):
        figure.savefig(stream, format=kind, metadata=dates.get(kind), **options)


def _laid_out(figure: Figure) -> Figure:
    """Fix where everything is: otherwise each of three formats works it out anew."""
    as_written(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    return figure
