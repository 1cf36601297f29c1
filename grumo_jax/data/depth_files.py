"""Read and write depth maps: 16-bit PNGs, as KITTI and NYU have them, and NumPy arrays."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from grumo_jax.data.encoding import read_bytes
from grumo_jax.data.numpy_files import check_pixels, read_npy, read_npz
from grumo_jax.errors import DataError, ImageError
from grumo_jax.images import DEPTH_PNG_SCALE, check_alone, read_orientation, write_png16

DEPTH_SUFFIXES = (".png", ".npy", ".npz")
MOST_PIXELS = 178_956_970
"""Largest depth map: as many pixels as the largest photo that Pillow reads."""
_MOST_PIXEL_BYTES, _HEADERS = 8, 2**20


def read_depth(path: str | Path, scale: float = DEPTH_PNG_SCALE) -> np.ndarray:
    """Read a depth map as float32 (H, W) in metres, 0 where unknown.

    NaN, infinite and negative values, which other programs write for "unknown", become 0. PNGs
    are rotated by their EXIF orientation, as photos are.

    Args:
        path: a 16-bit PNG that holds depth · scale, or a .npy or .npz file in metres (of a .npz
            the array `depth`, or the only one).
        scale: PNGs only: steps per metre, 256 for KITTI, 1000 for millimetres.

    Raises:
        DataError: if the file is missing, damaged, or no depth map.

    Example:
        >>> np.save("depth.npy", np.array([[1.5, np.nan], [-1.0, 80.0]]))
        >>> read_depth("depth.npy")
        array([[ 1.5,  0. ],
               [ 0. , 80. ]], dtype=float32)
    """
    return read_turned_depth(path, scale)[0]


def read_turned_depth(
    path: str | Path, scale: float = DEPTH_PNG_SCALE, most: int = MOST_PIXELS
) -> tuple[np.ndarray, int]:
    """Read a depth map as `read_depth` does, with its EXIF orientation: 1 is upright.

    Args:
        path: the file.
        scale: PNGs only: steps per metre.
        most: largest number of pixels; a file that declares more is refused before it is decoded.

    Returns:
        (float32 (H, W), EXIF orientation).

    Raises:
        DataError: if the file is missing, damaged, too large, or no depth map.
    """
    path, orientation = Path(path), 1
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise DataError(
            f"{path}: not a depth file; expected {', '.join(DEPTH_SUFFIXES)} (PNGs of 16 bits)"
        )
    data = read_bytes(path, _MOST_PIXEL_BYTES * most + _HEADERS)
    if not data:
        raise DataError(f"{path}: empty; copy it again")
    if suffix == ".png":
        depth, orientation = _decode_png16(data, path, most)
        depth = depth.astype(np.float32) / np.float32(scale)
    else:
        read = read_npy if suffix == ".npy" else read_npz
        depth = read(io.BytesIO(data), path, most)
    with np.errstate(all="ignore"):
        # Values too large for float32 become infinite, which means unknown.
        depth = depth.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0)), orientation


def write_depth_png(path: str | Path, depth: np.ndarray, scale: float = DEPTH_PNG_SCALE) -> None:
    """Write depth in metres as a 16-bit PNG, atomically; values that are no depth become 0.

    `read_depth` returns it to within half a step of 1/scale metres; depth that was read from such
    a file is returned exactly.

    Args:
        path: the file to write.
        depth: (H, W) in metres.
        scale: steps per metre.

    Raises:
        DataError: if a depth does not fit in 16 bits.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_depth_png(f"{folder}/depth.png", np.array([[0, 1.5], [np.inf, 80]]))
    ...     read_depth(f"{folder}/depth.png")
    array([[ 0. ,  1.5],
           [ 0. , 80. ]], dtype=float32)
    """
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0)
    farthest = float(depth.max(initial=0))
    if round(farthest * scale) > 65535:
        raise DataError(
            f"{path}: {farthest:.1f} m does not fit in 16 bits at {scale} steps per metre; at most "
            f"{65535 / scale:.1f} m do"
        )
    write_png16(path, depth, scale)


def _decode_png16(data: bytes, path: Path, most: int) -> tuple[np.ndarray, int]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            check_alone(image)
            check_pixels(image.size[::-1], path, most)
            if not image.mode.startswith("I"):
                raise DataError(
                    f"{path}: a picture of kind {image.mode}, not a depth map; expected a 16-bit "
                    "gray PNG"
                )
            orientation = read_orientation(image)
            return np.asarray(ImageOps.exif_transpose(image)), orientation
    except DataError:
        raise
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:
        # Decoders raise errors of many classes for damaged files.
        raise DataError(f"{path}: damaged or no PNG; copy it again") from error
