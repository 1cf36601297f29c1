"""KITTI: raw files, calibration, laser scans, splits."""

from grumo_jax.data.kitti.calibration import Calibration as Calibration
from grumo_jax.data.kitti.calibration import read_calibration as read_calibration
from grumo_jax.data.kitti.layout import KittiLayout as KittiLayout
from grumo_jax.data.kitti.raw import KittiRaw as KittiRaw
from grumo_jax.data.kitti.splits import SPLITS as SPLITS
from grumo_jax.data.kitti.splits import KittiFrame as KittiFrame
from grumo_jax.data.kitti.splits import eigen_test as eigen_test
from grumo_jax.data.kitti.splits import read_split_file as read_split_file
from grumo_jax.data.kitti.velodyne import read_scan as read_scan
from grumo_jax.data.kitti.velodyne import velodyne_depth as velodyne_depth
