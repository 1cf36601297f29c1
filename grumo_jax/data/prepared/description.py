"""Open prepared data safely: their descriptions are untrusted.

TFDS would import any Python module that `features.json` names, and open any file that
`dataset_info.json` names. Here the features come from this library's builders, and a folder's
description is only compared with them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grumo_jax.data.encoding import read_bytes
from grumo_jax.data.prepared.parts import BUILDERS
from grumo_jax.errors import DataError

INFO, FEATURES, FACTS = "dataset_info.json", "features.json", "metadata.json"
_MOST_BYTES = 64 * 2**20
_TEXTS = ("name", "contents")
_LISTS = ("ids", "missing", "damaged")


def open_builder(folder: Path) -> Any:
    """Make the builder of a folder `<data set>/<configuration>/<version>`, with our features.

    Raises:
        DataError: if the folder's description differs from the builder's, or names other files.
    """
    from grumo_jax.data.prepared.builders import MAKERS

    dataset = next(known for known, name in BUILDERS.items() if name == folder.parts[-3])
    for file in folder.iterdir():
        # TFDS reads some of these files itself, so all are checked before.
        _read_json(file) if file.suffix == ".json" else _check_there(file)
    builder = MAKERS[dataset](
        config=folder.parts[-2], data_dir=folder.parents[2], file_format="array_record"
    )
    own = set(_class_names(json.loads(json.dumps(builder.info.features.to_json()))))
    if foreign := set(_class_names(_read_json(folder / FEATURES))) - own:
        raise DataError(
            f"{folder / FEATURES}: names code that `grumo prepare` does not, {min(foreign)!r}; "
            "do not trust this folder"
        )
    for split in builder.info.splits.values():
        _check_places(folder, split.filepaths)
    return builder


def _class_names(node: Any) -> Iterator[str]:
    """All Python class names in a description, in TFDS's old format and its new one."""
    if isinstance(node, list):
        for child in node:
            yield from _class_names(child)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key in ("pythonClassName", "python_class_name", "type", "proto_cls"):
                yield str(child)
            yield from _class_names(child)


def _check_places(folder: Path, files: list[Any]) -> None:
    for file in files:
        if Path(file).parent != folder:
            raise DataError(
                f"{folder / INFO}: names a file elsewhere, {str(file)!r}; do not trust this folder"
            )
        _check_there(Path(file))


def read_facts(folder: Path) -> dict[str, Any]:
    """Read what `prepare` recorded: {TFDS split: its name, ids, crop, …}.

    Raises:
        DataError: if the record is missing or was not written by `grumo prepare`.
    """
    described = _read_json(folder / FACTS)
    facts = described.get("splits") if isinstance(described, dict) else None
    if not isinstance(facts, dict) or not all(map(_is_fact, facts.values())):
        raise DataError(f"{folder}: not written by `grumo prepare`; move it away")
    return facts


def _is_fact(fact: Any) -> bool:
    return (
        isinstance(fact, dict)
        and all(isinstance(fact.get(key), str) for key in _TEXTS)
        and all(isinstance(fact.get(key), list) for key in _LISTS)
        and all(isinstance(text, str) for key in _LISTS for text in fact[key])
        and fact.get("crop", "") in (None, "eigen")
    )


def _read_json(file: Path) -> Any:
    try:
        return json.loads(read_bytes(file, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, DataError) else f"{file}: no JSON"
        raise DataError(
            f"{file.parent}: damaged ({reason}); prepare it again with --overwrite"
        ) from error


def _check_there(file: Path) -> None:
    if not file.is_file():
        raise DataError(
            f"{file.parent}: damaged ({file.name} is no file); prepare it again with --overwrite"
        )
