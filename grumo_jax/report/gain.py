"""Gains over the papers' recipe, with confidence intervals."""

import dataclasses
from collections.abc import Callable, Sequence

from grumo_jax.errors import ResultsError
from grumo_jax.report.compare import check_metric, compare
from grumo_jax.report.summary import Summary
from grumo_jax.report.table import Cell, Column, Table, Value
from grumo_jax.report.tables import COLUMNS, is_baseline, labels, order

REFERENCE = "grad"
"""The papers' recipe."""
GAINS = ("ause.abs_rel", "aurg.abs_rel", "ause.rmse", "aurg.rmse", "ause.a1", "aurg.a1")
_FEWEST_GROUPS, _FEWEST_IMAGES = 8, 10


def gain_table(
    summaries: Sequence[Summary],
    reference: str = REFERENCE,
    metrics: Sequence[str] = GAINS,
    *,
    samples: int = 4000,
) -> Table | None:
    """Compare every estimator with a reference, image by image, with 95 % intervals.

    Frames of one drive look alike: where ids name drives or folders, the bootstrap resamples these,
    unless there are fewer than 8, which the notes say. Fewer than 10 images give a mean without
    interval. Bold is what is better by its whole interval, but never a baseline.

    Args:
        summaries: of results.
        reference: the estimator that the others are compared with.
        metrics: of `PER_IMAGE`.
        samples: number of bootstrap samples.

    Returns:
        The table; None if nothing can be compared.

    Raises:
        ResultsError: if there is no such metric.

    Example:
        >>> from grumo_jax.report import summarize
        >>> table = gain_table([summarize("results.jsonl")], "row")
        >>> [row[1] for row in table.rows]
        ['post']
    """
    for metric in metrics:
        check_metric(metric)
    rows, sections, notes = list[list[Cell | Value]](), dict[int, str](), list[str]()
    for label, summary in zip(labels(summaries), summaries, strict=True):
        others = [name for name in order(summary.estimators) if name != reference]
        if reference not in summary.estimators or not others or not summary.images:
            continue
        groups = {scene(name) for name in summary.images.values()}
        group = scene if _FEWEST_GROUPS <= len(groups) < len(summary.images) else None
        sections |= {len(rows): ""} if rows else {}
        baselines = sum(map(is_baseline, others))
        if baselines:
            sections[len(rows) + len(others) - baselines] = "baselines"
        for name in others:
            found = _differences(summary, name, reference, metrics, group, samples)
            rows.append([label, name, *found])
        notes.append(f"{label}: {_describe_draws(len(summary.images), len(groups), samples)}.")
    if not rows:
        return None
    columns = [Column("base model"), Column("estimator")]
    columns += [column for metric in metrics for column in _columns(metric)]
    title = f"Difference to {reference}: mean over images and its 95 % interval"
    if any(isinstance(cell, Cell) and cell.bold for row in rows for cell in row):
        notes.append(
            "Bold: better than the reference, and so is the whole interval; baselines are never "
            "bold."
        )
    return Table(title, columns, rows, notes, sections, "gain")


def _describe_draws(images: int, groups: int, samples: int) -> str:
    """A note: how the intervals were computed, and how far to trust them."""
    if images < _FEWEST_IMAGES:
        return f"means of {images} {'image' if images == 1 else 'images'}, too few for intervals"
    drawn = f"intervals from {samples} bootstrap samples of"
    if _FEWEST_GROUPS <= groups < images:
        return f"{drawn} {groups} drives or folders"
    if groups == images:
        return f"{drawn} single images"
    few = "one drive or folder" if groups == 1 else f"{groups} drives or folders"
    return (
        f"{drawn} single images, all of {few}; frames of one drive look alike, so the intervals "
        "are too narrow"
    )


def scene(name: str) -> str:
    """The drive or folder that an image's id names, else the id.

    >>> scene("2011_09_26/2011_09_26_drive_0009_sync 69 l"), scene("office/0001"), scene("7")
    ('2011_09_26/2011_09_26_drive_0009_sync', 'office', '7')
    """
    head, space, _ = name.partition(" ")
    return head if space else name.rpartition("/")[0] or name


def _columns(metric: str) -> list[Column]:
    """One column for people, three for machines."""
    bounds = [Column(f"{metric}.{what}", reader="machines") for what in ("mean", "low", "high")]
    return [dataclasses.replace(COLUMNS[metric], reader="people"), *bounds]


def _differences(
    summary: Summary,
    name: str,
    reference: str,
    metrics: Sequence[str],
    group: Callable[[str], str] | None,
    samples: int,
) -> list[Cell | Value]:
    cells = list[Cell | Value]()
    for metric in metrics:
        try:
            found = compare(summary, name, reference, metric, group=group, samples=samples)
        except ResultsError:  # no image has both values
            cells += ["–", None, None, None]
            continue
        if found.images < _FEWEST_IMAGES:
            cells += [_signed(found.mean), found.mean, None, None]
            continue
        better = found.high < 0 if COLUMNS[metric].better == "lower" else found.low > 0
        text = f"{_signed(found.mean)} [{_signed(found.low)}, {_signed(found.high)}]"
        bold = better and not is_baseline(name)
        cells += [Cell(text, bold=bold), found.mean, found.low, found.high]
    return cells


def _signed(value: float) -> str:
    """Three decimals and a sign; no sign if it rounds to 0.

    >>> _signed(-0.0123), _signed(-0.0001), _signed(0.5)
    ('−0.012', '0.000', '+0.500')
    """
    rounded = round(value, 3)
    return f"{rounded:+.3f}".replace("-", "−") if rounded else "0.000"
