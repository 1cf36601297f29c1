"""Plain folders of photos, with depth maps if there are any."""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from grumo_jax.data.depth_files import DEPTH_SUFFIXES, read_depth
from grumo_jax.data.sample import Crop, Sample, check_depth_size, describe_files, fingerprint
from grumo_jax.errors import DataError, ImageError
from grumo_jax.images import DEPTH_PNG_SCALE, find_images, read_image


class ImageFolder:
    """Photos of any size below a folder, and depth maps of the same names below another.

    Args:
        images: folder of photos, searched with all folders in it.
        depth: folder of depth maps: .npy or .npz in metres, or 16-bit PNG; None if there are
            none.
        depth_scale: PNGs only: steps per metre, 256 as KITTI's, 1000 for millimetres.
        pair: "name": `a/1.jpg` belongs to `a/1.png`; photos without depth map are left out and
            listed in `missing`. "order": the first photo by name belongs to the first depth map,
            and so on; there must be as many of one as of the other.
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
            image = read_image(self.images[name])
        except ImageError as error:
            raise DataError(str(error)) from error
        depth: np.ndarray | None = None
        if self.depths is not None:
            depth = read_depth(self.depths[name], self.depth_scale)
            check_depth_size(depth, image, str(self.images[name]))
        return Sample(name, image, depth, self.intrinsics)


def pair_depths(
    images: Mapping[str, Path], folder: Path, pair: Literal["name", "order"]
) -> dict[str, Path]:
    """Find each photo's depth map: {name of the photo: file}.

    Raises:
        DataError: if the folder is missing or empty, a name stands for two files, or nothing
            fits together.
    """
    depths = _find_depths(folder)
    if pair == "order":
        if len(depths) != len(images):
            raise DataError(
                f"{folder}: {len(depths)} depth maps for {len(images)} photos; pairing by order "
                "needs as many of one as of the other"
            )
        return dict(zip(sorted(images), (depths[name] for name in sorted(depths)), strict=True))
    if pair != "name":
        raise DataError(f"pair is {pair!r}; expected 'name' or 'order'")
    found = {name: depths[name] for name in images if name in depths}
    if not found:
        raise DataError(
            f"{folder}: no depth map is called as a photo is (photo {next(iter(images))!r}, depth "
            f"{next(iter(depths))!r}); rename them, or pair them by order (pair='order', --pair "
            "order)"
        )
    return found


def _find_depths(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with depth maps in it")
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in DEPTH_SUFFIXES or file.name.startswith("."):
            continue
        name = file.relative_to(folder).with_suffix("").as_posix()
        if found.setdefault(name, file) != file:
            raise DataError(f"{file} and {found[name]} have the same name; remove one of them")
    if not found:
        raise DataError(f"{folder}: no depth maps in this folder ({', '.join(DEPTH_SUFFIXES)})")
    return found


def _check_intrinsics(intrinsics: np.ndarray | None) -> np.ndarray | None:
    if intrinsics is None:
        return None
    matrix = np.asarray(intrinsics, np.float32)
    if matrix.shape != (3, 3):
        raise DataError(f"intrinsics are {matrix.shape}; expected (3, 3), in pixels")
    return matrix
