"""What a results file says on the whole: means over its images, read one row at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from grumo_jax.errors import ResultsError
from grumo_jax.evaluation.results import Results, Row, read_results
from grumo_jax.metrics import METRICS
from grumo_jax.report.reading import count_of, read_rows

ERRORS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
DETECTION = ("auroc", "aupr", "fpr95", "wrong")
SCALARS = (
    *(f"errors.{name}" for name in ERRORS),
    *(f"{area}.{name}" for name in METRICS for area in ("ause", "aurg")),
    *(f"normalized_ause.{name}" for name in METRICS),
    "spearman",
    *(f"detection.{name}" for name in DETECTION),
)
"""Paths, in a row of results, of the numbers that are averaged."""
IN_PARTS = tuple(f"{kind}.{name}" for kind in ("errors", "ause", "aurg") for name in METRICS)
"""Paths, in the bands and regions of a row, of the numbers that are averaged in each of them."""
FEWEST = 100
"""Pixels of a region that an image must have to count: of a few pixels, AUSE is always 0."""
PER_IMAGE = (
    *(f"errors.{name}" for name in METRICS),
    *(f"{area}.{name}" for name in METRICS for area in ("ause", "aurg")),
    *(f"normalized_ause.{name}" for name in METRICS),
    "spearman",
    "detection.auroc",
)
"""Paths of the numbers that are kept for each image."""


@dataclass(frozen=True)
class EstimatorSummary:
    """Means over images of one estimator.

    Attributes:
        name: the estimator.
        images: number of images with valid pixels.
        means: {path, see `SCALARS`: mean}; NaN where no image defines it.
        counts: {path: number of images that the mean rests on}.
        curves, oracle: {metric: (T + 1,)}, mean sparsification curves.
        bands: {path, see `IN_PARTS`: (bands,)}, means over images with pixels in that band; NaN
            where there are none. Empty without bands.
        band_images: (bands,), the number of those images.
        regions: {region: {path, see `IN_PARTS`: mean over images with `FEWEST` pixels in it}}.
        region_images: {region: number of those images}.
        no_depth, no_uncertainty: pixels of all images whose prediction is no positive finite
            number, and whose uncertainty is NaN; see `grumo_jax.depth_errors`.

    Example:
        >>> row = summarize("results.jsonl").estimators["row"]
        >>> row.images, sorted(row.curves)
        (3, ['a1', 'abs_rel', 'rmse'])
    """

    name: str
    images: int
    means: dict[str, float]
    counts: dict[str, int]
    curves: dict[str, np.ndarray]
    oracle: dict[str, np.ndarray]
    bands: dict[str, np.ndarray]
    band_images: np.ndarray
    regions: dict[str, dict[str, float]] = field(default_factory=dict)
    region_images: dict[str, int] = field(default_factory=dict)
    no_depth: int = 0
    no_uncertainty: int = 0


@dataclass(frozen=True)
class ImageScores:
    """The few numbers of one image that are kept.

    Attributes:
        index, id: the image.
        pixels: valid pixels, of the first estimator.
        scores: {estimator: numbers in the order of `PER_IMAGE`}; NaN where undefined.

    Example:
        >>> image = summarize("results.jsonl").images[0]
        >>> image.id, sorted(image.scores)
        ('a', ['post', 'row'])
    """

    index: int
    id: str
    pixels: int
    scores: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Summary:
    """A results file on the whole.

    Attributes:
        path: the file.
        configuration: of the file.
        rows: number of images done, damaged ones included.
        estimators: {name: means}, in the order of the configuration.
        images: images with valid pixels.
        problems: (id, sentence) of images that could not be read or evaluated.
        empty: ids of images without valid pixels, which do not count.

    Example:
        >>> summary = summarize("results.jsonl")
        >>> summary.rows, summary.expected, list(summary.estimators)
        (3, 3, ['post', 'row'])
    """

    path: Path
    configuration: dict[str, Any]
    rows: int
    estimators: dict[str, EstimatorSummary]
    images: tuple[ImageScores, ...]
    problems: tuple[tuple[str, str], ...]
    empty: tuple[str, ...]

    @property
    def base_model(self) -> str:
        """The base model's label, else the checkpoint's name, else the file's."""
        names = (self.configuration.get(key) for key in ("base_model", "checkpoint"))
        return str(next(filter(None, names), self.path.stem))

    @property
    def expected(self) -> int:
        """Number of images of the data set that are on disk."""
        return int(self.configuration.get("images", self.rows))

    @property
    def finished(self) -> bool:
        """Whether there is a row for every image."""
        return self.rows >= self.expected

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids that the data set lists and that are not on disk."""
        return tuple(map(str, self.configuration.get("missing") or ()))

    @property
    def edges(self) -> tuple[float, ...]:
        """Depths that bound the bands; empty without bands."""
        return tuple((self.configuration.get("protocol") or {}).get("bands") or ())

    @property
    def coverage(self) -> str:
        """One sentence: how many images the numbers rest on, and what became of the others."""
        counts = len(self.images), self.rows, self.expected
        said = say_coverage(*counts, len(self.problems), len(self.empty), len(self.missing))
        return "; ".join([said, *self._not_numbers()])

    def _not_numbers(self) -> Iterator[str]:
        """What to say of predicted pixels that are no numbers to compare with the truth."""
        for field_name, consequence in NOT_NUMBERS.items():
            found = {e.name: getattr(e, field_name) for e in self.estimators.values()}
            worst, pixels = max(found.items(), key=lambda item: item[1], default=("", 0))
            if pixels:
                yield f"{pixels} pixels of {worst} {consequence}"


NOT_NUMBERS = {
    "no_depth": "without a positive finite depth count as wrong",
    "no_uncertainty": "whose uncertainty is NaN count as the least certain",
}
"""What becomes of predicted pixels that are no numbers, by the name under which rows count them."""


def say_coverage(
    images: int, rows: int, expected: int, problems: int, empty: int, missing: int
) -> str:
    """One sentence: how many images the numbers rest on, and what became of the others."""
    said = [f"means over {images} of {expected} images"]
    if rows < expected:
        said = [f"UNFINISHED: {rows} of {expected} images so far; {said[0]}"]
    said += [f"{problems} damaged or failed"] * bool(problems)
    said += [f"{empty} without valid pixels"] * bool(empty)
    said += [f"{missing} of the data set missing on disk"] * bool(missing)
    return "; ".join(said)


def summarize(results: Results | str | Path) -> Summary:
    """Average what a results file holds, finished or not.

    Rows are read one at a time. Of each image only the numbers of `PER_IMAGE` are kept.

    Args:
        results: an open results file, or its path.

    Returns:
        Means in which every image with valid pixels counts the same.

    Raises:
        ResultsError: if there is no such file, it is of another kind, or a row is damaged.

    Example:
        >>> summary = summarize("results.jsonl")
        >>> sorted(summary.estimators["row"].means)[:2]
        ['aurg.a1', 'aurg.abs_rel']
    """
    if not isinstance(results, Results):
        results = read_results(results)
    if not isinstance(results.configuration.get("estimators"), dict):
        raise ResultsError(
            f"{results.path}: an ablation, not an evaluation; `grumo ablate` writes its tables"
        )
    tally = _Tally({str(name): _Means(str(name)) for name in results.configuration["estimators"]})
    rows = sum(1 for _ in read_rows(results, tally.add))
    return Summary(
        results.path,
        results.configuration,
        rows,
        {name: mean.result() for name, mean in tally.means.items()},
        tuple(tally.images),
        tuple(tally.problems),
        tuple(tally.empty),
    )


@dataclass
class _Tally:
    """What has been read so far."""

    means: dict[str, "_Means"]
    images: list[ImageScores] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row; an error says that it is none of these results."""
        if "problem" in row:
            self.problems.append((row["id"], row["problem"]))
            return
        estimators = row["estimators"]
        if estimators.keys() != self.means.keys():
            raise KeyError("other estimators than the configuration's")
        scores = {name: found for name, found in estimators.items() if count_of(found["pixels"])}
        for name, found in scores.items():
            self.means[name].add(found)
        if scores:
            self.images.append(_image_scores(row, scores))
        else:
            self.empty.append(row["id"])


