"""Measures as rows of a results file."""

import dataclasses
import json
from typing import Any

import numpy as np

from grumo_jax.evaluation.measure import Measures, Within
from grumo_jax.evaluation.results import Row
from grumo_jax.predictor import say_not_finite

IN_PARTS = ("abs_rel", "rmse", "a1")
"""Metrics that are given within bands of depth and within regions."""


def to_row(
    index: int, name: str, size: tuple[int, int], measures: dict[str, Measures], slot: int
) -> Row:
    """One image's row.

    Args:
        index, name: of the image.
        size: (height, width) of its ground truth.
        measures: by estimator, as NumPy arrays.
        slot: the image's index in the batch.
    """
    entries = {estimator: _entry(m, slot) for estimator, m in measures.items()}
    broken = [
        estimator
        for estimator, m in measures.items()
        if not (m.finite[slot] and _is_finite(entries[estimator]))
    ]
    if broken:
        return problem_row(index, name, say_not_finite(name, broken))
    return {"index": index, "id": name, "size": list(size), "estimators": entries}


def problem_row(index: int, name: str, sentence: str) -> Row:
    """The row of an image that could not be evaluated."""
    return {"index": index, "id": name, "problem": sentence}


def _is_finite(entry: dict[str, Any]) -> bool:
    try:
        json.dumps(entry, allow_nan=False)
    except ValueError:
        return False
    return True


def _entry(measures: Measures, slot: int) -> dict[str, Any]:
    errors = {
        field: plain(values[slot]) for field, values in dataclasses.asdict(measures.errors).items()
    }
    s, d = measures.sparsification, measures.detection
    detection = {f: plain(getattr(d, f)[slot]) for f in ("auroc", "aupr", "fpr95", "wrong")}
    entry = {
        "scale": plain(measures.scale[slot]),
        "pixels": int(errors.pop("pixels")),
        "no_depth": int(errors.pop("no_depth")),
        "no_uncertainty": int(s.no_uncertainty[slot]),
        "errors": errors,
        "ause": _at(s.ause, slot),
        "aurg": _at(s.aurg, slot),
        # Without any error there is nothing to divide by, and nothing to rank.
        "normalized_ause": {
            m: plain(v[slot]) if s.curves[m][slot, 0] > 0 else None
            for m, v in s.normalized_ause.items()
        },
        "spearman": plain(measures.spearman[slot]),
        "detection": detection if d.defined[slot] else None,
        "curves": _at(s.curves, slot),
        "oracle": _at(s.oracle, slot),
    }
    if measures.bands is not None:
        entry["bands"] = _part(measures.bands, slot)
    if measures.regions:
        entry["regions"] = {name: _part(part, slot) for name, part in measures.regions.items()}
    return entry


def _part(part: Within, slot: int) -> dict[str, Any]:
    """The numbers of a region, or of each band of depth."""
    errors, s = part
    return {
        "pixels": np.asarray(errors.pixels)[..., slot].tolist(),
        "errors": {m: plain(getattr(errors, m)[..., slot]) for m in IN_PARTS},
        "ause": {m: plain(values[..., slot]) for m, values in s.ause.items()},
        "aurg": {m: plain(values[..., slot]) for m, values in s.aurg.items()},
    }


def _at(values: dict[str, Any], slot: int) -> dict[str, Any]:
    return {metric: plain(v[slot]) for metric, v in values.items()}


def plain(values: Any) -> Any:
    """Float32 as Python floats, with the fewest digits that round-trip."""
    array = np.asarray(values, np.float32)
    return float(str(array)) if array.ndim == 0 else [float(str(v)) for v in array]
