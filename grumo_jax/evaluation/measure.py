"""From an estimate and ground truth to every number of one row, on the device."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from grumo_jax.errors import GrumoError
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.evaluation.targets import Targets, read_at
from grumo_jax.metrics import (
    DepthErrors,
    Detection,
    Sparsification,
    depth_errors,
    error_detection,
    in_bands,
    sparsification,
    spearman,
)
from grumo_jax.metrics.masked import clip, is_depth, median_ratio, or_no_depth
from grumo_jax.networks.network import DepthNetwork

KITTI_FOCAL = 0.58
"""Focal length of KITTI's cameras in image widths, by which the 16-bit files are scaled."""

MEASURE_DEFINITION = 1
"""Recorded with results. Raise it when other values are compared than before: how maps are sampled
at the ground truth, scaled and clipped, or which pixels belong to bands and regions."""


Within = tuple[DepthErrors, Sparsification]


@struct.dataclass
class Measures:
    """All numbers of a batch for one estimator.

    Attributes:
        scale: (B,), the factor that depth was multiplied by.
        finite: (B,) bool; False where no point has a depth, or none has an uncertainty: there is
            nothing to measure. Single invalid points are left to the metrics.
        errors, sparsification, detection: as the metrics return them.
        spearman: (B,), rank correlation of uncertainty and relative error.
        bands: (errors, sparsification) within bands of depth, the first axis; None without bands.
        regions: {name: (errors, sparsification) of its pixels alone}.
    """

    scale: jax.Array
    finite: jax.Array
    errors: DepthErrors
    sparsification: Sparsification
    spearman: jax.Array
    detection: Detection
    bands: Within | None
    regions: dict[str, Within]


def measure(
    network: DepthNetwork,
    depth: jax.Array,
    uncertainty: jax.Array,
    targets: Targets,
    protocol: Protocol,
) -> Measures:
    """Compare depth and uncertainty with ground truth.

    Args:
        network: says whether depth is resized as disparity.
        depth: (B, h, w) in the network's units.
        uncertainty: (B, h, w).
        targets: ground truth of the same images.
        protocol: with its crop resolved (`Protocol.for_source`).

    Raises:
        GrumoError: if the protocol rounds disparities and the network predicts depth.
    """
    as_disparity = predicts_disparity(network, protocol)
    return _measure(depth, uncertainty, targets, protocol, as_disparity)


def measure_uncertainty(
    network: DepthNetwork,
    depth: jax.Array,
    targets: Targets,
    protocol: Protocol,
    uncertainty: jax.Array,
) -> tuple[Sparsification, jax.Array]:
    """Sparsification alone, to compare many uncertainties of one prediction.

    Args:
        network, depth, targets, protocol, uncertainty: see `measure`.

    Returns:
        The sparsification, and `Measures.finite`.

    Raises:
        GrumoError: as `measure`.
    """
    as_disparity = predicts_disparity(network, protocol)
    return _sparsify(depth, uncertainty, targets, protocol, as_disparity)


def predicts_disparity(network: DepthNetwork, protocol: Protocol) -> bool:
    """Whether depth is resized as disparity.

    Raises:
        GrumoError: if the protocol rounds disparities and the network predicts depth.
    """
    as_disparity = network.predicts == "disparity"
    if protocol.through_png16 and not as_disparity:
        raise GrumoError("the network predicts depth; 16-bit files are written of disparity")
    return as_disparity


