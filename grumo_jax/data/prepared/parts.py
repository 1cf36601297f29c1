"""The names of prepared data: which splits are prepared together."""

import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from grumo_jax.data.kitti import KittiRaw
from grumo_jax.data.nyu import NyuFastDepth
from grumo_jax.data.sample import EncodedSample, Source
from grumo_jax.errors import DataError

VERSION = "1.0.0"
BUILDERS = {"kitti": "grumo_kitti", "nyu": "grumo_nyu", "synthetic": "grumo_synthetic"}
"""{data set: its name in TFDS}"""
PARTS = {
    "kitti": {
        "eigen": {"test": "eigen"},
        "eigen_benchmark": {"test": "eigen_benchmark"},
        "velodyne": {"test": "velodyne"},
        "eigen_zhou": {"train": "eigen_zhou/train", "val": "eigen_zhou/val"},
        "moving": {"train": "moving/train", "val": "moving/val"},
    },
    "nyu": {
        "val": {"val": "val"},
        "train": {"train": "train", "held_out": "held_out"},
    },
    "synthetic": {
        kind: {part: f"{kind}/{part}" for part in ("train", "val", "test")}
        for kind in ("street", "room")
    },
}
"""{data set: {TFDS configuration: {TFDS split: split of the raw source}}}"""
RENDERED = "grumo_jax.synthetic.source:SyntheticWorld"
"""The synthetic source, imported by name: the renderer imports this package, not the reverse."""


class RawSource(Source, Protocol):
    """A source that can be prepared: it also yields samples whose images are still encoded."""

    def encoded(self, index: int) -> EncodedSample:
        """Read one sample, its images still encoded."""


def open_raw(
    dataset: str, data_dir: str | Path, split: str, *, split_files: str | Path | None = None
) -> RawSource:
    """Open the original files of KITTI or NYU, or the synthetic world, which is rendered.

    Args:
        dataset, data_dir, split, split_files: see `grumo_jax.data.open_source`.

    Raises:
        DataError: if data set or split do not exist, or no file of it is found.
    """
    if dataset == "kitti":
        return KittiRaw(data_dir, split, split_files=split_files)
    if dataset == "nyu":
        return NyuFastDepth(data_dir, split)
    if dataset == "synthetic":
        world: Callable[[str], RawSource] = pkgutil.resolve_name(RENDERED)
        return world(split)
    raise DataError(f"no data set {dataset!r} to prepare; there are: {', '.join(PARTS)}")


def locate(dataset: str, split: str) -> tuple[str, str]:
    """Find the (TFDS configuration, TFDS split) that contains a split.

    Raises:
        DataError: if data set or split do not exist.

    >>> locate("kitti", "moving/val"), locate("nyu", "held_out")
    (('moving', 'val'), ('train', 'held_out'))
    """
    if dataset not in PARTS:
        raise DataError(f"no data set {dataset!r} to prepare; there are: {', '.join(PARTS)}")
    splits = {
        raw: (config, name)
        for config, parts in PARTS[dataset].items()
        for name, raw in parts.items()
    }
    if split not in splits:
        raise DataError(f"{dataset} has no split {split!r}; there are: {', '.join(splits)}")
    return splits[split]
