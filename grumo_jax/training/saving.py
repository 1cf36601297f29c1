"""Saving a run's state so that no kill and no damage costs more than a few steps."""

import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import jax
import numpy as np

from grumo_jax.errors import CheckpointError
from grumo_jax.images import write_atomically

_T = TypeVar("_T")
KEPT = 2
"""States that are kept: if the last one is damaged, there is the one before."""
_SUFFIX = ".state"
_NAME = re.compile(r"step_(\d{9})\.state")
_MAGIC = b"grumo_jax training state 1 "
_POSITIONS = "position"


@dataclass(frozen=True)
class Saved:
    """What was read back.

    Attributes:
        step: number of steps done.
        positions: samples that each process had used by then.
        state: the tree.
    """

    step: int
    positions: tuple[int, ...]
    state: Any


def save_state(folder: Path, step: int, positions: Sequence[int], state: Any) -> Path:
    """Write a state, atomically, and remove all but the last two.

    The file is a line with a SHA-256, then an .npz archive of all leaves under their paths.

    Args:
        folder: of the states; made where there is none.
        step: number of steps done.
        positions: samples that each process has used.
        state: tree of arrays.

    Returns:
        The file.

    Raises:
        CheckpointError: if it cannot be written.
    """
    leaves, _ = jax.tree.flatten_with_path(jax.device_get(state))
    arrays: dict[str, Any] = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    archive = io.BytesIO()
    np.savez(archive, **{**arrays, _POSITIONS: np.array(positions, np.int64)})
    content = archive.getbuffer()
    header = _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"
    path = folder / f"step_{step:09d}{_SUFFIX}"

    def write(stream: IO[bytes]) -> None:
        stream.write(header)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())

    try:
        write_atomically(path, write)
        for old in list_states(folder)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); the same command resumes from "
            "the state before"
        ) from error
    return path


def list_states(folder: Path) -> list[Path]:
    """The states in a folder, oldest first."""
    return sorted(file for file in folder.glob(f"*{_SUFFIX}") if _NAME.fullmatch(file.name))


def load_latest(folder: Path, like: Any, warn: Callable[[str], None]) -> Saved:
    """Read the last state that is undamaged.

    Args:
        folder: of the states.
        like: tree of arrays, or of their shapes and dtypes, as the state must be.
        warn: is told, in one sentence, of each state that is damaged.

    Returns:
        The state, as numpy arrays.

    Raises:
        CheckpointError: if all of them are damaged, or there is none.
    """
    return _read_latest(folder, lambda file: _load(file, like), warn)


def latest_leaves(folder: Path) -> Mapping[str, np.ndarray]:
    """The leaves of the last state that is undamaged, by their paths; none if there is no state.

    Raises:
        CheckpointError: if all of them are damaged.
    """
    return _read_latest(folder, read_leaves) if list_states(folder) else {}


def _read_latest(
    folder: Path, read: Callable[[Path], _T], warn: Callable[[str], None] = lambda sentence: None
) -> _T:
    reason = "there is none"
    for file in reversed(list_states(folder)):
        try:
            return read(file)
        except CheckpointError as error:
            reason = str(error)
            warn(f"{reason}; falling back to the state before")
    raise CheckpointError(
        f"{folder}: not one state in it can be used; train anew into another folder ({reason})"
    )


def read_leaves(file: Path) -> Mapping[str, np.ndarray]:
    """Read a state's leaves by their paths, after checking that they are what was saved.

    Raises:
        CheckpointError: if the file is damaged.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: {(error.strerror or 'not readable').lower()}") from error
    header, _, content = data.partition(b"\n")
    if header != _MAGIC + hashlib.sha256(content).hexdigest().encode():
        raise CheckpointError(f"{file}: damaged, since its content is not what was saved")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _load(file: Path, like: Any) -> Saved:
    arrays = read_leaves(file)
    leaves, structure = jax.tree.flatten_with_path(like)
    wanted = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    found = {name: (a.shape, a.dtype) for name, a in arrays.items() if name != _POSITIONS}
    if found != {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}:
        raise CheckpointError(f"{file}: the state of another network or optimiser")
    match = _NAME.fullmatch(file.name)
    assert match is not None
    state = jax.tree.unflatten(structure, [arrays[name] for name in wanted])
    # Before there could be several processes, it was a number.
    positions = np.atleast_1d(arrays[_POSITIONS]).tolist()
    return Saved(int(match[1]), tuple(positions), state)
