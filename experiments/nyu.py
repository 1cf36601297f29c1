"""Main NYU Depth V2 table, supervised networks: depth, AUSE and AURG.

Command: python experiments/nyu.py --data-dir NYU --checkpoints checkpoints/NYU
         python experiments/nyu.py --generated
Data:    the 654 frames of val in FastDepth's packing; checkpoints as for kitti_mono.py, of
         networks that predict metres (`grumo convert --output depth`).
Time:    one shared CPU core, per image of 224×288: about 5 s for each of Post, Log and Self;
         --generated 2 minutes. GPU: not measured yet.
Table:   the NYU table of both papers: each base model with its own uncertainty and those made
         post hoc, next to dropout and an ensemble. grad-averaged is this library's.
"""

from common import Experiment, run

EXPERIMENT = Experiment(__doc__ or "", "nyu")

if __name__ == "__main__":
    run(EXPERIMENT)
