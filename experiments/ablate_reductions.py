"""Ablation of the reduction over channels: Grad with max, sum, mean and norm.

Command: python experiments/ablate_reductions.py --data-dir KITTI --checkpoints checkpoints/M
         python experiments/ablate_reductions.py --generated
Data:    eigen_benchmark, or NYU val with --protocol nyu; checkpoints Post, Log, Self, as far as
         they are there.
Time:    one shared CPU core, 0.7 s for each image and base model; --generated 2 minutes. GPU: not
         measured yet.
Table:   the papers' ablation of how a gradient of many channels becomes one map. max, sum and mean
         are of signed gradients, norm is L2. Sum and mean are the same but for rounding, since each
         map is normalised.
"""

from typing import Any, get_args

from common import Estimators, Experiment, run

from grumo_jax import GradientUncertainty
from grumo_jax.scores import Reduction


def settings(name: str, model: Any) -> Estimators:
    """One estimator for each reduction."""
    return {
        reduction: GradientUncertainty.paper(model, reduction=reduction)
        for reduction in get_args(Reduction)
    }


EXPERIMENT = Experiment(__doc__ or "", settings, reference="max")

if __name__ == "__main__":
    run(EXPERIMENT)
