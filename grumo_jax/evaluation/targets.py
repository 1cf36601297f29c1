"""From samples to what the device needs: resized photos, and ground truth as lists of points.

Laser scans cover a few percent of the pixels. So ground truth is packed, and predictions are
sampled at its points alone: nothing is resized to full size, and pictures of different sizes share
a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from grumo_jax.data import Sample
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.images import resize_photo

SMALLEST_CAPACITY = 8192
"""Lists of points are padded to at least this; see `capacity_for`."""

EIGEN_ROWS = (0.40810811, 0.99189189)
EIGEN_COLUMNS = (0.03594771, 0.96405229)


@struct.dataclass
class Targets:
    """Ground truth of a batch at N points per image, padded with zeros.

    Attributes:
        depth: (B, N) float32 metres; 0 where padded.
        counts: (B, N) bool, points inside the crop and the range of depths.
        row, column: (B, N) int32, of the upper left of the four output pixels around a point.
        row_weight, column_weight: (B, N) float32 in [0, 1], of the lower and the right ones.
        width: (B,) float32, of the ground truth in pixels.
        regions: {name: (B, N) bool}, points that lie in a region; empty where none are known.
    """

    depth: jax.Array
    counts: jax.Array
    row: jax.Array
    column: jax.Array
    row_weight: jax.Array
    column_weight: jax.Array
    width: jax.Array
    regions: dict[str, jax.Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """One sample, ready to be batched.

    Attributes:
        image: float32 (h, w, 3) in [0, 1], at the network's size.
        size: (height, width) of the ground truth.
        rows, columns: (n,) int32, its points.
        depth: (n,) float32 metres.
        regions: {name: (n,) bool}, which of the points lie in a region of `Sample.regions`.
    """

    image: np.ndarray
    size: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    depth: np.ndarray
    regions: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepare:
    """Sample → `Prepared`; called in the loader's threads.

    Attributes:
        protocol: says what is evaluated.
        size: (height, width) of the network's input.
    """

    protocol: Protocol
    size: tuple[int, int]

    def __call__(self, sample: Sample) -> Prepared:
        """Resize the photo (Lanczos) and pack the ground truth."""
        sample = self.protocol.trim(sample)
        height, width = sample.image.shape[:2]
        depth = np.zeros((height, width), np.float32) if sample.depth is None else sample.depth
        rows, columns = np.nonzero(depth > 0)
        return Prepared(
            resize_photo(sample.image, self.size),
            (height, width),
            rows.astype(np.int32),
            columns.astype(np.int32),
            depth[rows, columns],
            {name: mask[rows, columns] for name, mask in (sample.regions or {}).items()},
        )


def batch_targets(
    prepared: Sequence[Prepared], protocol: Protocol, size: tuple[int, int]
) -> Targets:
    """Pack the points of several samples, as NumPy arrays.

    Args:
        prepared: the samples.
        protocol: says which points count.
        size: (height, width) of the maps that are sampled at the points.
    """
    capacity = capacity_for(max(len(p.depth) for p in prepared))
    packed = [_pack(p, protocol, size, capacity) for p in prepared]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *packed)


def capacity_for(points: int) -> int:
    """Padded length of a list of points: few shapes to compile, and little padding.

    >>> [capacity_for(n) for n in (0, 10_000, 16_384, 18_000)]
    [8192, 12288, 16384, 24576]
    """
    capacity = SMALLEST_CAPACITY
    while capacity < points:
        capacity = capacity * 4 // 3 if capacity % 3 == 0 else capacity * 3 // 2
    return capacity


def _pack(prepared: Prepared, protocol: Protocol, size: tuple[int, int], capacity: int) -> Targets:
    row, row_weight = _neighbours(prepared.rows, prepared.size[0], size[0])
    column, column_weight = _neighbours(prepared.columns, prepared.size[1], size[1])
    counts = inside_crop(prepared.rows, prepared.columns, prepared.size, protocol.crop)
    if protocol.limit_truth:
        counts &= (prepared.depth > protocol.min_depth) & (prepared.depth < protocol.max_depth)

    width: Any = np.float32(prepared.size[1])

    def fill(values: np.ndarray) -> Any:
        return np.pad(values, (0, capacity - len(values)))

    return Targets(
        depth=fill(prepared.depth),
        counts=fill(counts),
        row=fill(row),
        column=fill(column),
        row_weight=fill(row_weight),
        column_weight=fill(column_weight),
        width=width,
        regions={name: fill(inside) for name, inside in prepared.regions.items()},
    )


def inside_crop(
    rows: np.ndarray, columns: np.ndarray, size: tuple[int, int], crop: str | None
) -> np.ndarray:
    """Mask of the points inside the crop.

    Reference: Garg et al., "Unsupervised CNN for Single View Depth Estimation", ECCV 2016, whose
    crop goes with Eigen et al.'s test frames.
    """
    if crop is None:
        return np.ones(rows.shape, bool)
    (top, bottom), (left, right) = (
        [int(share * length) for share in shares]
        for shares, length in zip((EIGEN_ROWS, EIGEN_COLUMNS), size, strict=True)
    )
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _neighbours(places: np.ndarray, length: int, map_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels' places in a map of another size: index before, and weight of the one after."""
    position = (places.astype(np.float64) + 0.5) * map_length / length - 0.5
    position = np.clip(position, 0, map_length - 1)
    before = np.minimum(position.astype(np.int32), max(map_length - 2, 0))
    return before, (position - before).astype(np.float32)


def read_at(maps: jax.Array, targets: Targets) -> jax.Array:
    """Sample maps (B, h, w) at the points, bilinearly: (B, N).

    Equals a resize to the ground truth's size (half-pixel centres), read at the points. NaN where a
    pixel that contributes is NaN.
    """

    def read_one(values: jax.Array, t: Targets) -> jax.Array:
        below = jnp.minimum(t.row + 1, values.shape[0] - 1)
        right = jnp.minimum(t.column + 1, values.shape[1] - 1)
        left_side = _mix(values[t.row, t.column], values[below, t.column], t.row_weight)
        right_side = _mix(values[t.row, right], values[below, right], t.row_weight)
        return _mix(left_side, right_side, t.column_weight)

    return jax.vmap(read_one)(maps, targets)


def _mix(first: jax.Array, second: jax.Array, weight: jax.Array) -> jax.Array:
    # NaN in a neighbour of weight 0 must not spread.
    first = jnp.where(weight < 1, first * (1 - weight), 0)
    return first + jnp.where(weight > 0, second * weight, 0)
