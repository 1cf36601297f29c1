"""Match depth maps to photos, and check that EXIF orientations agree."""

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from grumo_jax._internal.files import count_kinds, suffixes_among, walk_files
from grumo_jax._internal.picture_kinds import UNREAD
from grumo_jax.data.depth_files import DEPTH_SUFFIXES
from grumo_jax.errors import DataError, GrumoWarning, printable

_DEPTH_UNREAD = UNREAD | {".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".bmp", ".mat", ".h5", ".hdf5"}


def pair_depths(
    images: Mapping[str, Path], folder: Path, pair: Literal["name", "order"]
) -> dict[str, Path]:
    """Match photos with depth maps, by name or by order.

    Args:
        images: {name: file} of the photos.
        folder: searched for depth maps, with its subfolders.
        pair: see `ImageFolder`.

    Returns:
        {name of the photo: file of its depth map}.

    Raises:
        DataError: if the folder is missing or empty, two depth maps have the same name, or
            nothing matches.
    """
    depths = _find_depths(folder)
    if pair == "order":
        return _pair_by_order(images, depths, folder)
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


def _pair_by_order(
    images: Mapping[str, Path], depths: Mapping[str, Path], folder: Path
) -> dict[str, Path]:
    if len(depths) != len(images):
        raise DataError(
            f"{folder}: {len(depths)} depth maps for {len(images)} photos; pairing by order "
            "needs as many of one as of the other"
        )
    pairs = dict(zip(_in_order(images, folder), _in_order(depths, folder), strict=True))
    _check_numbers(pairs, folder)
    return {name: depths[depth] for name, depth in pairs.items()}


def _in_order(names: Iterable[str], folder: Path) -> list[str]:
    """Sort names folder by folder, in natural order: digits compare as numbers.

    Raises:
        DataError: if the order depends on whether "1.5" is a decimal number or 1, then 5.

    >>> _in_order(["b10", "b9", "b2/x", "a"], Path())
    ['a', 'b2/x', 'b9', 'b10']
    """
    ordered = sorted(names, key=lambda name: (_split(name, _WHOLE), name))
    by_decimals = sorted(ordered, key=lambda name: (_split(name, _DECIMAL), name))
    for one, other in zip(ordered, by_decimals, strict=True):
        if one != other:
            raise DataError(
                f"{folder}: pairing by order needs to know whether {one!r} or {other!r} comes "
                "first; give all numbers as many digits"
            )
    return ordered


_WHOLE, _DECIMAL = re.compile(r"(\d+)()"), re.compile(r"(\d+)(\.\d+)?")


def _split(name: str, number: re.Pattern[str]) -> list[list[str | tuple[int, str]]]:
    """Sort key: text and numbers of each folder, alternating, so that types never mix."""
    parts: list[list[str | tuple[int, str]]] = []
    for part in name.split("/"):
        texts, *rest = number.split(part)
        parts.append([texts])
        for whole, fraction, text in zip(*[iter(rest)] * 3, strict=True):
            parts[-1] += [(int(whole), (fraction or "").rstrip("0")), text]
    return parts


def _check_numbers(pairs: Mapping[str, str], folder: Path) -> None:
    """Warn where some pairs have equal numbers and others do not: a file may be missing."""
    numbers = {name: (_last_number(name), _last_number(pairs[name])) for name in pairs}
    apart = [name for name, (one, other) in numbers.items() if one != other]
    if not 0 < len(apart) < len(pairs):
        return
    first = apart[0]
    warnings.warn(
        GrumoWarning(
            f"{folder}: {len(apart)} of {len(pairs)} pairs by order have different numbers, the "
            f"first of them photo {first!r} with depth {pairs[first]!r}; if one of either kind is "
            "missing, remove its partner"
        ),
        stacklevel=2,
    )


def _last_number(name: str) -> int | None:
    found = re.findall(r"\d+", name)
    return int(found[-1]) if found else None


def _find_depths(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with depth maps in it")
    found: dict[str, Path] = {}
    files = walk_files(folder)
    for file in files:
        if file.suffix.lower() not in DEPTH_SUFFIXES:
            continue
        name = printable(file.relative_to(folder).with_suffix("").as_posix())
        if found.setdefault(name, file) != file:
            raise DataError(f"{file} and {found[name]} have the same name; remove one of them")
    unread = count_kinds(suffixes_among(files, _DEPTH_UNREAD))
    if not found:
        others = f"; {unread}" if unread else ""
        raise DataError(f"{folder}: no depth maps in this folder ({_KINDS}){others}")
    if unread:
        warnings.warn(GrumoWarning(f"{folder}: {unread}; depth is {_KINDS}"), stacklevel=2)
    return found


_KINDS = ", ".join(DEPTH_SUFFIXES)


def check_turns(
    photo: Path, depth_file: Path, image: np.ndarray, depth: np.ndarray, turns: tuple[int, int]
) -> None:
    """Refuse a pair whose EXIF orientations differ: one may be rotated against the other.

    If one is rotated by 90° and the sizes agree afterwards, both are upright: that only warns.

    Args:
        photo, depth_file: the files.
        image, depth: their content after the EXIF rotation, (H, W, …).
        turns: their EXIF orientations.

    Raises:
        DataError: if photo and depth map may be rotated differently.
    """
    if turns[0] == turns[1]:
        return
    height, width = image.shape[:2]
    sideways = (turns[0] >= 5) != (turns[1] >= 5) and height != width
    if sideways and depth.shape == (height, width):
        warnings.warn(GrumoWarning(_UPRIGHT), stacklevel=2)
        return
    raise DataError(
        f"{photo}: its EXIF orientation is {turns[0]}, and that of its depth map {depth_file} is "
        f"{turns[1]}, so one would be turned without the other; save both upright, or both with "
        "the same EXIF orientation"
    )


_UPRIGHT = (
    "the EXIF orientation of photos or of depth maps alone turns them; by their sizes both are "
    "upright then, and taken as they are"
)
