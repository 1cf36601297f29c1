"""Main KITTI table, networks trained on video and stereo pairs (MS): depth, AUSE and AURG.

Command: python experiments/kitti_mono_stereo.py --data-dir KITTI --checkpoints checkpoints/MS
         python experiments/kitti_mono_stereo.py --generated
Data:    as kitti_mono.py, with the checkpoints of MS. Depth is multiplied by 5.4 instead of being
         scaled by the median (not with --generated, whose network predicts metres).
Time:    as kitti_mono.py.
Table:   the same for MS, which the papers do not show and their users asked for.
"""

from common import Experiment, run

EXPERIMENT = Experiment(__doc__ or "", "kitti-stereo")

if __name__ == "__main__":
    run(EXPERIMENT)
