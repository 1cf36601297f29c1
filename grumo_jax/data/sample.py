"""What every data set yields: one example, and the interface of a source of them."""

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
"""Names of a sample's pictures."""
MOTIONS = ("previous", "following")
"""Names of the frames of which a sample may hold the camera's motion."""
REGIONS = ("moving", "shadow", "reflection")
"""Names of the regions that the synthetic world knows."""


@dataclass(frozen=True)
class Sample:
    """One photo with what is known about it.

    Attributes:
        id: unique in its source and the same on every machine.
        image: uint8 (H, W, 3), RGB.
        depth: float32 (H, W) in metres, 0 where there is none; None if nothing is known.
        intrinsics: float32 (3, 3), in pixels of `image`, or None.
        previous: uint8 (H, W, 3), the frame before, for training.
        following: uint8 (H, W, 3), the frame after, for training.
        stereo: uint8 (H, W, 3), what the other camera saw at that moment, for training.
        stereo_offset: metres by which the camera of `stereo` lies to the right of this one;
            negative if it lies to the left.
        motions: {"previous" and "following": float32 (4, 4)}: transforms from this camera's
            coordinates to that frame's camera's, in metres; None if they are not known.
        regions: {name: bool (H, W)}: where something holds, such as "moving"; None if unknown.

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
    """Random access to the samples of one split; what loading and evaluation work on.

    Sources can be pickled. `source[i]` raises `DataError`, naming the file, for a sample that
    cannot be read; the others are not affected.

    Attributes:
        name: data set and split, such as "kitti/eigen".
        ids: the samples' ids, in order.
        missing: ids that the split asks for and that are not there.
        fingerprint: SHA-256 over name, ids, and all else that samples are made of: names and
            sizes of files (not where their folder lies), and options. It changes with the data.
        crop: the part of the image that the split's protocol evaluates; None for all of it.
        has_depth: whether samples have depth.

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
        """Ids that the split asks for and that are not there."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids and what samples are made of."""

    @property
    def crop(self) -> Crop | None:
        """The part of the image that is evaluated."""

    @property
    def has_depth(self) -> bool:
        """Whether samples have depth."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass(frozen=True)
class EncodedSample:
    """A `Sample` whose pictures are still files: what is read from disk, and what is prepared.

    Attributes:
        id: as in `Sample`.
        images: {"image", and possibly "previous", "following", "stereo": bytes of a file}.
        origins: {the same names: file they come from}, for error messages.
        size: (height, width) the pictures must have; None if it is not known beforehand.
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
        """Decode the pictures.

        Raises:
            DataError: if one of them is damaged, or sizes do not fit together.
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
    """SHA-256 over a source's name and ids, and over what else its samples depend on.

    Args:
        name: the source's.
        ids: the source's.
        facts: files, as `describe_files` gives them, and options.

    >>> fingerprint("nyu/val", ["a"]) == fingerprint("nyu/val", ["a"], ["a.h5 17"])
    False
    """
    return hash_json([name, list(ids), list(facts)])


def describe_files(root: Path, paths: Iterable[Path]) -> Iterator[str]:
    """Name each file, as seen from root, with its size; −1 for a file that is not there.

    Contents are not read, since a split has gigabytes of them.
    """
    for path in paths:
        size = path.stat().st_size if path.exists() else -1
        yield f"{path.relative_to(root).as_posix()} {size}"


def _form(shape: Sequence[int]) -> str:
    return f"{shape[1]}×{shape[0]}"
