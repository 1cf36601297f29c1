"""Means over the images of a results file, read one row at a time."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grumo_jax.errors import ResultsError
from grumo_jax.evaluation.results import Results, Row, read_results
from grumo_jax.metrics import METRICS
from grumo_jax.report.reading import Mean, count_of, read_rows

ERRORS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
DETECTION = ("auroc", "aupr", "fpr95", "wrong")
SCALARS = (
    *(f"errors.{name}" for name in ERRORS),
    *(f"{area}.{name}" for name in METRICS for area in ("ause", "aurg")),
    *(f"normalized_ause.{name}" for name in METRICS),
    "spearman",
    *(f"detection.{name}" for name in DETECTION),
)
"""Paths, in a row, of the numbers that are kept for each image and averaged."""
PART_PATHS = tuple(f"{kind}.{name}" for kind in ("errors", "ause", "aurg") for name in METRICS)
"""Paths, in the bands and regions of a row, of the numbers that are averaged."""
FEWEST = 100
"""Fewest pixels of a region with which an image counts: of a few pixels, AUSE is always 0."""
PER_IMAGE = (
    *(f"errors.{name}" for name in METRICS),
    *(f"{area}.{name}" for name in METRICS for area in ("ause", "aurg")),
    *(f"normalized_ause.{name}" for name in METRICS),
    "spearman",
    "detection.auroc",
)
"""Paths of the numbers that can be compared image by image."""


@dataclass(frozen=True)
class PartSummary:
    """Means of one estimator in a band of depth or a region.

    Attributes:
        images: number of images that have enough pixels in it.
        means: {path of `PART_PATHS`: mean over those images}; NaN where it is undefined on all.

    Example:
        >>> PartSummary(images=12, means={"ause.abs_rel": 0.04}).images
        12
    """

    images: int
    means: dict[str, float]


@dataclass(frozen=True)
class EstimatorSummary:
    """One estimator: the numbers of each image, and means over images.

    Attributes:
        name: the estimator.
        scores: a row for each image with valid pixels, by its index; columns "pixels" and
            `SCALARS`, float64, NaN where undefined.
        curves, oracle: {metric: (T + 1,)}, mean sparsification curves.
        bands: of each of `Summary.bands`, means over images with pixels in it; empty without.
        regions: {region: means over images with `FEWEST` pixels in it}.
        no_depth, no_uncertainty: pixels of all images whose prediction is no positive finite
            number, and whose uncertainty is NaN; see `grumo_jax.depth_errors`.

    Example:
        >>> row = summarize("results.jsonl").estimators["row"]
        >>> row.images, sorted(row.curves)
        (3, ['a1', 'abs_rel', 'rmse'])
    """

    name: str
    scores: pd.DataFrame
    curves: dict[str, np.ndarray]
    oracle: dict[str, np.ndarray]
    bands: tuple[PartSummary, ...]
    regions: dict[str, PartSummary]
    no_depth: int
    no_uncertainty: int

    @property
    def images(self) -> int:
        """Number of images with valid pixels."""
        return len(self.scores)

    @cached_property
    def means(self) -> dict[str, float]:
        """{path of `SCALARS`: mean over images}; NaN where it is undefined on all."""
        return self.scores[[*SCALARS]].mean().to_dict()

    @cached_property
    def counts(self) -> dict[str, int]:
        """{path: number of images in the mean}."""
        return self.scores[[*SCALARS]].count().to_dict()


@dataclass(frozen=True)
class Summary:
    """The summary of a results file.

    Attributes:
        path: the file.
        configuration: of the file.
        rows: number of images done, damaged ones included.
        estimators: {name: means}, in the order of the configuration.
        images: {index: id} of images with valid pixels.
        problems: (id, sentence) of images that could not be read or evaluated.
        empty: ids of images without valid pixels, which are left out.

    Example:
        >>> summary = summarize("results.jsonl")
        >>> summary.rows, summary.expected, list(summary.estimators)
        (3, 3, ['post', 'row'])
    """

    path: Path
    configuration: dict[str, Any]
    rows: int
    estimators: dict[str, EstimatorSummary]
    images: dict[int, str]
    problems: tuple[tuple[str, str], ...]
    empty: tuple[str, ...]

    @property
    def base_model(self) -> str:
        """The base model's label, else the checkpoint's name, else the file's name."""
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
    def bands(self) -> dict[str, str]:
        """{key: heading} of the bands of depth, such as {"0-10": "0–10 m"}; empty without bands."""
        edges = (self.configuration.get("protocol") or {}).get("bands") or ()
        return {f"{a:g}-{b:g}": f"{a:g}–{b:g} m" for a, b in itertools.pairwise(edges)}

    @property
    def has_bands(self) -> bool:
        """Whether any estimator has numbers within bands of depth."""
        return any(estimator.bands for estimator in self.estimators.values())

    @property
    def coverage(self) -> str:
        """One sentence: how many images count, and why the others do not."""
        counts = len(self.images), self.rows, self.expected
        said = say_coverage(*counts, len(self.problems), len(self.empty), len(self.missing))
        return "; ".join([said, *self._not_numbers()])

    def _not_numbers(self) -> Iterator[str]:
        """Sentences about predicted pixels without a valid depth or uncertainty."""
        for field_name, consequence in NOT_NUMBERS.items():
            found = {e.name: getattr(e, field_name) for e in self.estimators.values()}
            worst, pixels = max(found.items(), key=lambda item: item[1], default=("", 0))
            if pixels:
                yield f"{pixels} pixels of {worst} {consequence}"


