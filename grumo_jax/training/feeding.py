"""From a source's samples to batches of one size, in an order that can be resumed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from grumo_jax.data import Loaded, Problem, Sample, Source, center_crop, half_size, load
from grumo_jax.errors import DataError
from grumo_jax.training.batch import Arrays
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import make_objective

HOPELESS = 100
"""After so many unusable samples and no usable one, all are taken to be unusable."""


@dataclass(frozen=True)
class Fit:
    """Sample → the arrays that training needs, at the network's size.

    Pictures are resized by Lanczos resampling and stay uint8, depth by nearest neighbour;
    intrinsics follow. Arrays that have the size already are left alone.

    Attributes:
        size: (height, width).
        views: of "previous", "following", "stereo".
        depth: whether depth is needed.
        half_and_crop: see `Settings`.
        farthest: depth from here on is unknown, metres.
    """

    size: tuple[int, int]
    views: tuple[str, ...] = ()
    depth: bool = False
    half_and_crop: bool = False
    farthest: float = float("inf")

    @classmethod
    def of(cls, settings: Settings) -> "Fit":
        """What these settings need."""
        depth = settings.supervision == "depth" and settings.base_model != "self"
        views = make_objective(settings).views
        return cls(settings.size, views, depth, settings.half_and_crop, settings.max_depth)

    def __call__(self, sample: Sample) -> Arrays:
        """Make the arrays of one sample, without the batch axis; see `TrainingBatch`.

        Raises:
            DataError: if the sample lacks something.
        """
        needed = [*self.views, *(["depth"] if self.depth else [])]
        needed += ["intrinsics"] if self.views else []
        needed += ["stereo_offset"] if "stereo" in self.views else []
        missing = [name for name in needed if getattr(sample, name) is None]
        if missing:
            raise DataError(
                f"{sample.id}: has no {', '.join(missing)}, which this training needs; choose "
                "another split or supervision"
            )
        pictures = ("image", *self.views)
        arrays = {name: self._picture(getattr(sample, name)) for name in pictures}
        if self.views:
            assert sample.intrinsics is not None
            arrays["intrinsics"] = self._camera(sample.intrinsics, sample.image.shape[:2])
        if "stereo" in self.views:
            arrays["stereo_offset"] = np.asarray(sample.stereo_offset, np.float32)
        if self.depth:
            assert sample.depth is not None
            depth = resize_nearest(self._trim(sample.depth), self.size)
            arrays["depth"] = np.where(depth <= self.farthest, depth, np.float32(0))
        return arrays

    def _trim(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(center_crop(half_size(array))) if self.half_and_crop else array

    def _picture(self, picture: np.ndarray) -> np.ndarray:
        picture = self._trim(picture)
        if picture.shape[:2] == self.size:
            return picture
        size = (self.size[1], self.size[0])
        resized = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
        return np.asarray(resized)

    def _camera(self, intrinsics: np.ndarray, size: Sequence[int]) -> np.ndarray:
        return resize_intrinsics(intrinsics, (size[0], size[1]), self.size)


def resize_nearest(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize depth (H, W) by nearest neighbour.

    >>> resize_nearest(np.array([[1.0, 2.0, 3.0, 4.0]], np.float32), (1, 2))
    array([[2., 4.]], dtype=float32)
    """
    if depth.shape == size:
        return depth
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, depth.shape, strict=True)
    )
    return depth[rows[:, None], columns]


def resize_intrinsics(
    intrinsics: np.ndarray, old: tuple[int, int], new: tuple[int, int]
) -> np.ndarray:
    """Intrinsics float32 (3, 3) after a resize from one (height, width) to another.

    >>> resize_intrinsics(np.array([[8, 0, 3.5], [0, 8, 1.5], [0, 0, 1]]), (4, 8), (2, 2))[0]
    array([2. , 0. , 0.5], dtype=float32)
    """
    scale_y, scale_x = new[0] / old[0], new[1] / old[1]
    resized = np.array(intrinsics, np.float64)
    resized[0] *= scale_x
    resized[1] *= scale_y
    # The origin is the centre of the first pixel, but a resize fixes its corner.
    resized[0, 2] += 0.5 * scale_x - 0.5
    resized[1, 2] += 0.5 * scale_y - 0.5
    return resized.astype(np.float32)


@dataclass(frozen=True)
class Fed:
    """A batch.

    Attributes:
        arrays: stacked; see `TrainingBatch`.
        position: samples of the shard used so far, unreadable ones included.
    """

    arrays: Arrays
    position: int


def feed(
    source: Source,
    fit: Fit,
    batch_size: int,
    *,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    start: int = 0,
    workers: int = 2,
    report: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Fed]:
    """Endless shuffled batches; an epoch may end within a batch.

    Samples that cannot be read are skipped, and reported once each.

    Args:
        source: of the samples.
        fit: sample → arrays.
        batch_size: of every batch.
        seed: of the order.
        shard: (i, n) gives the i-th of n equal parts of every batch.
        start: the `position` to resume after.
        workers: threads that read ahead.
        report: called with a sentence for each damaged sample.

    Raises:
        DataError: if the source is empty, or none of its first hundred samples can be used.
    """
    if len(source) == 0:
        raise DataError(f"{source.name}: no samples to train on")
    told: dict[str, str] = {}
    position, kept, bad, none_good = start, [], 0, True
    part = batch_size // shard[1]
    order: Any = {"shuffle_seed": seed, "shard": shard, "block": part, "repeat": True}
    for item in load(source, fit, workers=workers, start=start, **order):
        position += 1
        if isinstance(item, Problem):
            bad += 1
            if bad == (min(len(source), HOPELESS) if none_good else len(source)):
                raise DataError(
                    f"{source.name}: not one of {bad} samples can be used; {item.sentence}"
                )
            if item.id not in told:
                told[item.id] = item.sentence
                if not none_good:
                    report(item.sentence)
            continue
        if none_good:
            for sentence in told.values():
                report(sentence)
        bad, none_good = 0, False
        kept.append(item)
        if len(kept) == part:
            yield Fed(stack(kept), position)
            kept = []


def resume_position(positions: Sequence[int], shard: tuple[int, int]) -> int:
    """The position from which a shard resumes, given those of all shards.

    If the number of shards has changed, it resumes where all together were; if samples were
    skipped, a few are then seen twice or not at all.

    >>> resume_position((8, 9), (1, 2)), resume_position((8, 8), (0, 1))
    (9, 16)
    """
    index, count = shard
    return positions[index] if len(positions) == count else sum(positions) // count


def stack(items: Sequence[Loaded[Arrays]]) -> Arrays:
    """Stack samples' arrays along a new batch axis."""
    return {name: np.stack([item.value[name] for item in items]) for name in items[0].value}
