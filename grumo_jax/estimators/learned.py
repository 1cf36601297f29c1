"""Log, Self and Repr: the uncertainty that the network was trained to predict."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from grumo_jax._internal.checks import check_choice
from grumo_jax.activations import apply_model
from grumo_jax.errors import GrumoError
from grumo_jax.estimators.base import Estimate, Estimator, Inputs, normalized_estimate


@dataclass(frozen=True)
class LearnedUncertainty(Estimator):
    """Plain depth; the second head's output as uncertainty.

    Attributes:
        model: see `Estimator`; it must predict s (`Monodepth2(predict_uncertainty=True)`).
        head: "log_sigma" (Log and Self: the uncertainty is σ = exp(s)) or "error" (Repr: it is
            s itself, trained to regress the photometric error).

    Example:
        >>> import grumo_jax
        >>> grumo_jax.LearnedUncertainty(grumo_jax.Monodepth2(predict_uncertainty=True)).head
        'log_sigma'

    Reference: Poggi et al., CVPR 2020, sections 3.1 and 3.3.
    """

    head: Literal["log_sigma", "error"] = "log_sigma"

    def __post_init__(self) -> None:
        check_choice("head", self.head, ("log_sigma", "error"))
        if self.network.log_sigma is None:
            raise GrumoError(
                "the network predicts no uncertainty; use Monodepth2(predict_uncertainty=True), "
                "or wrap(…, log_sigma=…)"
            )

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        network = self.network
        output = apply_model(network, inputs.variables, inputs.images)
        s = network.read_log_sigma(output)
        assert s is not None
        raw = jnp.exp(s) if self.head == "log_sigma" else s
        return normalized_estimate(network.read_depth(output), raw)
