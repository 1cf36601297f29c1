"""NYU Depth V2 in FastDepth's packing: one HDF5 file per frame.

N. Silberman, D. Hoiem, P. Kohli, R. Fergus: Indoor segmentation and support inference from RGBD
images, ECCV 2012. D. Wofk, F. Ma, T.-J. Yang, S. Karaman, V. Sze: FastDepth: fast monocular depth
estimation on embedded systems, ICRA 2019.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from grumo_jax.data.encoding import encode_png
from grumo_jax.data.hdf5 import read_arrays
from grumo_jax.data.levels import say_level
from grumo_jax.data.sample import Crop, EncodedSample, Sample, describe_files, fingerprint
from grumo_jax.errors import DataError, printable

SPLITS = ("val", "train", "held_out")
EXPECTED = {"val": 654}
"""Published number of frames in the complete download, by split."""
HEIGHT, WIDTH = 480, 640
CROP_HEIGHT, CROP_WIDTH = 224, 288
"""Size of the centre crop of the half-size image, which is evaluated."""
_HELD_OUT = ("00001", "00201")
_FX, _FY, _CX, _CY = 518.8579, 519.4696, 325.5824, 253.7362


class NyuFastDepth:
    """The frames of one split, at full size (480×640).

    | split | files |
    |---|---|
    | `val` | `val/official/*.h5`, the official test frames |
    | `train` | `train/<scene>/*.h5` without those held out |
    | `held_out` | files of `train` named 00001.h5 or 00201.h5 |

    The protocol evaluates a centre crop of the half-size image: see `half_size`, `center_crop`.

    Args:
        root: folder that contains `val` and `train`.
        split: one of the table.

    Raises:
        DataError: if folder or split do not exist, or no file of the split is found.

    Example:
        >>> source = NyuFastDepth("nyu", "val")
        >>> source.ids, source[0].image.shape
        (('val/official/00001',), (480, 640, 3))
    """

    crop: Crop | None = None
    missing: tuple[str, ...] = ()
    has_depth = True

    def __init__(self, root: str | Path, split: str = "val"):
        self.root = Path(root)
        self.name = f"nyu/{split}"
        self.files = list_files(self.root, split)
        if not self.files:
            if meant := misplaced(self.root):
                raise DataError(f"{root}: {meant}")
            place = "val/official/00001.h5" if split == "val" else "train/<scene>/00001.h5"
            raise DataError(
                f"{root}: no frames for the split {split}; expected FastDepth's packing of NYU "
                f"Depth V2, such as {place}"
            )
        self.ids = tuple(
            printable(file.relative_to(self.root).with_suffix("").as_posix()) for file in self.files
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids, and names and sizes of the files."""
        return fingerprint(self.name, self.ids, describe_files(self.root, self.paths()))

    def paths(self) -> Iterator[Path]:
        """All files of the samples."""
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DataError: if its file is damaged or has gone.
        """
        rgb, depth = read_frame(self.files[index])
        return Sample(self.ids[index], rgb, depth, intrinsics())

    def encoded(self, index: int) -> EncodedSample:
        """Read one sample, its image encoded as PNG.

        Raises:
            DataError: if its file is damaged or has gone.
        """
        rgb, depth = read_frame(self.files[index])
        return EncodedSample(
            id=self.ids[index],
            images={"image": encode_png(rgb)},
            origins={"image": str(self.files[index])},
            depth=depth,
            intrinsics=intrinsics(),
        )


def intrinsics() -> np.ndarray:
    """Intrinsics of NYU's colour camera: float32 (3, 3), in pixels of the full-size image."""
    return np.array([[_FX, 0, _CX], [0, _FY, _CY], [0, 0, 1]], np.float32)


def list_files(root: Path, split: str) -> list[Path]:
    """List a split's files, sorted; the list may be empty.

    Raises:
        DataError: if folder or split do not exist.
    """
    if split not in SPLITS:
        raise DataError(f"NYU has no split {split!r}; there are: {', '.join(SPLITS)}")
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder; expected FastDepth's packing of NYU Depth V2, with val and "
            "train in it"
        )
    if split == "val":
        return sorted(root.glob("val/official/*.h5"))
    files = sorted(root.glob("train/*/*.h5"))
    return [file for file in files if (file.stem in _HELD_OUT) == (split == "held_out")]


def misplaced(root: Path) -> str | None:
    """A clause of an error message if `root` is a level off; None if it is right."""
    if _holds_splits(root):
        return None
    return say_level(root, _holds_splits, "val and train") or None


def _holds_splits(folder: Path) -> bool:
    return any(next(folder.glob(files), None) for files in ("val/official/*.h5", "train/*/*.h5"))


def read_frame(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read image, uint8 (480, 640, 3), and depth, float32 (480, 640) in metres, 0 where unknown.

    Raises:
        DataError: if the file is missing, damaged, or no frame of this packing.
    """
    found = read_arrays(file, ("rgb", "depth"), _check_form, what="FastDepth's packing")
    rgb, depth = found["rgb"], found["depth"]
    with np.errstate(all="ignore"):
        # Values too large for float32 become infinite, which means unknown.
        depth = depth.astype(np.float32)
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    return np.ascontiguousarray(np.moveaxis(rgb, 0, 2)), depth


def _check_form(arrays: Mapping[str, Any]) -> None:
    rgb, depth = arrays["rgb"], arrays["depth"]
    shapes = rgb.shape == (3, HEIGHT, WIDTH) and depth.shape == (HEIGHT, WIDTH)
    if not shapes or rgb.dtype != np.uint8:
        raise DataError(
            f"rgb is {rgb.dtype} {rgb.shape} and depth {depth.shape}; expected uint8 "
            f"(3, {HEIGHT}, {WIDTH}) and ({HEIGHT}, {WIDTH})"
        )
    if depth.dtype.kind not in "fiu" or depth.dtype.itemsize > 8:
        raise DataError(f"depth is {depth.dtype}; expected numbers, such as float32")


def half_size(array: np.ndarray) -> np.ndarray:
    """Halve height and width by nearest neighbour, as FastDepth's evaluation does.

    Keeps the lower right pixel of every 2×2: nearest neighbour with half-pixel centres.

    Args:
        array: (H, W, ...).

    Returns:
        (H // 2, W // 2, ...).

    >>> half_size(np.arange(8).reshape(2, 4))
    array([[5, 7]])
    """
    return array[1::2, 1::2]


def center_crop(
    array: np.ndarray, height: int = CROP_HEIGHT, width: int = CROP_WIDTH
) -> np.ndarray:
    """Crop to the centre, from row round((H − height) / 2) on, and likewise for columns.

    Args:
        array: (H, W, ...).
        height: number of rows to keep.
        width: number of columns to keep.

    Returns:
        (height, width, ...).

    Raises:
        DataError: if the array is smaller than the crop.

    >>> center_crop(np.arange(20).reshape(4, 5), 2, 3)
    array([[ 6,  7,  8],
           [11, 12, 13]])
    """
    rows, columns = array.shape[:2]
    if rows < height or columns < width:
        raise DataError(f"{columns}×{rows} pixels cannot be cropped to {width}×{height}")
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    return array[top : top + height, left : left + width]