@partial(jax.jit, static_argnames=("protocol", "as_disparity"))
def _measure(
    depth: jax.Array,
    uncertainty: jax.Array,
    targets: Targets,
    protocol: Protocol,
    as_disparity: bool,
) -> Measures:
    compared = _compare(depth, uncertainty, targets, protocol, as_disparity)
    truth, predicted, uncertain, where = compared.points
    sparsify = partial(sparsification, truth, predicted, uncertain)
    relative_error = jnp.abs(truth - or_no_depth(predicted)) / jnp.where(where, truth, 1.0)

    def within(where: jax.Array) -> Within:
        return depth_errors(truth, predicted, where), sparsify(where)

    bands = in_bands(within, truth, where, edges=protocol.bands) if protocol.bands else None
    regions = {name: within(where & mask[:, None]) for name, mask in targets.regions.items()}
    return Measures(
        compared.scale,
        compared.finite,
        depth_errors(truth, predicted, where),
        sparsify(where),
        spearman(relative_error, uncertain, where),
        error_detection(truth, predicted, uncertain, where),
        bands,
        regions,
    )


@partial(jax.jit, static_argnames=("protocol", "as_disparity"))
def _sparsify(
    depth: jax.Array,
    uncertainty: jax.Array,
    targets: Targets,
    protocol: Protocol,
    as_disparity: bool,
) -> tuple[Sparsification, jax.Array]:
    compared = _compare(depth, uncertainty, targets, protocol, as_disparity)
    return sparsification(*compared.points), compared.finite


class _Compared(NamedTuple):
    """Truth, prediction in metres, uncertainty and mask, all (B, 1, N); see `Measures`."""

    points: tuple[jax.Array, ...]
    scale: jax.Array
    finite: jax.Array


def _compare(
    depth: jax.Array,
    uncertainty: jax.Array,
    targets: Targets,
    protocol: Protocol,
    as_disparity: bool,
) -> _Compared:
    """Sample maps at the points of the ground truth."""
    # NaN where there is no depth, which must not be interpolated, inverted or clipped.
    depth = jnp.where(is_depth(depth), depth, jnp.nan)
    scale = _scale(depth, targets, protocol)
    if protocol.through_png16:
        depth, uncertainty = _through_png16(depth, uncertainty, scale, targets, protocol)
    quantity = read_at(1 / depth if as_disparity else depth, targets)
    uncertain = read_at(uncertainty, targets)
    metres = (1 / quantity if as_disparity else quantity) * scale[:, None]
    predicted = clip(metres, protocol.min_depth, protocol.max_depth)
    known = targets.depth > 0
    points = (targets.depth, predicted, uncertain, targets.counts & known)
    finite = _any_of(~jnp.isnan(metres), known) & _any_of(jnp.isfinite(uncertain), known)
    # Metrics take maps; these have one row.
    return _Compared(tuple(p[:, None] for p in points), scale, finite)


def _any_of(flags: jax.Array, known: jax.Array) -> jax.Array:
    """Whether any of the known points (B, N) is flagged, or none is known: (B,)."""
    return jnp.any(flags & known, axis=1) | ~jnp.any(known, axis=1)


def _scale(depth: jax.Array, targets: Targets, protocol: Protocol) -> jax.Array:
    """The factor (B,) that depth is multiplied by."""
    if protocol.scale != "median":
        return jnp.full(depth.shape[:1], protocol.scale, jnp.float32)
    known, predicted = targets.depth > 0, read_at(depth, targets)
    if protocol.median_of == "evaluated":
        known &= targets.counts
    return median_ratio(targets.depth, predicted, known)


def _through_png16(
    depth: jax.Array,
    uncertainty: jax.Array,
    scale: jax.Array,
    targets: Targets,
    protocol: Protocol,
) -> tuple[jax.Array, jax.Array]:
    """Round as 16-bit files do, of disparity · focal · 256 / 10 and uncertainty · 65535."""
    unit = (KITTI_FOCAL * targets.width * 256 / 10)[:, None, None]
    # With median scaling the files hold scaled disparity; unscaled here, to be scaled once.
    by_median = scale if protocol.scale == "median" else jnp.ones_like(scale)
    disparity = jnp.floor(unit / (depth * by_median[:, None, None])) / unit
    return 1 / (disparity * by_median[:, None, None]), jnp.floor(uncertainty * 65535) / 65535
