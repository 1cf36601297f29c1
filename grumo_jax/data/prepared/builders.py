"""TFDS builders; importing this module imports tensorflow_datasets.

Their examples come from the raw sources. `tfds.builder(...).download_and_prepare` works for splits
up to about 1 GB (beyond that TFDS sorts with TensorFlow); `grumo_jax.data.prepared.prepare` writes
splits of any size.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from grumo_jax.data.kitti.raw import KIND
from grumo_jax.data.prepared.parts import PARTS, VERSION, RawSource, open_raw
from grumo_jax.data.sample import IMAGES, MOTIONS, REGIONS, EncodedSample
from grumo_jax.errors import DataError

EVALUATION = ("image", "depth")
TRAINING = (*IMAGES, "stereo_offset")
"""Features of the real data's examples, besides id and intrinsics."""


def _feature(name: str) -> Any:
    """The TFDS feature that stores one field of an example."""
    if name in IMAGES:
        return tfds.features.Image(shape=(None, None, 3))
    if name == "stereo_offset":
        return tfds.features.Scalar(np.float32)
    if name == "motions":
        matrix = tfds.features.Tensor(shape=(4, 4), dtype=np.float32)
        return tfds.features.FeaturesDict(dict.fromkeys(MOTIONS, matrix))
    if name == "regions":
        mask = tfds.features.Tensor(shape=(None, None), dtype=np.bool_, encoding="zlib")
        return tfds.features.FeaturesDict(dict.fromkeys(REGIONS, mask))
    return tfds.features.Tensor(shape=(None, None), dtype=np.float32, encoding="zlib")


# `skip_registration` keeps the base class unlisted in TFDS, which mypy does not see.
class _SourceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the data sets' builders.

    Attributes:
        split_files: folder with train_files.txt and val_files.txt, for `eigen_zhou`.
        report: called with the error message of each damaged frame.
        advance: called after each frame.
    """

    VERSION = tfds.core.Version(VERSION)
    DATASET: ClassVar[str]
    # Nothing is downloaded, so there are no checksums. Looking for them would need a library that
    # TFDS does not depend on.
    url_infos: ClassVar[dict[str, Any]] = {}
    split_files: str | Path | None = None
    report: Callable[[str], object] = staticmethod(lambda sentence: None)
    advance: Callable[[], object] = staticmethod(lambda: None)

    def _info(self) -> Any:
        features: dict[str, Any] = {
            "id": tfds.features.Text(),
            "intrinsics": tfds.features.Tensor(shape=(3, 3), dtype=np.float32),
            **{name: _feature(name) for name in self._parts},
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.builder_config.description,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(splits={}),
            disable_shuffling=True,
        )

    @property
    def _parts(self) -> tuple[str, ...]:
        """Features of an example, besides id and intrinsics."""
        return EVALUATION

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        sources = self.open_sources(dl_manager.manual_dir)
        return {name: self._generate_examples(name, source) for name, source in sources.items()}

    def open_sources(self, data_dir: str | Path) -> dict[str, RawSource]:
        """Open the raw sources of all splits whose files are found.

        Raises:
            DataError: if no split is found.
        """
        sources: dict[str, RawSource] = {}
        problem: DataError | None = None
        for name, split in PARTS[self.DATASET][self.builder_config.name].items():
            try:
                sources[name] = open_raw(
                    self.DATASET, data_dir, split, split_files=self.split_files
                )
            except DataError as error:
                problem = problem or error
        if not sources and problem is not None:
            raise problem
        return sources

    def _generate_examples(
        self, name: str, source: RawSource
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (index, example) of each frame that can be decoded; record the others."""
        sound, damaged = [], []
        for index, key in enumerate(source.ids):
            try:
                sample = source.encoded(index)
                # Decode now, so that damage is found before the data are used.
                sample.decode()
            except DataError as error:
                damaged.append(key)
                self.report(str(error))
            else:
                yield index, to_example(sample)
                sound.append(key)
            self.advance()
        self.info.metadata["splits"][name] = {
            "name": source.name,
            "crop": source.crop,
            "ids": sound,
            "damaged": damaged,
            "missing": list(source.missing),
            "contents": source.fingerprint,
        }


def to_example(sample: EncodedSample) -> dict[str, Any]:
    """Convert a sample to a TFDS example; images stay encoded."""
    example: dict[str, Any] = {
        "id": sample.id,
        "intrinsics": sample.intrinsics,
        **sample.images,
    }
    if sample.depth is not None:
        example["depth"] = sample.depth
    if sample.stereo_offset is not None:
        example["stereo_offset"] = np.float32(sample.stereo_offset)
    for name in ("motions", "regions"):
        if (arrays := getattr(sample, name)) is not None:
            example[name] = dict(arrays)
    return example


class GrumoKitti(_SourceBuilder):
    """KITTI for depth: pictures, depth or neighbours, intrinsics."""

    DATASET = "kitti"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download from KITTI's page 'synced+rectified data' and 'calibration' (raw data, by "
        "drive), and for eigen_benchmark the 'annotated depth maps data set' (depth prediction), "
        "and unpack them in one folder."
    )
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"Split {name}.") for name in PARTS["kitti"]
    ]

    @property
    def _parts(self) -> tuple[str, ...]:
        return TRAINING if KIND[self.builder_config.name] == "training" else EVALUATION


class GrumoNyu(_SourceBuilder):
    """NYU Depth V2 in FastDepth's packing: pictures, depth, intrinsics."""

    DATASET = "nyu"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Download FastDepth's nyudepthv2.tar.gz and unpack it."
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"Split {name}.") for name in PARTS["nyu"]
    ]


class GrumoSynthetic(_SourceBuilder):
    """The synthetic world: pictures, depth, neighbours and the motion to them, regions."""

    DATASET = "synthetic"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Nothing is downloaded: the clips are rendered."
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"Clips of {name}s.")
        for name in PARTS["synthetic"]
    ]

    @property
    def _parts(self) -> tuple[str, ...]:
        return (*TRAINING, "depth", "motions", "regions")


MAKERS = {"kitti": GrumoKitti, "nyu": GrumoNyu, "synthetic": GrumoSynthetic}
"""{data set: its builder}"""
