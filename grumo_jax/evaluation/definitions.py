"""The definitions of estimators and metrics, which results files record."""

from collections.abc import Mapping
from typing import Any

from grumo_jax.estimators import Estimator
from grumo_jax.evaluation.measure import MEASURE_DEFINITION
from grumo_jax.metrics.depth import ERRORS_DEFINITION
from grumo_jax.metrics.ranking import DETECTION_DEFINITION, SPEARMAN_DEFINITION
from grumo_jax.metrics.sparsification import SPARSIFICATION_DEFINITION

METRIC_DEFINITIONS: dict[str, int] = {
    "measure": MEASURE_DEFINITION,
    "depth_errors": ERRORS_DEFINITION,
    "sparsification": SPARSIFICATION_DEFINITION,
    "spearman": SPEARMAN_DEFINITION,
    "error_detection": DETECTION_DEFINITION,
}
"""{metric: number of its definition}; each is set beside its metric."""


def definitions(estimators: Mapping[str, Estimator | type[Estimator]]) -> dict[str, Any]:
    """The definition numbers of estimators, by name, and of all metrics.

    Results files and training runs record them: numbers of different definitions are not mixed.

    Example:
        >>> import grumo_jax
        >>> definitions({"post": grumo_jax.PostProcessing})["estimators"]
        {'post': 1}
    """
    return {
        "estimators": {name: estimator.definition for name, estimator in estimators.items()},
        "metrics": METRIC_DEFINITIONS,
    }
