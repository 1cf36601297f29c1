"""A checkpoint's card, `checkpoint.json`, validated before use."""

import dataclasses
import json
import re
import reprlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from grumo_jax._internal.hashing import hash_json
from grumo_jax._internal.sealed import parse_json
from grumo_jax.errors import CheckpointError

FORMAT = 1
CARD = "checkpoint.json"
"""File beside orbax's that holds the configuration and the hashes."""
LARGEST = 2**20
"""Largest size of a card in bytes; those that are written have about two thousand."""
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Card:
    """The content of a card.

    Attributes:
        model: name of the network's class.
        configuration: the class's fields, as JSON values.
        sha256: `content_hash` of configuration and variables.
        files: {path relative to the checkpoint's folder: SHA-256 of the file}.
    """

    model: str
    configuration: dict[str, Any]
    sha256: str
    files: dict[str, str]


def write_card(folder: Path, card: Card) -> None:
    """Write a checkpoint's card, sealed."""
    content: dict[str, Any] = {"grumo_jax": FORMAT, **dataclasses.asdict(card)}
    content["seal"] = seal(content)
    (folder / CARD).write_text(json.dumps(content, indent=1) + "\n")


def read_card(folder: Path) -> Card:
    """Read a checkpoint's card.

    Raises:
        CheckpointError: if it is missing or damaged, or invalid despite a correct seal, which
            anyone can compute.
    """
    content = _parse(folder)
    version = content.get("grumo_jax")
    if type(version) is int and version != FORMAT:
        raise CheckpointError(f"{folder}: written by a newer grumo_jax; update the library")
    said = {name: value for name, value in content.items() if name not in ("grumo_jax", "seal")}
    names = [field.name for field in dataclasses.fields(Card)]
    missing = [name for name in names if name not in said]
    problem = f"has no {missing[0]}" if missing else find_misfit(said, dataclasses.fields(Card))
    if type(version) is not int:
        problem = "has no version"
    if problem is None:
        card = Card(**{name: said[name] for name in names})
        problem = _find_bad_hash(card)
    if problem is not None:
        raise made_up(folder, problem)
    return card


def made_up(folder: Path, problem: str) -> CheckpointError:
    """The error for a card whose seal is correct and whose content is not."""
    return CheckpointError(
        f"{folder}: damaged or made up ({CARD} {problem}); get it again from where it comes from"
    )


def seal(content: Mapping[str, Any]) -> str:
    """SHA-256 of the card without its seal, to detect changes before the card is used."""
    rest = {name: value for name, value in content.items() if name != "seal"}
    return hash_json(rest)


def find_misfit(values: Mapping[str, Any], fields: Iterable[Any]) -> str | None:
    """Describe the first JSON value that is not of its field's type; None if all are.

    Args:
        values: {name of a field: value}.
        fields: fields of the dataclass; those without a value are skipped.

    >>> find_misfit({"model": "Monodepth2", "files": {"a": 1}}, dataclasses.fields(Card))
    "files is {'a': 1}; expected dict[str, str]"
    """
    for field in fields:
        if field.name in values and not _is_of(values[field.name], field.type):
            name = getattr(field.type, "__name__", "") if isinstance(field.type, type) else ""
            expected = str(field.type).replace("typing.", "") if get_args(field.type) else name
            return f"{field.name} is {reprlib.repr(values[field.name])}; expected {expected}"
    return None


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a type: tuples are lists in JSON, and a bool is not a number."""
    origin, options = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if kind is float:
        # Compared, not converted: a JSON integer may have thousands of digits.
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    if origin is Literal:
        return isinstance(value, str) and value in options
    if origin in (Union, UnionType):
        return any(_is_of(value, option) for option in options)
    if origin is tuple:
        if options[-1] is Ellipsis:
            return isinstance(value, list) and all(_is_of(item, options[0]) for item in value)
        fits = isinstance(value, list) and len(value) == len(options)
        return fits and all(map(_is_of, value, options))
    if origin is dict:
        return isinstance(value, dict) and all(_is_of(v, options[1]) for v in value.values())
    return value is None if kind is NoneType else type(value) is kind


def _find_bad_hash(card: Card) -> str | None:
    hashes = {"the network": card.sha256, **card.files}
    for name, digest in hashes.items():
        if not _HASH.fullmatch(digest):
            return f"has {reprlib.repr(digest)} for the SHA-256 of {reprlib.repr(name)}"
    for name in card.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not name.isprintable() or "\\" in name:
            return f"lists {reprlib.repr(name)}, which is no file below it"
    return None


def _parse(folder: Path) -> dict[str, Any]:
    """The card's content, after its seal is verified."""
    file = folder / CARD
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such directory")
    try:
        if not any(folder.iterdir()):
            raise CheckpointError(f"{folder}: empty; expected a checkpoint directory")
        if not file.is_file():
            raise CheckpointError(
                f"{folder}: no checkpoint of grumo_jax, since it has no {CARD}; make one with "
                "save_checkpoint or `grumo convert`"
            )
        with file.open("rb") as stream:
            text = stream.read(LARGEST + 1)
    except OSError as error:
        raise CheckpointError(f"{folder}: {(error.strerror or 'not readable').lower()}") from error
    if len(text) > LARGEST:
        raise CheckpointError(f"{folder}: damaged ({CARD} is larger than any card); copy it again")
    try:
        content = parse_json(text)
        sealed = isinstance(content, dict) and content.get("seal") == seal(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{folder}: damaged ({CARD} cannot be read); copy it again"
        ) from error
    if not sealed:
        raise CheckpointError(f"{folder}: damaged ({CARD} is not what was saved); copy it again")
    return content
