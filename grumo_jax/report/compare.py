"""Compare two estimators: is the difference larger than the spread over images?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grumo_jax.errors import ResultsError
from grumo_jax.report.summary import PER_IMAGE, Summary

_CHUNK = 2**20


@dataclass(frozen=True)
class Difference:
    """Paired difference of a metric between two estimators.

    Attributes:
        mean: mean over images of first − second.
        low, high: bounds of its 95 % bootstrap interval.
        images: number of images that have both.
        lower: share of images where the first has the lower number.

    Example:
        >>> Difference(-0.01, -0.02, -0.005, images=40, lower=0.8).high < 0
        True
    """

    mean: float
    low: float
    high: float
    images: int
    lower: float


def compare(
    summary: Summary,
    first: str,
    second: str,
    metric: str = "ause.abs_rel",
    *,
    other: Summary | None = None,
    group: Callable[[str], str] | None = None,
    samples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Compare two estimators by a paired bootstrap over images.

    Args:
        summary: of the results.
        first, second: names of estimators.
        metric: one of `PER_IMAGE`, such as "ause.abs_rel" or "aurg.rmse".
        other: results of the second estimator, if not the same; images are paired by id.
        group: id → name of a group, such as a frame's drive; groups are resampled instead of
            images. Frames of one drive look alike: taken as independent they make the interval too
            narrow.
        samples: number of bootstrap samples.
        seed: of the resampling.

    Raises:
        ResultsError: if there is no such estimator or metric, or no image has both.

    Example:
        >>> from grumo_jax.report import summarize
        >>> difference = compare(summarize("results.jsonl"), "post", "row")
        >>> difference.images, difference.low <= difference.mean <= difference.high
        (3, True)
    """
    ids, differences = _paired(summary, other or summary, first, second, metric)
    names = [group(i) for i in ids] if group else ids
    means = _bootstrap(differences, names, samples, np.random.default_rng(seed))
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(
        float(np.mean(differences)),
        float(low),
        float(high),
        len(differences),
        float(np.mean(differences < 0)),
    )


def _paired(
    summary: Summary, other: Summary, first: str, second: str, metric: str
) -> tuple[list[str], np.ndarray]:
    a, b = _by_id(summary, first, metric), _by_id(other, second, metric)
    ids = [i for i in a if i in b]
    if not ids:
        raise ResultsError(f"{summary.path}: no image has {metric} of both {first} and {second}")
    return ids, np.array([a[i] - b[i] for i in ids])


def check_metric(metric: str) -> None:
    """Refuse metrics that are not kept for single images.

    Raises:
        ResultsError: if the metric is not one of `PER_IMAGE`.
    """
    if metric not in PER_IMAGE:
        raise ResultsError(
            f"there is no {metric!r} of images; choose one of {', '.join(PER_IMAGE)}"
        )


def _by_id(summary: Summary, estimator: str, metric: str) -> dict[str, float]:
    check_metric(metric)
    if estimator not in summary.estimators:
        raise ResultsError(
            f"{summary.path}: has no estimator {estimator!r}, but "
            f"{', '.join(summary.estimators) or 'none'}"
        )
    scores = summary.estimators[estimator].scores[metric].dropna()
    return {summary.images[index]: value for index, value in scores.items()}


def _bootstrap(
    values: np.ndarray, names: list[str], samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means of `samples` bootstrap resamples of the groups."""
    _, groups = np.unique(np.asarray(names), return_inverse=True)
    sums, sizes = np.bincount(groups, values), np.bincount(groups)
    # In chunks: a matrix of all draws would be large for many images.
    chunk, means = max(_CHUNK // len(sums), 1), []
    for start in range(0, samples, chunk):
        drawn = rng.integers(len(sums), size=(min(chunk, samples - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
