"""An ablation's tables: means over images for every setting of a grid."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grumo_jax.errors import ResultsError
from grumo_jax.evaluation.results import Results, Row, read_results
from grumo_jax.metrics import METRICS
from grumo_jax.report.reading import Mean, count_of, read_rows
from grumo_jax.report.summary import NOT_NUMBERS, say_coverage
from grumo_jax.report.table import Cell, Column, Table, Value

AREAS = ("ause", "aurg")
BEST = 10
"""Number of rows in the table of the best settings."""


@dataclass(frozen=True)
class AblationSummary:
    """Means over images for every setting.

    Attributes:
        path: the results file.
        configuration: everything the numbers depend on.
        signals, sites, reductions: names along the axes.
        means: {metric, such as "ause.abs_rel": (signals, sites, reductions)}; NaN where no image
            has a finite value.
        counts: (signals, sites, reductions), number of images in each mean.
        images: number of images with valid pixels.
        empty: number of images without.
        problems: (id, sentence) of images that were left out.
        coverage: one sentence: how many images count, and why the others do not.

    Example:
        >>> summary = summarize_ablation("ablation.jsonl")
        >>> summary.signals, summary.means["ause.abs_rel"].shape
        (('flip',), (1, 1, 4))
    """

    path: Path
    configuration: dict[str, Any]
    signals: tuple[str, ...]
    sites: tuple[str, ...]
    reductions: tuple[str, ...]
    means: dict[str, np.ndarray]
    counts: np.ndarray
    images: int
    empty: int
    problems: tuple[tuple[str, str], ...]
    coverage: str

    @property
    def title(self) -> str:
        """Base model and data set."""
        names = (self.configuration.get("base_model"), self.configuration.get("dataset"))
        return ", ".join(str(name) for name in names if name)

    def comparable(self, name: str) -> np.ndarray:
        """The means of a metric; NaN for settings that are finite on fewer images than others."""
        return np.where(self.counts == self.counts.max(), self.means[name], np.nan)


def summarize_ablation(results: Results | str | Path) -> AblationSummary:
    """Average an ablation's results file, finished or not.

    Raises:
        ResultsError: if the file does not exist or is no ablation's, or a row is damaged.

    Example:
        >>> summarize_ablation("ablation.jsonl").images
        3
    """
    if not isinstance(results, Results):
        results = read_results(results)
    configuration = results.configuration
    signals, sites, reductions = (_axis(results, a) for a in ("signals", "sites", "reductions"))
    shape = len(signals), len(sites), len(reductions)
    means = {f"{area}.{metric}": Mean(np.zeros(shape)) for area in AREAS for metric in METRICS}
    settings, count = np.zeros(shape, np.int64), Counter[str]()
    problems: list[tuple[str, str]] = []

    def add(row: Row) -> None:
        if "problem" in row:
            problems.append((str(row["id"]), str(row["problem"])))
            return
        count.update({kind: count_of(row[kind]) for kind in NOT_NUMBERS})
        found = {name: _numbers(row, name).reshape(shape) for name in means}
        if not count_of(row["pixels"]):
            count["empty"] += 1
            return
        count["images"] += 1
        finite = np.all([np.isfinite(numbers) for numbers in found.values()], axis=0)
        settings[finite] += 1
        for name, mean in means.items():
            mean.add(found[name], finite)

    count["rows"] = sum(1 for _ in read_rows(results, add))
    return AblationSummary(
        results.path,
        configuration,
        signals,
        sites,
        reductions,
        {name: mean.result() for name, mean in means.items()},
        settings,
        count["images"],
        count["empty"],
        tuple(problems),
        _say_coverage(configuration, count, len(problems)),
    )


def _numbers(row: Row, name: str) -> np.ndarray:
    area, metric = name.split(".")
    return np.array(row[area][metric], np.float64)


def _say_coverage(configuration: dict[str, Any], count: Counter[str], problems: int) -> str:
    said = say_coverage(
        count["images"],
        count["rows"],
        configuration["images"],
        problems,
        count["empty"],
        len(configuration.get("missing") or ()),
    )
    odd = ((count[kind], consequence) for kind, consequence in NOT_NUMBERS.items())
    return "; ".join([said, *(f"up to {n} pixels {consequence}" for n, consequence in odd if n)])


def _axis(results: Results, axis: str) -> tuple[str, ...]:
    names = results.configuration.get(axis)
    if not isinstance(names, dict | list) or not names:
        raise ResultsError(
            f"{results.path}: an evaluation, not an ablation; `grumo report` makes its tables"
        )
    return tuple(names)


def best_table(summary: AblationSummary, number: int = BEST) -> Table:
    """The settings of the lowest AUSE of abs_rel, best first."""
    order = _order(summary)[:number]
    title = f"Best {len(order)} of {summary.counts.size} settings: {summary.title}"
    return _settings_table(summary, order, title, "best")


def settings_table(summary: AblationSummary) -> Table:
    """All settings, best first."""
    title = f"All settings: {summary.title}"
    return _settings_table(summary, _order(summary), title, "settings")


def _order(summary: AblationSummary) -> np.ndarray:
    """Flat indices of the settings, lowest AUSE of abs_rel first, those not comparable last."""
    return np.argsort(summary.comparable("ause.abs_rel"), axis=None, kind="stable")


def _settings_table(
    summary: AblationSummary, order: Sequence[int] | np.ndarray, title: str, name: str
) -> Table:
    columns = [Column("signal"), Column("layer"), Column("reduction")]
    columns += [Column(m, "lower", 4, f"ause.{m}", "AUSE") for m in METRICS]
    columns += [Column(m, "higher", 4, f"aurg.{m}", "AURG") for m in METRICS]
    all_alike = (summary.counts == summary.counts.max()).all()
    columns.append(Column("images", digits=0, reader="machines" if all_alike else "anyone"))
    rows: list[list[Value]] = []
    for index in order:
        i, j, k = np.unravel_index(index, summary.counts.shape)
        numbers = [float(values[i, j, k]) for values in summary.means.values()]
        setting = [summary.signals[i], summary.sites[j], summary.reductions[k]]
        rows.append([*setting, *_shown(numbers), int(summary.counts[i, j, k])])
    return Table(title, columns, rows, _notes(summary), name=name)


def layer_tables(summary: AblationSummary) -> list[Table]:
    """AUSE of abs_rel by layer: against signals at the first reduction, against reductions at the
    first signal.
    """
    values = summary.comparable("ause.abs_rel")
    reduction, signal = summary.reductions[0], summary.signals[0]
    return [
        _layer_table(summary, f"reduction {reduction}", summary.signals, values[:, :, 0].T),
        _layer_table(summary, f"signal {signal}", summary.reductions, values[0]),
    ]


def _layer_table(
    summary: AblationSummary, fixed: str, names: Sequence[str], values: np.ndarray
) -> Table:
    columns = [Column("layer"), *(Column(name, "lower", 4) for name in names)]
    best = np.nanmin(values, axis=0, initial=np.inf)
    rows: list[list[Cell | Value]] = [
        [site, *(Cell(v, bold=v == b) for v, b in zip(_shown(row), best, strict=True))]
        for site, row in zip(summary.sites, values.tolist(), strict=True)
    ]
    kind = "signals" if fixed.startswith("reduction") else "reductions"
    title = f"AUSE of abs_rel by layer, {fixed}: {summary.title}"
    return Table(title, columns, rows, _notes(summary), name=f"layers_{kind}")


def _shown(numbers: Sequence[float]) -> list[Value]:
    return [number if np.isfinite(number) else None for number in numbers]


def _notes(summary: AblationSummary) -> list[str]:
    notes = [f"{summary.coverage[0].upper()}{summary.coverage[1:]}."]
    if (summary.counts < summary.images).any():
        notes.append(
            "Images on which a setting's map is not finite are left out of its means; where these "
            "are fewer than others' it is not ranked, and has no cell in tables by layer."
        )
    return notes
