"""Tables of results, as in the papers: one row for each base model and estimator."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from grumo_jax.errors import ResultsError
from grumo_jax.estimators.named import BASELINES as BASELINES
from grumo_jax.metrics import METRICS
from grumo_jax.report.marking import Kind, mark_column, notes_on_marks
from grumo_jax.report.summary import ERRORS, Summary
from grumo_jax.report.table import Cell, Column, Table, Value

Published = Mapping[tuple[str, str], Mapping[str, float]]
"""{(base model, estimator): {path of `SCALARS`: value}}, from papers."""

Better = Literal["lower", "higher"]
_BETTER: dict[str, Better] = {"a1": "higher", "a2": "higher", "a3": "higher"}
_AREAS: tuple[tuple[str, Better], ...] = (("ause", "lower"), ("aurg", "higher"))
MAIN = (
    *(Column(e, _BETTER.get(e, "lower"), key=f"errors.{e}") for e in ERRORS),
    *(
        Column(area.upper(), better, key=f"{area}.{metric}", group=metric)
        for metric in METRICS
        for area, better in _AREAS
    ),
)
"""Columns of the main table; keys are paths of `SCALARS`."""
RANKING = (
    *(Column(m, "lower", key=f"normalized_ause.{m}", group="AUSE, normalised") for m in METRICS),
    Column("Spearman", "higher", key="spearman"),
    Column("AUROC", "higher", key="detection.auroc"),
    Column("AUPR", "higher", key="detection.aupr"),
    Column("FPR95", "lower", key="detection.fpr95"),
    Column("wrong", key="detection.wrong"),
)
"""Columns of the table on ranking."""
COLUMNS = {column.key: column for column in (*MAIN, *RANKING)}
"""{path: column}: name and better direction of each number."""

Item = TypeVar("Item")


def make_tables(summaries: Sequence[Summary], published: Published | None = None) -> list[Table]:
    """Make all tables: the main one, the one on ranking, two on bands of depth, two on regions.

    Args:
        summaries: of one data set and one protocol.
        published: numbers from papers, shown beside ours.

    Raises:
        ResultsError: if the data sets or protocols differ, or published numbers are of a base model
            that has no results.

    Example:
        >>> from grumo_jax.report import summarize
        >>> [len(table.rows) for table in make_tables([summarize("results.jsonl")])][0]
        2
    """
    tables = [main_table(summaries, published), ranking_table(summaries, published)]
    if any(summary.has_bands for summary in summaries):
        tables += [bands_table(summaries, metric) for metric in ("abs_rel", "rmse")]
    if any(e.regions for summary in summaries for e in summary.estimators.values()):
        tables += [regions_table(summaries, metric) for metric in ("abs_rel", "rmse")]
    return tables


def main_table(summaries: Sequence[Summary], published: Published | None = None) -> Table:
    """Depth errors, then AUSE and AURG, as in the papers; see `make_tables`."""
    return _table("Depth and uncertainty", "main", MAIN, summaries, published)


def ranking_table(summaries: Sequence[Summary], published: Published | None = None) -> Table:
    """Normalised AUSE, rank correlation and detection of wrong pixels; see `make_tables`."""
    counts = ", ".join(
        f"{label}: {max((e.counts['detection.auroc'] for e in s.estimators.values()), default=0)}"
        for label, s in zip(labels(summaries), summaries, strict=True)
    )
    notes = [
        "Wrong pixels have δ ≥ 1.25; their share, in the last column, is the AUPR of chance.",
        f"AUROC, AUPR and FPR95 are means over images with wrong and right pixels ({counts}).",
    ]
    return _table("Ranking of errors", "ranking", RANKING, summaries, published, notes)


def bands_table(summaries: Sequence[Summary], metric: str) -> Table:
    """AUSE and AURG of a metric within bands of true depth; see `make_tables`."""
    names = next((s.bands for s in summaries if s.bands), {})
    notes = ["A band's numbers are means over the images that have pixels in it."]
    for label, summary in zip(labels(summaries), summaries, strict=True):
        parts = next((e.bands for e in summary.estimators.values() if e.bands), ())
        said = [f"{p.images} in {band}" for p, band in zip(parts, names.values(), strict=False)]
        notes += [f"{label}: images {', '.join(said)}."] * bool(said)
    title = f"AUSE and AURG of {metric} within bands of depth"
    return _table(title, f"bands_{metric}", _areas_within(names, metric), summaries, None, notes)


def regions_table(summaries: Sequence[Summary], metric: str) -> Table:
    """AUSE and AURG of a metric within regions; see `make_tables`."""
    names = {name: name for s in summaries for e in s.estimators.values() for name in e.regions}
    notes = ["A region's numbers are of its pixels alone, and means over the images that have any."]
    for label, summary in zip(labels(summaries), summaries, strict=True):
        parts = next((e.regions for e in summary.estimators.values() if e.regions), {})
        said = [f"{part.images} with {region}" for region, part in parts.items()]
        notes += [f"{label}: images {', '.join(said)}."] * bool(said)
    title = f"AUSE and AURG of {metric} within regions"
    return _table(title, f"regions_{metric}", _areas_within(names, metric), summaries, None, notes)


def _areas_within(parts: Mapping[str, str], metric: str) -> list[Column]:
    """Columns of AUSE and AURG in each band or region: {key: heading}."""
    return [
        Column(area.upper(), better, key=f"{area}.{metric}@{key}", group=heading)
        for key, heading in parts.items()
        for area, better in _AREAS
    ]


def labels(summaries: Sequence[Summary]) -> list[str]:
    """Unique labels for files: the base model, and what tells apart files of the same one.

    That is the file's name, else that of the closest folder that differs, else a number.
    """
    names = [summary.base_model for summary in summaries]
    found = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        places = [i for i, other in enumerate(names) if other == name]
        hints = _tell_apart([summaries[i].path for i in places])
        for place, hint in zip(places, hints, strict=True):
            found[place] = f"{name} ({hint})"
    if len(set(found)) < len(found):  # a base model has the name of another's label
        return [f"{name} ({number})" for number, name in enumerate(found, 1)]
    return found


def _tell_apart(paths: Sequence[Path]) -> list[str]:
    """Different names for files.

    >>> _tell_apart([Path("/old/Self/results.jsonl"), Path("/new/Self/results.jsonl")])
    ['old', 'new']
    """
    absolute = [path.absolute() for path in paths]
    depth = min(len(path.parts) for path in absolute) - 1
    for level in range(depth):
        names = [path.stem if level == 0 else path.parts[-1 - level] for path in absolute]
        if len(set(names)) == len(names):
            return names
    return [str(number) for number in range(1, len(paths) + 1)]


def is_baseline(estimator: str) -> bool:
    """Whether an estimator is a baseline."""
    return estimator in BASELINES


def order(estimators: Mapping[str, Item]) -> dict[str, Item]:
    """Methods as given, then baselines in the order of `BASELINES`."""
    methods = [name for name in estimators if not is_baseline(name)]
    baselines = [name for name in BASELINES if name in estimators]
    return {name: estimators[name] for name in (*methods, *baselines)}


def _table(
    title: str,
    name: str,
    columns: Sequence[Column],
    summaries: Sequence[Summary],
    published: Published | None,
    notes: Sequence[str] = (),
) -> Table:
    _check_agreement(summaries)
    names = labels(summaries)
    unknown = {model for model, _ in published or {}} - set(names)
    if unknown:
        raise ResultsError(
            f"published numbers of {', '.join(sorted(unknown))}, but the results are of "
            f"{', '.join(names)}"
        )
    rows, sections = list[list[Cell | Value]](), dict[int, str]()
    for label, summary in zip(names, summaries, strict=True):
        group = _group_rows(label, summary, columns, published or {})
        kinds = [row[2] for row in group]
        if rows and group:
            sections[len(rows)] = ""
        if "baseline" in kinds:
            sections[len(rows) + kinds.index("baseline")] = "baselines"
        rows += group
    head = (Column("base model"), Column("estimator"), Column("kind", reader="machines"))
    return Table(
        f"{title} on {_evaluated(summaries[0])}",
        (*head, *columns),
        rows,
        [*_coverage(names, summaries), *notes_on_marks(rows), *notes],
        sections,
        name,
    )


def _group_rows(
    label: str, summary: Summary, columns: Sequence[Column], published: Published
) -> list[list[Cell | Value]]:
    """Rows of one base model, marked against one another."""
    keys = {column.key for column in columns}
    given = {
        name: dict(values)
        for (model, name), values in published.items()
        if model == label and keys & set(values)
    }
    lines = list[tuple[str, Kind, list[Value]]]()
    methods = {name: None for name in order(summary.estimators) if not is_baseline(name)}
    # Published methods without a row of ours come after ours, before the baselines.
    for name in order({**methods, **dict.fromkeys(given), **summary.estimators}):
        if name in summary.estimators:
            kind: Kind = "baseline" if is_baseline(name) else "method"
            lines.append((name, kind, [_value(summary, name, column.key) for column in columns]))
        if name in given:
            values: list[Value] = [given[name].get(column.key) for column in columns]
            lines.append((f"{name} (published)", "published", values))
    rows: list[list[Cell | Value]] = [[label, name, kind] for name, kind, _ in lines]
    kinds = [kind for _, kind, _ in lines]
    for index, column in enumerate(columns):
        against = not column.key.startswith("errors.")
        numbers = [values[index] for *_, values in lines]
        marked = mark_column(numbers, kinds, column, against_baselines=against)
        for row, cell in zip(rows, marked, strict=True):
            row.append(cell)
    return rows


def _value(summary: Summary, name: str, key: str) -> float:
    """A mean of an estimator: "ause.rmse", of a band "ause.rmse@10-20", of a region "…@shadow"."""
    path, _, part = key.partition("@")
    found = summary.estimators[name]
    if not part:
        return found.means[path]
    parts = {**dict(zip(summary.bands, found.bands, strict=False)), **found.regions}
    return parts[part].means[path] if part in parts else math.nan


def _check_agreement(summaries: Sequence[Summary]) -> None:
    """Refuse summaries whose numbers cannot be compared."""
    if not summaries:
        raise ResultsError("no results to report; name at least one results file")
    first = summaries[0]
    said = {
        "dataset": "are of different data sets ({} and {})",
        "fingerprint": "are of different images of one data set",
        "protocol": "follow different protocols ({} and {})",
    }
    for other in summaries[1:]:
        for key, sentence in said.items():
            a, b = first.configuration.get(key), other.configuration.get(key)
            if a != b:
                raise ResultsError(
                    f"{first.path} and {other.path} {sentence.format(_short(a), _short(b))}; "
                    "report them one at a time"
                )
        if names := _redefined(first, other):
            raise ResultsError(
                f"{first.path} and {other.path} hold numbers of different definitions of "
                f"{', '.join(names)}; evaluate the older ones anew"
            )


def _redefined(first: Summary, other: Summary) -> list[str]:
    """Estimators and metrics whose definitions differ between two files."""
    one, two = (summary.configuration.get("definitions") or {} for summary in (first, other))
    return [
        name
        for kind, numbers in one.items()
        for name, number in numbers.items()
        if two.get(kind, {}).get(name, number) != number
    ]


def _short(value: Any) -> str:
    return str(value.get("name", value) if isinstance(value, dict) else value)


def _evaluated(summary: Summary) -> str:
    protocol = summary.configuration.get("protocol") or {}
    dataset = summary.configuration.get("dataset", summary.path.stem)
    return f"{dataset}, protocol {_short(protocol) if protocol else 'unknown'}"


def _coverage(names: Sequence[str], summaries: Sequence[Summary]) -> list[str]:
    """Sentences: which images each base model's numbers are of."""
    return [
        f"{name}: {summary.configuration.get('checkpoint', 'unknown checkpoint')}; "
        f"{summary.coverage}."
        for name, summary in zip(names, summaries, strict=True)
    ]
