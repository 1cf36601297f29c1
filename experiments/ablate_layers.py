"""Ablation of the layer: Grad at each of the decoder's eleven convolutions.

Command: python experiments/ablate_layers.py --data-dir KITTI --checkpoints checkpoints/M
         python experiments/ablate_layers.py --generated
Data:    eigen_benchmark, or NYU val with --protocol nyu; checkpoints Post, Log, Self, as far as
         they are there.
Time:    one shared CPU core, 1 s for each image and base model; --generated 2 minutes. GPU: not
         measured yet.
Figure:  the papers' ablation of where the gradient is taken; settings.png shows it. Layers are
         numbered as theirs, 0 the coarsest, 6 their choice, 10 the disparity head.
"""

from typing import Any

from common import Estimators, Experiment, decoder, run

from grumo_jax import GradientUncertainty


def settings(name: str, model: Any) -> Estimators:
    """One estimator for each layer."""
    return {
        f"layer {number}": GradientUncertainty.paper(model, layers=layer)
        for number, layer in enumerate(decoder(model))
    }


EXPERIMENT = Experiment(__doc__ or "", settings, reference="layer 6")

if __name__ == "__main__":
    run(EXPERIMENT)