NOT_NUMBERS = {
    "no_depth": "without a positive finite depth count as wrong",
    "no_uncertainty": "whose uncertainty is NaN count as the least certain",
}
"""{the count of invalid predicted pixels, as rows name it: how these pixels are treated}."""


def say_coverage(
    images: int, rows: int, expected: int, problems: int, empty: int, missing: int
) -> str:
    """One sentence: how many images count, and why the others do not."""
    said = [f"means over {images} of {expected} images"]
    if rows < expected:
        said = [f"UNFINISHED: {rows} of {expected} images so far; {said[0]}"]
    said += [f"{problems} damaged or failed"] * bool(problems)
    said += [f"{empty} without valid pixels"] * bool(empty)
    said += [f"{missing} of the data set missing on disk"] * bool(missing)
    return "; ".join(said)


def summarize(results: Results | str | Path) -> Summary:
    """Average a results file, finished or not.

    Rows are read one at a time. Only the numbers of `SCALARS`, and of `PART_PATHS` in bands and
    regions, are kept for each image.

    Args:
        results: an open results file, or its path.

    Returns:
        Means in which every image with valid pixels counts the same.

    Raises:
        ResultsError: if the file does not exist or is of another kind, or a row is damaged.

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
    tally = _Tally({name: _Estimator() for name in results.configuration["estimators"]})
    rows = sum(1 for _ in read_rows(results, tally.add))
    return Summary(
        results.path,
        results.configuration,
        rows,
        {name: found.result(name) for name, found in tally.estimators.items()},
        tally.images,
        tuple(tally.problems),
        tuple(tally.empty),
    )


@dataclass
class _Tally:
    """The rows read so far."""

    estimators: dict[str, "_Estimator"]
    images: dict[int, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a row; raises an error if it does not belong to these results."""
        if "problem" in row:
            self.problems.append((row["id"], row["problem"]))
            return
        if row["estimators"].keys() != self.estimators.keys():
            raise KeyError("other estimators than the configuration's")
        counted = {n: found for n, found in row["estimators"].items() if count_of(found["pixels"])}
        for name, found in counted.items():
            self.estimators[name].add(row["index"], found)
        if counted:
            self.images[row["index"]] = row["id"]
        else:
            self.empty.append(row["id"])


@dataclass
class _Estimator:
    """One estimator so far: numbers of every image, running means of curves."""

    scores: dict[int, list[float]] = field(default_factory=dict)
    curves: dict[str, Mean] = field(default_factory=lambda: defaultdict(Mean))
    oracle: dict[str, Mean] = field(default_factory=lambda: defaultdict(Mean))
    bands: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    regions: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    not_numbers: Counter[str] = field(default_factory=Counter)

    def add(self, index: int, found: dict[str, Any]) -> None:
        self.not_numbers.update({kind: count_of(found.get(kind, 0)) for kind in NOT_NUMBERS})
        self.scores[index] = [found["pixels"], *(_look_up(found, path) for path in SCALARS)]
        for kind, means in (("curves", self.curves), ("oracle", self.oracle)):
            for metric, curve in (found[kind] or {}).items():
                if curve is not None:
                    means[metric].add(curve)
        if found.get("bands"):
            for place, numbers in enumerate(_numbers_within(found["bands"], dimensions=2).T):
                self.bands[place].append(numbers)
        for name, region in (found.get("regions") or {}).items():
            self.regions[name].append(_numbers_within(region, dimensions=1))

    def result(self, name: str) -> EstimatorSummary:
        return EstimatorSummary(
            name,
            pd.DataFrame.from_dict(
                self.scores, orient="index", dtype=float, columns=["pixels", *SCALARS]
            ),
            {metric: mean.result() for metric, mean in self.curves.items()},
            {metric: mean.result() for metric, mean in self.oracle.items()},
            tuple(_means_within(images, 1) for images in self.bands.values()),
            {name: _means_within(images, FEWEST) for name, images in self.regions.items()},
            **{kind: self.not_numbers[kind] for kind in NOT_NUMBERS},
        )


def _numbers_within(part: dict[str, Any], dimensions: int) -> np.ndarray:
    """Pixels, then `PART_PATHS`: (1 + paths, bands) of bands, (1 + paths,) of a region."""
    numbers = [part[kind][metric] for kind, metric in (path.split(".") for path in PART_PATHS)]
    found = np.array([part["pixels"], *numbers], np.float64)  # null becomes NaN
    if found.ndim != dimensions:
        raise ValueError("bands have lists, regions single numbers")
    return found


def _means_within(images: Sequence[np.ndarray], fewest: int) -> PartSummary:
    """Means over the images with at least `fewest` pixels in a band or region."""
    numbers = pd.DataFrame(images, columns=["pixels", *PART_PATHS])
    counted = numbers[numbers["pixels"] >= fewest]
    return PartSummary(len(counted), counted[[*PART_PATHS]].mean().to_dict())


def _look_up(found: Any, path: str) -> float:
    """The number at a dotted path; NaN if it, or a parent of it, is null.

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
