"""Estimators by the names that tables and the command line use."""

from collections.abc import Callable
from functools import partial
from typing import Any

from grumo_jax.errors import GrumoError
from grumo_jax.estimators.base import Estimator
from grumo_jax.estimators.baselines import ConstantBaseline, DepthBaseline, RowBaseline
from grumo_jax.estimators.dropout import DropoutEnsemble, InferenceDropout
from grumo_jax.estimators.gradient import GradientUncertainty
from grumo_jax.estimators.learned import LearnedUncertainty
from grumo_jax.estimators.postprocessing import PostProcessing
from grumo_jax.estimators.variance import TestTimeVariance
from grumo_jax.networks.network import Model, as_network


def _drop(model: Model) -> DropoutEnsemble:
    if not as_network(model).dropout_rate:
        raise GrumoError(
            "the network was trained without dropout; choose in-drop, or a network trained with it"
        )
    return DropoutEnsemble(model)


NAMED: dict[str, Callable[[Any], Estimator]] = {
    "grad": GradientUncertainty.paper,
    "grad-averaged": GradientUncertainty.averaged,
    "grad-variance": GradientUncertainty.variance,
    "grad-uncertainty": GradientUncertainty.uncertainty_only,
    "post": PostProcessing,
    "var": TestTimeVariance,
    "in-drop": InferenceDropout,
    "drop": _drop,
    "learned": LearnedUncertainty,
    "post-depth": partial(PostProcessing, difference="depth"),
    "depth": DepthBaseline,
    "row": RowBaseline,
    "constant": ConstantBaseline,
}
"""{name: function of a model that returns the estimator}; ensembles need several models."""

BASELINES = ("post-depth", "depth", "row", "constant")
"""Names of the baselines, which the others must beat."""


def named_estimator(name: str, model: Model) -> Estimator:
    """Make an estimator by its name.

    Raises:
        GrumoError: if the name is unknown, or the model does not support the estimator.

    Example:
        >>> import grumo_jax
        >>> named_estimator("in-drop", grumo_jax.Monodepth2()).samples
        8
    """
    if name not in NAMED:
        raise GrumoError(f"there is no estimator {name!r}; choose one of {', '.join(NAMED)}")
    return NAMED[name](model)
