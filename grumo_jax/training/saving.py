"""Save a run's state so that neither kills nor damaged files cost more than a few steps."""

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import jax
import numpy as np

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax._internal.hashing import hash_bytes
from grumo_jax.errors import CheckpointError

_T = TypeVar("_T")
KEPT = 2
"""Number of states kept: if the last is damaged, the one before is used."""
_SUFFIX = ".state"
_NAME = re.compile(r"step_(\d{9})\.state")
_MAGIC = b"grumo_jax training state "
_HEADER = re.compile(_MAGIC + b"2 ([0-9a-f]{64}) ([0-9a-f]*)")
"""The first line: SHA-256 of the rest, and the run of the state."""
_POSITIONS = "position"


@dataclass(frozen=True)
class Saved:
    """A state that was read.

    Attributes:
        step: number of steps done.
        positions: samples used by each process.
        state: the pytree.
    """

    step: int
    positions: tuple[int, ...]
    state: Any


def save_state(
    folder: Path, step: int, positions: Sequence[int], state: Any, *, run: str = ""
) -> Path:
    """Write a state atomically, and remove all but the last two.

    The file is a line with a SHA-256 and the run, then an .npz archive of {path: leaf}.

    Args:
        folder: of the states; created if missing.
        step: number of steps done.
        positions: samples used by each process.
        state: pytree of arrays.
        run: identifier of the run, hexadecimal.

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
    header = _MAGIC + f"2 {hash_bytes(run.encode(), content)} {run}\n".encode()
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
    found = folder.glob(f"*{_SUFFIX}")
    return sorted(file for file in found if _NAME.fullmatch(file.name) and file.is_file())


def load_latest(
    folder: Path, like: Any, warn: Callable[[str], None], *, run: str = "", steps: int | None = None
) -> Saved:
    """Read the last undamaged state.

    Args:
        folder: of the states.
        like: pytree of arrays, or of shapes and dtypes, that the state must match.
        warn: called with a sentence for each damaged state.
        run: identifier that the states must have, see `save_state`.
        steps: of the whole run, an upper bound for the state's.

    Returns:
        The state, as NumPy arrays.

    Raises:
        CheckpointError: if all are damaged, or there is none.
    """
    return _read_latest(folder, lambda file: _load(file, like, run, steps), warn)


def latest_leaves(folder: Path, run: str) -> Mapping[str, np.ndarray]:
    """{path: leaf} of a run's last undamaged state.

    Raises:
        CheckpointError: if all are damaged or of another run, or there is none.
    """
    return _read_latest(folder, lambda file: _leaves_of(file, run))


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


def read_leaves(file: Path) -> tuple[str, Mapping[str, np.ndarray]]:
    """Read and verify a state: the identifier of its run, and {path: leaf}.

    Raises:
        CheckpointError: if the file is damaged or no training's.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: {(error.strerror or 'not readable').lower()}") from error
    header, _, content = data.partition(b"\n")
    match = _HEADER.fullmatch(header)
    if match is None and header.startswith(_MAGIC):
        raise CheckpointError(f"{file}: written by another version of grumo_jax")
    if match is None or match[1].decode() != hash_bytes(match[2], content):
        raise CheckpointError(f"{file}: damaged, since its content is not what was saved")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if any(entry.file_size > len(content) for entry in archive.zip.infolist()):
                raise ValueError("nothing is compressed in a state")
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:
        # Archives raise errors of many classes; an earlier state may be sound.
        raise CheckpointError(f"{file}: damaged, its arrays cannot be read") from error
    if len(arrays) < len(archive.files):
        raise CheckpointError(f"{file}: damaged, it holds an array twice")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise CheckpointError(f"{file}: damaged, {name} holds what is no finite number")
    return match[2].decode(), arrays


def _leaves_of(file: Path, run: str) -> Mapping[str, np.ndarray]:
    found, arrays = read_leaves(file)
    if found != run:
        raise CheckpointError(f"{file}: the state of another run, or the run's description changed")
    return arrays


def _load(file: Path, like: Any, run: str, steps: int | None) -> Saved:
    arrays = _leaves_of(file, run)
    leaves, structure = jax.tree.flatten_with_path(like)
    wanted = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    found = {name: (a.shape, a.dtype) for name, a in arrays.items() if name != _POSITIONS}
    if found != {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}:
        raise CheckpointError(f"{file}: the state of another network or optimiser")
    match = _NAME.fullmatch(file.name)
    assert match is not None
    step = int(match[1])
    if arrays.get(".step", step) != step or (steps is not None and step > steps):
        raise CheckpointError(f"{file}: damaged, the state of another step than its name says")
    if arrays.get(".diverged", False):
        raise CheckpointError(f"{file}: the state of a training that diverged")
    state = jax.tree.unflatten(structure, [arrays[name] for name in wanted])
    return Saved(step, _positions(file, arrays), state)


def _positions(file: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    positions = arrays.get(_POSITIONS, np.array([]))
    if positions.dtype != np.int64 or positions.ndim != 1 or not len(positions):
        raise CheckpointError(f"{file}: damaged, it does not say which samples were used")
    if positions.min() < 0:
        raise CheckpointError(f"{file}: damaged, {positions.min()} samples cannot have been used")
    return tuple(positions.tolist())