def _look_up(found: Any, path: str) -> float:
    """The number at a dotted path; NaN where it, or what it is part of, is null.

    >>> _look_up({"ause": {"rmse": 0.5}, "detection": None}, "ause.rmse")
    0.5
    >>> _look_up({"ause": {"rmse": 0.5}, "detection": None}, "detection.aupr")
    nan
    """
    for key in path.split("."):
        if found is None:
            break
        found = found[key]
    return math.nan if found is None else float(found)


def _image_scores(row: Row, scores: dict[str, Any]) -> ImageScores:
    pixels = next(iter(scores.values()))["pixels"]
    kept = {name: tuple(_look_up(found, p) for p in PER_IMAGE) for name, found in scores.items()}
    return ImageScores(row["index"], row["id"], pixels, kept)


@dataclass
class _Mean:
    """A running mean over whatever is finite, element by element."""

    total: Any = 0.0
    count: Any = 0

    def add(self, values: Any, where: Any = True) -> None:
        values = np.asarray(values, np.float64)
        counts = np.isfinite(values) & where
        self.total = self.total + np.where(counts, values, 0.0)
        self.count = self.count + counts

    def result(self) -> np.ndarray:
        return np.where(self.count, self.total / np.maximum(self.count, 1), np.nan)


@dataclass
class _PartMeans:
    """Running means of one estimator within bands of depth, or within a region."""

    fewest: int = 1
    images: Any = 0
    means: dict[str, _Mean] = field(default_factory=dict)

    def add(self, part: dict[str, Any]) -> None:
        filled = np.asarray(part["pixels"], np.float64) >= self.fewest
        self.images = self.images + filled
        for path in IN_PARTS:
            kind, metric = path.split(".")
            values = (part.get(kind) or {}).get(metric)
            if values is not None:
                # As floats, null is NaN: it does not count.
                self.means.setdefault(path, _Mean()).add(np.array(values, np.float64), filled)

    def results(self) -> dict[str, np.ndarray]:
        return {path: mean.result() for path, mean in self.means.items()}


