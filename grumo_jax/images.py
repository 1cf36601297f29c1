"""Photos: files on disk as arrays, and arrays as pictures."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import jax
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax._internal.files import count_kinds, lies_in, open_regular, suffixes_among, walk_files
from grumo_jax._internal.picture_kinds import UNREAD, name_kind
from grumo_jax.errors import GrumoWarning, ImageError, printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jfif")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Formats that are read. Pillow knows more, and starts other programs for some of them."""
DEPTH_PNG_SCALE = 256
"""16-bit PNGs store depth · 256, as KITTI's do."""
UNIT_PNG_SCALE = 65535
"""16-bit PNGs store values in [0, 1] · 65535."""
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R 601 gray."""
_ORIENTATION = 0x0112
DAMAGED = "damaged or no image"
_NO_PHOTO = f"no photo of a kind that is read ({', '.join(SUFFIXES)})"


def read_image(path: str | Path | IO[bytes]) -> np.ndarray:
    """Read a photo, from a path or an open file, as uint8 (H, W, 3).

    Its EXIF orientation is applied; 16-bit gray is scaled to 8 bits, and transparency becomes
    white.

    Raises:
        ImageError: if the file is missing, not readable, damaged, too large or no photo, such as
            an animation or a film.

    Example:
        >>> from pathlib import Path
        >>> import grumo_jax
        >>> read_image(Path(grumo_jax.__file__).parent / "photos" / "pagoda.jpg").dtype
        dtype('uint8')
    """
    return read_turned(path)[0]


def read_turned(
    path: str | Path | IO[bytes], where: str | Path | None = None
) -> tuple[np.ndarray, int]:
    """Read a photo as `read_image` does, and the EXIF orientation of the file: 1 is upright.

    Args:
        path: a path or an open file.
        where: its name in errors; the path by default.
    """
    where, suffix = str(path) if where is None else str(where), ""
    if isinstance(path, str | Path):
        suffix = Path(path).suffix.lower()
    if suffix in UNREAD:
        raise ImageError(f"{where}: {suffix} files are not read; save it as .png or .jpg")
    try:
        if isinstance(path, str | Path):
            with open_regular(path) as stream:
                return _decode(stream, suffix)
        return _decode(path, suffix)
    except ImageError as error:
        raise ImageError(f"{where}: {error}") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ImageError(f"{where}: more than {limit} megapixels; make it smaller") from error
    except MemoryError as error:
        raise ImageError(f"{where}: too large for the memory there is; make it smaller") from error
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise ImageError(f"{where}: {(error.strerror or 'not readable').lower()}") from error
        # Decoders raise errors of many classes for damaged files; one photo must not stop the
        # others.
        raise ImageError(f"{where}: {DAMAGED}") from error


def _decode(stream: IO[bytes], suffix: str) -> tuple[np.ndarray, int]:
    head = stream.read(64)
    stream.seek(0)
    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        promised = not suffix or suffix in SUFFIXES
        raise ImageError(name_kind(head) or (DAMAGED if promised else _NO_PHOTO)) from error
    with image:
        check_alone(image)
        orientation = read_orientation(image)
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image))), orientation


def check_alone(image: Image.Image) -> None:
    """Raise `ImageError` if a file holds several pictures: which one is meant is unknown.

    Of MPO files, which phones write, the first picture is the photo.
    """
    number = getattr(image, "n_frames", 1)
    if number > 1 and image.format != "MPO":
        raise ImageError(
            f"{number} pictures in one file, an animation or pages; save the one that is meant as "
            "a file of its own"
        )


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation of a picture: 1 is upright, 5 to 8 lie on their side."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(2, 9) else 1


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
    """List photos: files as given, and all images below folders except hidden ones.

    Links to folders are followed; each folder is listed once. A `GrumoWarning` counts pictures and
    films in formats that are not read.

    Args:
        paths: files and folders.
        leave_out: a folder to skip, such as that of the results.

    Returns:
        {name: file}, sorted. Names are unique and without suffix: the path below the given folder,
        or the file's own name. Results are stored under them.

    Raises:
        ImageError: if a path does not exist, a folder holds no image or lies in `leave_out`, or two
            photos would get the same name.
    """
    leave_out = None if leave_out is None else Path(leave_out)
    found: dict[str, Path] = {}
    unread: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            files, others = _photos_below(path, leave_out)
            unread += others
        elif os.path.lexists(path):
            files = [path]
        else:
            raise ImageError(f"{path}: no such file or folder")
        for file in files:
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            key = printable(name.with_suffix("").as_posix())
            if found.setdefault(key, file) != file:
                raise ImageError(
                    f"{file} and {found[key]} would both be called {key!r}; rename one of them"
                )
    if unread:
        warnings.warn(
            GrumoWarning(f"{count_kinds(unread)}; save them as .png or .jpg"), stacklevel=2
        )
    return found


def _photos_below(folder: Path, leave_out: Path | None) -> tuple[list[Path], list[str]]:
    """The photos of a folder, and the suffixes of pictures and films that are not read."""
    if leave_out is not None and lies_in(folder, leave_out):
        raise ImageError(
            f"{folder}: the photos lie in {leave_out}, whose files do not count as photos, as "
            "results or depth maps are kept there; keep the two apart"
        )
    files = walk_files(folder, leave_out=leave_out)
    photos = [file for file in files if file.suffix.lower() in SUFFIXES]
    unread = list(suffixes_among(files, UNREAD))
    if not photos:
        others = f"; {count_kinds(unread)}" if unread else ""
        raise ImageError(f"{folder}: no images in this folder ({', '.join(SUFFIXES)}){others}")
    return photos, unread


def resize_photo(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (height, width) by Lanczos resampling, as float32 in [0, 1].

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


def to_gray(images: jax.Array) -> jax.Array:
    """Luma (…, 1) of RGB images (…, 3)."""
    red, green, blue = (weight * images[..., i : i + 1] for i, weight in enumerate(LUMA))
    return red + green + blue
