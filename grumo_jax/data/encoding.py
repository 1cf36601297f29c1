"""Bytes of picture files to arrays and back, without loss."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grumo_jax.errors import DataError, ImageError
from grumo_jax.images import read_image


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or 'not readable').lower()}") from error


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decode a picture file to uint8 (H, W, 3).

    Args:
        data: what the file holds, such as a JPEG or PNG.
        where: what to call it in an error.

    Raises:
        DataError: if it is damaged or no picture.
    """
    try:
        return read_image(io.BytesIO(data))
    except ImageError as error:
        what = "empty" if not data else "damaged or no image"
        raise DataError(f"{where}: {what}; copy it again") from error


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
    """Colours in [0, 1] as bytes."""
    return np.rint(np.clip(np.asarray(image), 0, 1) * 255).astype(np.uint8)
