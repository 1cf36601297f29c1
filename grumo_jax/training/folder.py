"""A run's folder: its identity, and a lock, so that only one process writes to it."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax._internal.differences import differences
from grumo_jax._internal.locks import lock_file
from grumo_jax._internal.sealed import parse_json, seal_of
from grumo_jax.errors import GrumoError
from grumo_jax.networks.checkpoint import CARD
from grumo_jax.training.saving import list_states
from grumo_jax.training.settings import Settings

RUN, MODEL, STATES = "run.json", "model", "checkpoints"
"""In a run's folder: its identity, the trained network, and the states to resume from."""
_LOCK, _SEAL = ".lock", "seal"
_LONGEST = 2**24
"""Most bytes of a description that are read."""


@contextmanager
def open_run(path: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """Create a run's folder, or check that it is of the same run, and lock it.

    Args:
        path: the folder; its identity may change as long as nothing is saved in it.
        identity: everything the result depends on, as JSON.

    Yields:
        The folder's absolute path.

    Raises:
        GrumoError: if it is a file, or of another run, or in use.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise GrumoError(f"{path}: a file; a run needs a folder")
    if path.exists() and not (path / RUN).exists() and _is_foreign(path):
        raise GrumoError(f"{path}: holds other files, and no {RUN}; choose a new or empty folder")
    path.mkdir(parents=True, exist_ok=True)
    with (path / _LOCK).open("a") as lock:
        if not lock_file(lock):
            raise GrumoError(f"{path}: another process is training in this folder")
        _check_identity(path, identity)
        # Left unfinished by a killed process.
        for partial in path.glob(f"{STATES}/.*.state"):
            partial.unlink()
        yield path


def find_checkpoint(path: Path) -> Path:
    """The checkpoint of a run's folder, or the folder itself if it is one."""
    return path / MODEL if (path / MODEL / CARD).is_file() else path


def read_settings(folder: Path) -> Settings:
    """The settings of the run in a folder.

    Raises:
        GrumoError: if its description is damaged.
    """
    stored = _read_identity(folder)
    try:
        return Settings(**{f.name: stored[f.name] for f in dataclasses.fields(Settings)})
    except GrumoError as error:
        raise GrumoError(f"{folder / RUN}: {error}") from error


def run_seal(folder: Path) -> str:
    """A hash that identifies a run; its states contain it.

    Raises:
        GrumoError: if its description is damaged.
    """
    return seal_of(_read_content(folder))


def _read_identity(folder: Path) -> dict[str, Any]:
    # Settings that are newer than the run get their defaults.
    return {**Settings().to_json(), **_read_content(folder)}


def _read_content(folder: Path) -> dict[str, Any]:
    file = folder / RUN
    try:
        with file.open("rb") as stream:
            content = parse_json(stream.read(_LONGEST))
        seal = content.pop(_SEAL, None)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise GrumoError(f"{file}: damaged; train into another folder") from error
    if seal is None:
        raise GrumoError(
            f"{file}: written by another version of grumo_jax, which did not record which; train "
            "into another folder"
        )
    if seal != seal_of(content):
        raise GrumoError(f"{file}: changed since it was written; train into another folder")
    return content


def _has_results(folder: Path) -> bool:
    kept = (*list_states(folder / STATES), *folder.glob(f"{MODEL}/*"), *folder.glob("snapshot_*"))
    return bool(kept)


def _is_foreign(path: Path) -> bool:
    return any(file.name != _LOCK and not file.name.endswith(RUN) for file in path.iterdir())


def _check_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    file = folder / RUN
    # A run that saved nothing may start again with other settings.
    if not file.exists() or not _has_results(folder):
        text = json.dumps({**identity, _SEAL: seal_of(identity)}, indent=1) + "\n"
        write_atomically(file, lambda stream: stream.write(text.encode()))
        return
    stored = _read_identity(folder)
    found = [
        f"{name} was {before} and is now {now}"
        for name, before, now in differences(stored, identity, missing="not recorded")
    ]
    if found:
        raise GrumoError(
            f"{folder}: holds a run of other settings ({'; '.join(found)}); choose "
            "another folder, or give the same settings to resume it"
        )
