"""`PreparedSource`: prepared data as a source of samples."""

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
"""Largest map; those of the prepared data sets have half a million pixels."""
FOLDER = "prepared"
"""Default folder of prepared data, below the original data."""


class PreparedSource:
    """A source of one split of prepared data; made by `open_prepared`.

    Samples equal those of the original source value for value, in the same order.

    Attributes:
        name: the original source's.
        ids: the samples' ids, in order.
        missing: ids that the original source lacked or that were damaged.
        crop: the original source's.
        has_depth: the original source's.
        folder: folder of the files.
        contents: the original source's fingerprint at the time of preparation.

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
        """The original source's; another one if damaged frames were left out."""
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
    """Decompress a map (H, W) of a record, to at most the bytes that its shape declares.

    Args:
        stored: {"shape": (height, width), "value": pixels compressed by zlib}.
        dtype: of the pixels.

    Raises:
        DataError: if the shape is too large, or the content has another size.
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
    """Find a prepared split in `<data_dir>/prepared` or in `data_dir` itself.

    Returns:
        The folder of its TFDS configuration and version, or None.

    Raises:
        DataError: if data set or split do not exist.
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
    """A clause of an error message if `data_dir` lies within prepared data; else ""."""
    name = BUILDERS[dataset]
    if name not in Path(data_dir).resolve().parts:
        return ""
    return say_level(
        Path(data_dir), lambda folder: (folder / name).is_dir(), f"prepared data, {name}"
    )


def open_prepared(dataset: str, data_dir: str | Path, split: str) -> PreparedSource:
    """Open a split that `prepare` has written.

    Args:
        dataset: "kitti", "nyu" or "synthetic".
        data_dir: folder of the original data, or of the prepared data.
        split: its name in the original source, such as "eigen", "moving/train" or "held_out".

    Raises:
        DataError: if the split is not prepared, or cannot be read.

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
        # Images stay encoded, and maps compressed until their size has been checked.
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
    """Turn errors of the libraries, which raise many classes for damage, into one sentence."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{folder}: damaged ({what}); prepare it again with --overwrite") from error
