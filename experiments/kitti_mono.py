"""Main KITTI table, networks trained on monocular video (M): depth, AUSE and AURG.

Command: python experiments/kitti_mono.py --data-dir KITTI --checkpoints checkpoints/M --official
         python experiments/kitti_mono.py --generated
Data:    the 652 frames of eigen_benchmark; checkpoints Post, Log, Self, Drop, Boot_0 … Boot_7, as
         far as they are there. --split velodyne --limit 16 for the few drives that one has.
Time:    one shared CPU core, per image of 192×640: 3 s for each of Post, Log and Self, 2 s for
         Drop and Boot; --generated 2 minutes. GPU: not measured yet.
Table:   the KITTI table of both papers for M. Each of the base models Post, Log and Self with its
         own uncertainty (flip difference, predicted σ) and those made post hoc (Var, In-Drop,
         Grad), next to dropout (Drop) and an ensemble (Boot). grad-averaged is this library's, not
         the papers'.

The published numbers, put beside ours by --official, are those of Post alone.
"""

from common import Experiment, run

PUBLISHED = {
    "errors.abs_rel": 0.088,
    "errors.sq_rel": 0.508,
    "errors.rmse": 3.842,
    "errors.rmse_log": 0.134,
    "errors.a1": 0.917,
    "errors.a2": 0.983,
    "errors.a3": 0.995,
    "ause.abs_rel": 0.044,
    "aurg.abs_rel": 0.012,
    "ause.rmse": 2.864,
    "aurg.rmse": 0.412,
    "ause.a1": 0.056,
    "aurg.a1": 0.022,
}
EXPERIMENT = Experiment(__doc__ or "", "kitti-mono", {("Post", "post"): PUBLISHED})

if __name__ == "__main__":
    run(EXPERIMENT)
