"""Ablation of the loss: Grad with squared differences, variance, and the weight of log σ.

Command: python experiments/ablate_losses.py --data-dir KITTI --checkpoints checkpoints/M
         python experiments/ablate_losses.py --generated
Data:    eigen_benchmark, or NYU val with --protocol nyu; checkpoints Post, Log, Self, as far as
         they are there.
Time:    one shared CPU core, 2 s for each image and base model; --generated 2 minutes. GPU: not
         measured yet.
Table:   the papers' ablation of the auxiliary loss: squared differences to the flip reference,
         variance over all image references. For networks that predict log σ all have the term of
         σ² with the papers' weight 2, or 0 where it says so, and that term stands alone. Beyond
         the papers: differences of log depth and of disparity instead of depth.
"""

from typing import Any

from common import Estimators, Experiment, run

from grumo_jax import GradientUncertainty
from grumo_jax.networks.network import as_network

LOSSES: dict[str, dict[str, Any]] = {
    "squared, depth": {},
    "squared, log depth": {"space": "log_depth"},
    "squared, disparity": {"space": "disparity"},
}


def settings(name: str, model: Any) -> Estimators:
    """One estimator for each loss and weight; without log σ there is no weight to choose."""
    if as_network(model).log_sigma is None:
        return with_weight(model, 0.0, "")
    return {
        **with_weight(model, 2.0, ""),
        **with_weight(model, 0.0, ", w = 0"),
        "σ² alone": GradientUncertainty.uncertainty_only(model),
    }


def with_weight(model: Any, weight: float, suffix: str) -> Estimators:
    """One estimator for each loss."""
    squared = {
        f"{loss}{suffix}": GradientUncertainty(model, uncertainty_weight=weight, **options)
        for loss, options in LOSSES.items()
    }
    variance = GradientUncertainty.variance(model, uncertainty_weight=weight)
    return {**squared, f"variance{suffix}": variance}


EXPERIMENT = Experiment(__doc__ or "", settings, reference="squared, depth")

if __name__ == "__main__":
    run(EXPERIMENT)
