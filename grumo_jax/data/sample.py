"""`Sample`, one example of a data set, and `Source`, the interface of a data set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from grumo_jax._internal.hashing import hash_json
from grumo_jax.data.encoding import decode_image
from grumo_jax.errors import DataError

Crop = Literal["eigen"]

IMAGES = ("image", "previous", "following", "stereo")
"""Names of the image fields of a `Sample`."""
MOTIONS = ("previous", "following")
"""Neighbouring frames to which a sample may hold the camera's motion."""
REGIONS = ("moving", "shadow", "reflection")
"""Names of the regions in samples of the synthetic world."""


@dataclass(frozen=True)
class Sample:
    """One image with its depth, calibration and neighbouring frames, where they are known.

    Attributes:
        id: unique in its source and the same on every machine.
        image: uint8 (H, W, 3), RGB.
        depth: float32 (H, W) in metres, 0 where unknown; None without ground truth.
        intrinsics: float32 (3, 3), in pixels of `image`, or None.
        previous: uint8 (H, W, 3), the previous frame, for training, or None.
        following: uint8 (H, W, 3), the next frame, for training, or None.
        stereo: uint8 (H, W, 3), the other camera's image at the same time, for training, or None.
        stereo_offset: how far the camera of `stereo` is to the right, in metres; negative if it
            is to the left.
        motions: {"previous" and "following": float32 (4, 4)}: transforms from this camera's
            coordinates to the other frame's, in metres; None if unknown.
        regions: {name: bool (H, W)}: masks, such as "moving"; None if unknown.

    Example:
        >>> import numpy as np
        >>> sample = Sample("street/0001", np.zeros((4, 6, 3), np.uint8), depth=None)
        >>> sample.image.shape, sample.intrinsics
        ((4, 6, 3), None)
    """

    id: str
    image: np.ndarray
    depth: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    previous: np.ndarray | None = None
    following: np.ndarray | None = None
    stereo: np.ndarray | None = None
    stereo_offset: float | None = None
    motions: Mapping[str, np.ndarray] | None = None
    regions: Mapping[str, np.ndarray] | None = None


class Source(Protocol):
    """Random access to the samples of one split: the interface of every data set.

    Sources can be pickled. For a sample that cannot be read, `source[i]` raises a `DataError` that
    names the file; other samples are not affected.

    Attributes:
        name: data set and split, such as "kitti/eigen".
        ids: the samples' ids, in order.
        missing: ids of the split that were not found.
        fingerprint: SHA-256 over name, ids, options, and the relative names and sizes of files.
            It changes when the data change, not when their folder is moved.
        crop: the part of the image that the split's protocol evaluates; None for all of it.
        has_depth: whether samples have ground truth.

    Example:
        >>> from grumo_jax.data import ImageFolder
        >>> source: Source = ImageFolder("photos", "depth")
        >>> source.ids, source.has_depth, source.crop
        (('a', 'b', 'c'), True, None)
    """

    @property
    def name(self) -> str:
        """Data set and split."""

    @property
    def ids(self) -> Sequence[str]:
        """The samples' ids, in order."""

    @property
    def missing(self) -> Sequence[str]:
        """Ids of the split that were not found."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids, options and files."""

    @property
    def crop(self) -> Crop | None:
        """The part of the image that is evaluated; None for all of it."""

    @property
    def has_depth(self) -> bool:
        """Whether samples have ground truth."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass(frozen=True)
class EncodedSample:
    """A `Sample` whose images are still encoded, as they are read from disk and prepared.

    Attributes:
        id: as in `Sample`.
        images: {"image", and possibly "previous", "following", "stereo": content of a file}.
        origins: {the same names: path of that file}, for error messages.
        size: (height, width) that all images must have; None if unknown.
        depth: as in `Sample`.
        intrinsics: as in `Sample`.
        stereo_offset: as in `Sample`.
        motions: as in `Sample`.
        regions: as in `Sample`.
    """

    id: str
    images: Mapping[str, bytes]
    origins: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    depth: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    stereo_offset: float | None = None
    motions: Mapping[str, np.ndarray] | None = None
    regions: Mapping[str, np.ndarray] | None = None

    def decode(self) -> Sample:
        """Decode the images.

        Raises:
            DataError: if one of them is damaged, or sizes differ.
        """
        pictures: dict[str, Any] = {
            name: decode_image(data, self.origins.get(name, f"{self.id} ({name})"))
            for name, data in self.images.items()
        }
        size = self.size or pictures["image"].shape[:2]
        for name, picture in pictures.items():
            if picture.shape[:2] != size:
                raise DataError(
                    f"{self.origins.get(name, self.id)}: {_form(picture.shape)} pixels; expected "
                    f"{_form(size)}, as the rest of its data set says; pictures must not be resized"
                )
        check_depth_size(self.depth, pictures["image"], self.origins.get("image", self.id))
        return Sample(
            id=self.id,
            depth=self.depth,
            intrinsics=self.intrinsics,
            stereo_offset=self.stereo_offset,
            motions=self.motions,
            regions=self.regions,
            **pictures,
        )


def check_depth_size(depth: np.ndarray | None, image: np.ndarray, where: str) -> None:
    """Raise `DataError` unless depth and image have the same height and width."""
    if depth is not None and depth.shape != image.shape[:2]:
        raise DataError(
            f"{where}: {_form(image.shape)} pixels, but its depth has {_form(depth.shape)}; both "
            "must be of the same, original size"
        )


def fingerprint(name: str, ids: Sequence[str], facts: Iterable[str] = ()) -> str:
    """Compute a source's fingerprint: SHA-256 over all that its samples depend on.

    Args:
        name: of the source.
        ids: of the source.
        facts: one line for each file, from `describe_files`, and for each option.

    >>> fingerprint("nyu/val", ["a"]) == fingerprint("nyu/val", ["a"], ["a.h5 17"])
    False
    """
    return hash_json([name, list(ids), list(facts)])


def describe_files(root: Path, paths: Iterable[Path]) -> Iterator[str]:
    """Describe each file by its path relative to `root` and its size, −1 if it is missing.

    Contents are not read: a split has gigabytes of them.
    """
    for path in paths:
        size = path.stat().st_size if path.exists() else -1
        yield f"{path.relative_to(root).as_posix()} {size}"


def _form(shape: Sequence[int]) -> str:
    return f"{shape[1]}×{shape[0]}"
