"""Encode and decode image files, without loss."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grumo_jax._internal.files import open_regular
from grumo_jax.errors import DataError, ImageError
from grumo_jax.images import DAMAGED, read_turned

MOST_BYTES = 256 * 2**20
"""Largest file that is read into memory; images of data sets have a few megabytes."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a whole file.

    Args:
        path: the file.
        most: largest size in bytes.

    Raises:
        DataError: if it is missing, not a regular file, larger than `most`, or unreadable.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > most:
                raise DataError(
                    f"{path}: {size / 2**20:,.0f} MB; a file of this kind has {most / 2**20:,.0f} "
                    "MB at most"
                )
            return stream.read(size + 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or 'not readable').lower()}") from error


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decode an image file to uint8 (H, W, 3).

    Args:
        data: content of the file, such as a JPEG or PNG.
        where: its name in error messages.

    Raises:
        DataError: if it is damaged or no image, or has an EXIF rotation: depth and calibration
            refer to the image as it is stored.
    """
    if not data:
        raise DataError(f"{where}: empty; copy it again")
    try:
        image, orientation = read_turned(io.BytesIO(data), where)
    except ImageError as error:
        again = "; copy it again" * str(error).endswith(DAMAGED)
        raise DataError(f"{error}{again}") from error
    if orientation != 1:
        raise DataError(
            f"{where}: its EXIF orientation ({orientation}) turns it, but not its depth and "
            "calibration; copy the original file again"
        )
    return image


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) as PNG, quickly and without loss.

    >>> image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    >>> bool(np.array_equal(decode_image(encode_png(image), "test"), image))
    True
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def to_uint8(image: Any) -> np.ndarray:
    """Convert colours in [0, 1] to uint8; values outside are clipped."""
    return np.rint(np.clip(np.asarray(image), 0, 1) * 255).astype(np.uint8)
