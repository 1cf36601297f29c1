"""Prepared data as a source of samples."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from grumo_jax.data.extras import need
from grumo_jax.data.levels import say_level
from grumo_jax.data.prepared.description import INFO, open_builder, read_facts
from grumo_jax.data.prepared.parts import BUILDERS, VERSION, locate
from grumo_jax.data.sample import IMAGES, Crop, EncodedSample, Sample, fingerprint
from grumo_jax.errors import DataError

MOST_PIXELS = 16_000_000
"""A map of the data sets that are prepared has half a million."""
FOLDER = "prepared"
"""Where prepared data lie below the original ones, unless told otherwise."""


class PreparedSource:
    """One split of prepared data, in the order of the original source.

    Samples equal those of the original source, value for value. Made by `open_prepared`.

    Attributes:
        name: as the original source's.
        ids: of the samples.
        missing: what the original source lacked, and what was damaged when it was prepared.
        crop: as the original source's.
        has_depth: as the original source's.
        folder: where the files lie.
        contents: the original source's fingerprint when it was prepared.

    Example:
        >>> from grumo_jax.data import prepare
        >>> outcome = prepare("nyu", "val", "nyu", "prepared")
        >>> source = open_prepared("nyu", "prepared", "val")
        >>> source.name, len(source)
        ('nyu/val', 1)
    """

    def __init__(self, folder: Path, records: Any, facts: dict[str, Any], *, has_depth: bool):
        self.folder, self._records, self.has_depth = folder, records, has_depth
        self.contents: str = facts["contents"]
        self.name: str = facts["name"]
        self.ids = tuple(facts["ids"])
        self.missing = (*facts["missing"], *facts["damaged"])
        self._originals = len(self.ids) + len(facts["damaged"])
        self.crop: Crop | None = facts["crop"]
        if len(records) != len(self.ids):
            raise DataError(
                f"{folder}: {len(records)} frames in its files, but {len(self.ids)} in its list; "
                "prepare it again with --overwrite"
            )

    @cached_property
    def fingerprint(self) -> str:
        """The original source's, unless damaged frames were left out."""
        if len(self.ids) == self._originals:
            return self.contents
        return fingerprint(self.name, self.ids, [self.contents])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DataError: if the files are damaged.
        """
        key = self.ids[index]
        with _blame(self.folder, f"frame {key} cannot be read"):
            record = self._records[range(len(self))[index]]
            stored = record["id"].decode()
            if stored != key:
                raise DataError(
                    f"{self.folder}: frame {stored} lies where {key} should; prepare it again with "
                    "--overwrite"
                )
            depth, regions = record.get("depth"), record.get("regions")
            depth = None if depth is None else unpack(depth, np.float32)
            if regions is not None:
                regions = {name: unpack(mask, np.bool_) for name, mask in regions.items()}
        offset = record.get("stereo_offset")
        return EncodedSample(
            id=key,
            images={name: record[name] for name in IMAGES if name in record},
            origins={name: f"{self.folder}, frame {key}" for name in IMAGES},
            depth=depth,
            intrinsics=np.asarray(record["intrinsics"], np.float32),
            stereo_offset=None if offset is None else float(offset),
            motions=record.get("motions"),
            regions=regions,
        ).decode()


def unpack(stored: Mapping[str, Any], dtype: Any) -> np.ndarray:
    """Unpack a map (H, W) of a record, to no more bytes than its size says.

    Args:
        stored: its "shape", and its "value" packed by zlib.
        dtype: of its pixels.

    Raises:
        DataError: if it has more pixels than any data set's, or not as many as it says.
    """
    height, width = map(int, stored["shape"])
    if not (height > 0 and width > 0 and height * width <= MOST_PIXELS):
        raise DataError(f"a map of {width}×{height} pixels; expected {MOST_PIXELS:,} at most")
    size = height * width * np.dtype(dtype).itemsize
    data = zlib.decompressobj().decompress(stored["value"], size + 1)
    if len(data) != size:
        raise DataError(f"a map of {width}×{height} pixels does not unpack to as many")
    return np.frombuffer(data, dtype).reshape(height, width)


def find_prepared(dataset: str, data_dir: str | Path, split: str) -> Path | None:
    """Look for a prepared split in `<data_dir>/prepared` and in `data_dir` itself.

    Returns:
        The folder of its configuration, or None.

    Raises:
        DataError: if there is no such data set or split.
    """
    config, name = locate(dataset, split)
    for folder in (Path(data_dir) / FOLDER, Path(data_dir)):
        place = folder / BUILDERS[dataset] / config / VERSION
        if not (place / INFO).is_file():
            continue
        if read_facts(place).get(name, {}).get("ids"):
            return place
    return None


def say_prepared_level(dataset: str, data_dir: str | Path) -> str:
    """Say which folder was meant if this one lies within prepared data, or nothing."""
    name = BUILDERS[dataset]
    if name not in Path(data_dir).resolve().parts:
        return ""
    return say_level(
        Path(data_dir), lambda folder: (folder / name).is_dir(), f"prepared data, {name}"
    )


def open_prepared(dataset: str, data_dir: str | Path, split: str) -> PreparedSource:
    """Open a split that `grumo prepare` has written.

    Args:
        dataset: "kitti", "nyu" or "synthetic".
        data_dir: the folder of the original data, or that of the prepared ones.
        split: as the raw source calls it, such as "eigen", "moving/train" or "held_out".

    Raises:
        DataError: if it is not there or cannot be read.

    Example:
        >>> from grumo_jax.data import prepare
        >>> outcome = prepare("nyu", "val", "nyu", "prepared")
        >>> open_prepared("nyu", "prepared", "val")[0].image.shape
        (480, 640, 3)
    """
    folder = find_prepared(dataset, data_dir, split)
    if folder is None:
        raise DataError(
            f"{data_dir}: the split {split} of {dataset} is not prepared; run `grumo prepare "
            f"{dataset} --data-dir {data_dir} --split {locate(dataset, split)[0]}`"
        )
    name = locate(dataset, split)[1]
    facts = read_facts(folder)[name]
    tfds = _tfds()
    with _blame(folder, "its files cannot be read"):
        builder = open_builder(folder)
        features = builder.info.features
        # Pictures stay as they are, and maps packed until their size has been checked.
        skip = tfds.decode.SkipDecoding()
        decoders = {part: skip for part in (*IMAGES, "depth") if part in features}
        if "regions" in features:
            decoders["regions"] = dict.fromkeys(features["regions"], skip)
        records = builder.as_data_source(name, decoders=decoders)
        return PreparedSource(folder, records, facts, has_depth="depth" in features)


def _tfds() -> Any:
    need("array_record", "prepared data")
    return need("tensorflow_datasets", "prepared data")


@contextmanager
def _blame(folder: Path, what: str) -> Iterator[None]:
    """Turn the libraries' errors, of many classes for damaged files, into one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{folder}: damaged ({what}); prepare it again with --overwrite") from error
