"""Data sets: sources of samples, loading, and preparation."""

from grumo_jax.data.depth_files import read_depth as read_depth
from grumo_jax.data.depth_files import write_depth_png as write_depth_png
from grumo_jax.data.folder import ImageFolder as ImageFolder
from grumo_jax.data.kitti import KittiRaw as KittiRaw
from grumo_jax.data.kitti import velodyne_depth as velodyne_depth
from grumo_jax.data.loading import Loaded as Loaded
from grumo_jax.data.loading import Problem as Problem
from grumo_jax.data.loading import load as load
from grumo_jax.data.nyu import NyuFastDepth as NyuFastDepth
from grumo_jax.data.nyu import center_crop as center_crop
from grumo_jax.data.nyu import half_size as half_size
from grumo_jax.data.opening import open_source as open_source
from grumo_jax.data.part import Part as Part
from grumo_jax.data.part import at_most as at_most
from grumo_jax.data.prepared import PreparedSource as PreparedSource
from grumo_jax.data.prepared import open_prepared as open_prepared
from grumo_jax.data.prepared import prepare as prepare
from grumo_jax.data.sample import Sample as Sample
from grumo_jax.data.sample import Source as Source
