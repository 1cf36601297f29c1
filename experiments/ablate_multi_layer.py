"""Ablation of several layers: Grad at sets of layers, combined by standard deviation, max, mean.

Command: python experiments/ablate_multi_layer.py --data-dir KITTI --checkpoints checkpoints/M
         python experiments/ablate_multi_layer.py --generated
Data:    eigen_benchmark, or NYU val with --protocol nyu; checkpoints Post, Log, Self, as far as
         they are there.
Time:    one shared CPU core, about 2 s for each image and base model; --generated 2 minutes. GPU:
         not measured yet.
Table:   the multi-layer variant of the second paper. Its official program takes the standard
         deviation over layers, its text is said to take the maximum; which layers it takes is not
         known, so several sets stand here, beside the single layer 6.
"""

from typing import Any, get_args

from common import Estimators, Experiment, decoder, run

from grumo_jax import GradientUncertainty
from grumo_jax.scores import Combination

SETS = {"4, 6, 8": (4, 6, 8), "5 to 7": (5, 6, 7), "3 to 9": range(3, 10), "all": range(11)}


def settings(name: str, model: Any) -> Estimators:
    """The single layer, and one estimator for each set and way to combine."""
    layers = decoder(model)
    several = {
        f"{which}, {combine}": GradientUncertainty.paper(
            model, layers=[layers[i] for i in numbers], combine=combine
        )
        for which, numbers in SETS.items()
        for combine in get_args(Combination)
    }
    return {"layer 6": GradientUncertainty.paper(model), **several}


EXPERIMENT = Experiment(__doc__ or "", settings, reference="layer 6")

if __name__ == "__main__":
    run(EXPERIMENT)
