"""Depth maps in files: 16-bit PNGs as KITTI's and NYU's, and numpy arrays."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from grumo_jax.data.encoding import read_bytes
from grumo_jax.errors import DataError
from grumo_jax.images import DEPTH_PNG_SCALE, write_png16

DEPTH_SUFFIXES = (".png", ".npy", ".npz")


def read_depth(path: str | Path, scale: float = DEPTH_PNG_SCALE) -> np.ndarray:
    """Read a depth map as float32 (H, W) in metres, 0 where there is none.

    NaN, infinite and negative values, which other programs write for "none", become 0.

    Args:
        path: a 16-bit PNG that holds depth · scale, or a .npy or .npz file that holds metres
            (of a .npz the array called `depth`, or the only one).
        scale: PNGs only: 256 for KITTI's, 1000 for files in millimetres.

    Raises:
        DataError: if the file is missing, damaged, or no depth map.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".png":
        depth = _decode_png16(read_bytes(path), path).astype(np.float32) / np.float32(scale)
    elif suffix in (".npy", ".npz"):
        depth = _read_numpy(path)
    else:
        raise DataError(
            f"{path}: not a depth file; expected {', '.join(DEPTH_SUFFIXES)} (PNGs of 16 bits)"
        )
    if depth.ndim != 2 or depth.dtype.kind not in "fiu" or depth.size == 0:
        raise DataError(
            f"{path}: {depth.dtype} {depth.shape} is no depth map; expected (height, width)"
        )
    depth = depth.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def write_depth_png(path: str | Path, depth: np.ndarray, scale: float = DEPTH_PNG_SCALE) -> None:
    """Write metres as a 16-bit PNG, atomically; values that are no depth become 0.

    What `read_depth` gives of it differs by at most half a step of 1/scale metres, and not at
    all if it came from such a file.

    Args:
        path: the file to write.
        depth: (H, W) in metres.
        scale: stored is depth · scale.

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


def _decode_png16(data: bytes, path: Path) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, values = image.mode, np.asarray(image)
    except Exception as error:
        # Decoders raise errors of many classes for damaged files.
        what = "empty" if not data else "damaged or no PNG"
        raise DataError(f"{path}: {what}; copy it again") from error
    if not mode.startswith("I") or values.ndim != 2:
        raise DataError(
            f"{path}: a picture of kind {mode}, not a depth map; expected a 16-bit gray PNG"
        )
    return values


def _read_numpy(path: Path) -> np.ndarray:
    try:
        loaded = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
            if "depth" not in names and len(names) != 1:
                raise DataError(
                    f"{path}: holds {', '.join(names) or 'nothing'}; expected an array called depth"
                )
            return loaded["depth" if "depth" in names else names[0]]
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged or no numpy file; copy it again") from error
