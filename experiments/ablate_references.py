"""Ablation of the reference: Grad with augmented images and with augmented features.

Command: python experiments/ablate_references.py --data-dir KITTI --checkpoints checkpoints/M
         python experiments/ablate_references.py --generated
Data:    eigen_benchmark, or NYU val with --protocol nyu; checkpoints Post, Log, Self, as far as
         they are there.
Time:    one shared CPU core, 2 s for each image and base model; --generated 2 minutes. GPU: not
         measured yet.
Table:   the papers' ablation of the augmentation that the reference depth is made with: flip, gray,
         noise, rotation; the average over these four; channel dropout and noise on features. The
         strengths of the latter are this library's, since the papers' are not known.

Left out: ground truth as the reference (the papers' oracle), which `evaluate` cannot give to
estimators. `GradientUncertainty(model, references=GroundTruth())` serves for single images.
"""

from typing import Any

from common import Estimators, Experiment, run

from grumo_jax import FeatureDropout, FeatureNoise, Flip, GradientUncertainty, Gray, Noise, Rotate

REFERENCES: dict[str, Any] = {
    "flip": Flip(),
    "gray": Gray(),
    "noise": Noise(),
    "rotate": Rotate(),
    "flip, gray, noise, rotate": (Flip(), Gray(), Noise(), Rotate()),
    "feature dropout": FeatureDropout(),
    "feature noise": FeatureNoise(),
}


def settings(name: str, model: Any) -> Estimators:
    """One estimator for each reference."""
    return {
        what: GradientUncertainty.paper(model, references=reference)
        for what, reference in REFERENCES.items()
    }


EXPERIMENT = Experiment(__doc__ or "", settings, reference="flip")

if __name__ == "__main__":
    run(EXPERIMENT)
