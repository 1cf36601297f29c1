"""Main KITTI table, networks trained on stereo pairs (S): depth, AUSE and AURG.

Command: python experiments/kitti_stereo.py --data-dir KITTI --checkpoints checkpoints/S
         python experiments/kitti_stereo.py --generated
Data:    as kitti_mono.py, with the checkpoints of S. Depth is multiplied by 5.4 instead of being
         scaled by the median (not with --generated, whose network predicts metres).
Time:    as kitti_mono.py.
Table:   the KITTI table of both papers for S, with the same base models and methods.
"""

from common import Experiment, run

EXPERIMENT = Experiment(__doc__ or "", "kitti-stereo")

if __name__ == "__main__":
    run(EXPERIMENT)
