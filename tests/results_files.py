"""Hand-made results files for the tests of reports."""

from grumo_jax.evaluation.results import ResultsWriter

METRICS = ("abs_rel", "rmse", "a1")
PROTOCOL = {"name": "outdoor", "max_depth": 80.0, "bands": [0, 10, 80]}


def found(ause=0.25, *, pixels=100, detection=0.75, bands=(60, 40), **changes):
    """What a row says of an estimator; `ause` of all metrics, AURG 1 − ause."""
    areas = {name: [ause, 2 * ause] for name in METRICS}
    return {
        "scale": 1.0,
        "pixels": pixels,
        "errors": dict.fromkeys(("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3"), 0.5),
        "ause": dict.fromkeys(METRICS, ause),
        "aurg": dict.fromkeys(METRICS, 1 - ause),
        "normalized_ause": dict.fromkeys(METRICS, 2 * ause),
        "spearman": 0.5,
        "detection": detection and {"auroc": detection, "aupr": 0.5, "fpr95": 0.25, "wrong": 0.125},
        "curves": {name: [1.0, ause + 0.5, 0.0] for name in METRICS},
        "oracle": {name: [1.0, 0.5, 0.0] for name in METRICS},
        "bands": bands and {"pixels": bands, "errors": areas, "ause": areas, "aurg": areas},
        **changes,
    }


def write(path, images, *, expected=None, **configuration):
    """A results file: {id: {estimator: found(...)} or a problem's sentence}."""
    names = [name for row in images.values() if isinstance(row, dict) for name in row]
    header = {
        "checkpoint": "net (sha256 0123)",
        "base_model": "Mono",
        "dataset": "street",
        "fingerprint": "f",
        "images": len(images) if expected is None else expected,
        "missing": [],
        "protocol": PROTOCOL,
        "estimators": dict.fromkeys(names, "?"),
        **configuration,
    }
    with ResultsWriter(path, header) as writer:
        for index, (name, row) in enumerate(images.items()):
            kind = "estimators" if isinstance(row, dict) else "problem"
            writer.append([{"index": index, "id": name, kind: row}])
    return path
