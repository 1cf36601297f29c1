"""Folders of photos, with or without depth maps."""

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from grumo_jax.data.depth_files import read_turned_depth
from grumo_jax.data.pairs import check_turns, pair_depths
from grumo_jax.data.sample import Crop, Sample, check_depth_size, describe_files, fingerprint
from grumo_jax.errors import DataError, ImageError
from grumo_jax.images import DEPTH_PNG_SCALE, find_images, read_turned


class ImageFolder:
    """A source of photos of any size in a folder, with depth maps in another one.

    Photos and depth maps are rotated by their EXIF orientation. A pair whose orientations differ
    is refused when it is read, unless the sizes show that both are upright.

    Args:
        images: folder of photos, searched recursively.
        depth: folder of depth maps: .npy or .npz in metres, or 16-bit PNG; None without.
        depth_scale: PNGs only: steps per metre, 256 for KITTI, 1000 for millimetres.
        pair: "name": `a/1.jpg` belongs to `a/1.png`; photos without a depth map are listed in
            `missing`. "order": photos and depth maps are sorted in natural order (2 before 10)
            and matched one by one; there must be equally many.
        intrinsics: (3, 3) of all photos, in pixels, or None.

    Raises:
        DataError: if a folder is missing or empty, or nothing matches.

    Example:
        >>> from pathlib import Path
        >>> import grumo_jax
        >>> photos = Path(grumo_jax.__file__).parent / "photos"
        >>> source = ImageFolder(photos)
        >>> len(source), source[0].image.dtype.name
        (2, 'uint8')
    """

    crop: Crop | None = None

    def __init__(
        self,
        images: str | Path,
        depth: str | Path | None = None,
        *,
        depth_scale: float = DEPTH_PNG_SCALE,
        pair: Literal["name", "order"] = "name",
        intrinsics: np.ndarray | None = None,
    ):
        if not Path(images).is_dir():
            raise DataError(f"{images}: no such folder; expected one with photos in it")
        if not (math.isfinite(depth_scale) and depth_scale > 0):
            raise DataError(f"depth_scale is {depth_scale}; expected steps per metre, such as 1000")
        try:
            self.images = find_images([images], leave_out=depth)
        except ImageError as error:
            raise DataError(str(error)) from error
        self.root, self.depth_root = Path(images), None if depth is None else Path(depth)
        self.name = f"folder/{self.root.resolve().name}"
        self.missing: tuple[str, ...] = ()
        self.depths: dict[str, Path] | None = None
        if self.depth_root is not None:
            self.depths = pair_depths(self.images, self.depth_root, pair)
            self.missing = tuple(name for name in self.images if name not in self.depths)
        self.ids = tuple(name for name in self.images if name not in self.missing)
        self.depth_scale, self.intrinsics = depth_scale, _check_intrinsics(intrinsics)
        self.pair = pair

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids, names and sizes of the files, and the options of depth."""
        return fingerprint(self.name, self.ids, self._facts())

    def _facts(self) -> Iterator[str]:
        yield from describe_files(self.root, (self.images[name] for name in self.ids))
        if self.depths is not None and self.depth_root is not None:
            yield f"depth_scale {float(self.depth_scale)!r}, pair {self.pair}"
            yield from describe_files(self.depth_root, (self.depths[name] for name in self.ids))

    @property
    def has_depth(self) -> bool:
        """Whether there is a folder of depth maps."""
        return self.depths is not None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DataError: if its photo or depth map is damaged, or their sizes differ.
        """
        name = self.ids[index]
        try:
            image, turn = read_turned(self.images[name])
        except ImageError as error:
            raise DataError(str(error)) from error
        depth: np.ndarray | None = None
        if self.depths is not None:
            most = image.shape[0] * image.shape[1]
            depth, depth_turn = read_turned_depth(self.depths[name], self.depth_scale, most)
            check_turns(self.images[name], self.depths[name], image, depth, (turn, depth_turn))
            check_depth_size(depth, image, str(self.images[name]))
        return Sample(name, image, depth, self.intrinsics)


def _check_intrinsics(intrinsics: np.ndarray | None) -> np.ndarray | None:
    if intrinsics is None:
        return None
    matrix = np.asarray(intrinsics, np.float32)
    if matrix.shape != (3, 3):
        raise DataError(f"intrinsics are {matrix.shape}; expected (3, 3), in pixels")
    return matrix
