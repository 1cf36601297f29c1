"""Photos in, maps out: files on disk."""

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from grumo_jax.errors import ImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
DEPTH_PNG_SCALE = 256
"""16-bit PNGs store depth · 256, as KITTI's do."""
UNIT_PNG_SCALE = 65535
"""16-bit PNGs store values in [0, 1] · 65535."""


def read_image(path: str | Path | IO[bytes]) -> np.ndarray:
    """Read a photo, a file or an open one, as uint8 (H, W, 3).

    It is turned upright if its EXIF data say so; 16-bit gray is scaled to 8 bits, and what is
    transparent becomes white.

    Raises:
        ImageError: if the file is missing, not readable, damaged, too large or no photo.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ImageError(f"{path}: {(error.strerror or 'not readable').lower()}") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ImageError(f"{path}: more than {limit} megapixels; make it smaller") from error
    except Exception as error:
        # Decoders raise errors of many classes for damaged files, and one photo must not cost
        # the others.
        raise ImageError(f"{path}: damaged or no image") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(f"pixels of kind {image.mode} are no photo; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def find_images(
    paths: Iterable[str | Path], *, leave_out: str | Path | None = None
) -> dict[str, Path]:
    """List photos: files as given, and all images below folders but for hidden ones.

    Args:
        paths: files and folders.
        leave_out: a folder whose files do not count, such as that of the results.

    Returns:
        {name: file} in sorted order; the name, without suffix, is unique and is what results
        are called: the path below the given folder, or the file's own name.

    Raises:
        ImageError: if a path does not exist, a folder holds no image, or two photos would get
            the same name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if _is_photo(file, leave_out))
            if not files:
                raise ImageError(f"{path}: no images in this folder ({', '.join(SUFFIXES)})")
        elif path.exists():
            files = [path]
        else:
            raise ImageError(f"{path}: no such file or folder")
        for file in files:
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            key = name.with_suffix("").as_posix()
            if found.setdefault(key, file) != file:
                raise ImageError(
                    f"{file} and {found[key]} would both be called {key!r}; rename one of them"
                )
    return found


def _is_photo(file: Path, leave_out: str | Path | None) -> bool:
    if leave_out is not None and file.resolve().is_relative_to(Path(leave_out).resolve()):
        return False
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def resize_photo(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (height, width) with Lanczos' filter, as float32 in [0, 1].

    Raises:
        ImageError: if the photo is not uint8 (H, W, 3).
    """
    photo = np.asarray(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[-1] != 3:
        raise ImageError(
            f"the photo is {photo.dtype} {photo.shape}; expected uint8 (height, width, 3), as "
            "grumo_jax.read_image gives it"
        )
    height, width = size
    resized = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float32) / 255


def write_png16(path: str | Path, values: np.ndarray, scale: float) -> None:
    """Write values · scale, rounded and clipped to 0 … 65535, as a 16-bit PNG, atomically."""
    stored = np.clip(np.rint(np.nan_to_num(values) * scale), 0, 65535).astype(np.uint16)
    write_atomically(path, lambda stream: Image.fromarray(stored).save(stream, format="PNG"))


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file beside `path` and move it there: all of it or nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        with partial.open("wb") as stream:
            write(stream)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
