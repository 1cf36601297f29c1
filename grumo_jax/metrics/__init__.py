"""Metrics of depth, and of uncertainty against error: pure functions of masked maps."""

from grumo_jax.metrics.bands import errors_by_depth as errors_by_depth
from grumo_jax.metrics.bands import in_bands as in_bands
from grumo_jax.metrics.depth import DepthErrors as DepthErrors
from grumo_jax.metrics.depth import depth_errors as depth_errors
from grumo_jax.metrics.ranking import Detection as Detection
from grumo_jax.metrics.ranking import error_detection as error_detection
from grumo_jax.metrics.ranking import spearman as spearman
from grumo_jax.metrics.sparsification import METRICS as METRICS
from grumo_jax.metrics.sparsification import Sparsification as Sparsification
from grumo_jax.metrics.sparsification import sparsification as sparsification