@dataclass
class _Means:
    """Running means of one estimator."""

    name: str
    images: int = 0
    scalars: _Mean = field(default_factory=_Mean)
    curves: dict[str, _Mean] = field(default_factory=dict)
    oracle: dict[str, _Mean] = field(default_factory=dict)
    bands: _PartMeans = field(default_factory=_PartMeans)
    regions: dict[str, _PartMeans] = field(default_factory=dict)
    no_depth: int = 0
    no_uncertainty: int = 0

    def add(self, found: dict[str, Any]) -> None:
        self.images += 1
        self.no_depth += count_of(found.get("no_depth", 0))
        self.no_uncertainty += count_of(found.get("no_uncertainty", 0))
        self.scalars.add([_look_up(found, path) for path in SCALARS])
        for mean, curves in ((self.curves, found["curves"]), (self.oracle, found["oracle"])):
            for metric, curve in (curves or {}).items():
                if curve is not None:
                    mean.setdefault(metric, _Mean()).add(curve)
        if found.get("bands"):
            self.bands.add(found["bands"])
        for name, part in (found.get("regions") or {}).items():
            self.regions.setdefault(name, _PartMeans(FEWEST)).add(part)

    def result(self) -> EstimatorSummary:
        means = np.broadcast_to(self.scalars.result(), len(SCALARS)).tolist()
        counts = np.broadcast_to(self.scalars.count, len(SCALARS)).tolist()
        return EstimatorSummary(
            self.name,
            self.images,
            dict(zip(SCALARS, means, strict=True)),
            dict(zip(SCALARS, map(int, counts), strict=True)),
            {metric: mean.result() for metric, mean in self.curves.items()},
            {metric: mean.result() for metric, mean in self.oracle.items()},
            self.bands.results(),
            np.asarray(self.bands.images, np.int64),
            {
                name: {path: float(mean) for path, mean in part.results().items()}
                for name, part in self.regions.items()
            },
            {name: int(part.images) for name, part in self.regions.items()},
            self.no_depth,
            self.no_uncertainty,
        )
