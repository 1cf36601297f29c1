"""Plain folders of photos, with depth maps if there are any."""

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
    """Photos of any size below a folder, and depth maps of the same names below another.

    Both are turned upright if their EXIF data say so. A photo of which one alone says so, and
    whose depth may be turned or not, is refused when it is read.

    Args:
        images: folder of photos, searched with all folders in it.
        depth: folder of depth maps: .npy or .npz in metres, or 16-bit PNG; None if there are
            none.
        depth_scale: PNGs only: steps per metre, 256 as KITTI's, 1000 for millimetres.
        pair: "name": `a/1.jpg` belongs to `a/1.png`; photos without depth map are left out and
            listed in `missing`. "order": the first photo by name belongs to the first depth map,
            and so on, numbers in names as numbers: 2 before 10; there must be as many of one as
            of the other.
        intrinsics: (3, 3) of all photos, in pixels, or None.

    Raises:
        DataError: if a folder is missing or empty, or nothing fits together.

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
        """SHA-256 over name, ids, names and sizes of the files, and how depth is read."""
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
