"""Checkpoints: orbax directories with the model's configuration and hashes that reveal damage."""

import dataclasses
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax import checkpoint as ocp
from orbax.checkpoint import v1

from grumo_jax._internal.atomic_writes import replacing_folder, reserve
from grumo_jax._internal.hashing import content_hash, hash_file
from grumo_jax.errors import CheckpointError, GrumoError, GrumoWarning
from grumo_jax.networks.card import CARD as CARD
from grumo_jax.networks.card import Card, find_misfit, made_up, read_card, write_card
from grumo_jax.networks.monodepth2 import STRIDE, Monodepth2
from grumo_jax.networks.soundness import find_unsound

SMALL, LARGEST_RATIO = 2**29, 4
"""A network and its files may differ in size by this many bytes plus this factor.

Trained weights hardly compress. Zeros do, but networks of zeros are small.
"""

MODELS: dict[str, type[Monodepth2]] = {"Monodepth2": Monodepth2}
_NOT_SAVED = ("parent", "name", "dtype")


def save_checkpoint(
    path: str | Path, model: Monodepth2, variables: Any, *, overwrite: bool = False
) -> None:
    """Write a model's configuration and variables to a directory, atomically.

    If a save is killed, `path` is as it was before: absent, or with `overwrite` the old checkpoint.
    The exception is a kill between the two final renames, which leaves the old one in a folder
    `.grumo.…` beside it. The next save to `path` restores it and removes other leftovers.

    Weights that are not finite, as after divergence, are saved with a `GrumoWarning`.

    Args:
        path: directory to create.
        model: the network; its configuration, including the input size, is stored.
        variables: the network's {"params", "batch_stats"}.
        overwrite: replace an existing checkpoint.

    Raises:
        CheckpointError: if `path` exists (with `overwrite`, if it is not a checkpoint), cannot be
            written or is being written by another process, or the variables are not the model's,
            or not float32.

    Example:
        >>> import tempfile, jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2.tiny()
        >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     grumo_jax.save_checkpoint(f"{folder}/small", model, variables)
        ...     loaded, _ = grumo_jax.load_checkpoint(f"{folder}/small")
        >>> loaded == model
        True
    """
    path = Path(path).resolve()
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path}: already exists; choose another name or overwrite=True")
    if path.exists() and not (path / CARD).is_file():
        raise CheckpointError(f"{path}: exists and is no checkpoint, so it is not overwritten")
    kind = type(model).__name__
    if kind not in MODELS:
        raise CheckpointError(f"cannot save a {kind}; expected one of {', '.join(MODELS)}")
    variables = jax.tree.map(jnp.asarray, dict(variables))
    if _shapes(variables) != _shapes(_abstract(model)):
        raise CheckpointError(f"{path}: the variables are not those of {kind} so configured")
    if any(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(variables)):
        raise CheckpointError(
            f"{path}: checkpoints hold float32, and these variables are cast; save those that were "
            "loaded without dtype="
        )
    _warn_of_unsound(path, variables)
    try:
        with replacing_folder(path, CheckpointError) as new:
            # Reserved first: on a full disk orbax raises and logs many errors at once.
            reserve(new.parent, sum(x.nbytes for x in jax.tree.leaves(variables)) * 9 // 8 + 2**18)
            with _quiet_orbax():
                _save_alone(new, variables)
            # Orbax writes the folder's absolute path into this file; do not publish it.
            (new / "commit_success.txt").write_text("Checkpoint commit was successful.\n")
            _write_card(new, model, variables)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error


def load_checkpoint(
    path: str | Path,
    *,
    dtype: Any = None,
    sharding: jax.sharding.Sharding | None = None,
) -> tuple[Monodepth2, Any]:
    """Load a checkpoint and verify that every parameter is as it was saved.

    Weights that are not finite issue a `GrumoWarning` that names the entry.

    Args:
        path: directory written by `save_checkpoint`.
        dtype: dtype to run the network in, such as `jnp.bfloat16`: kernels and biases of
            convolutions are cast to it (BatchNorm stays float32), and `model.dtype` is set.
        sharding: sharding of the variables; the first local device by default.

    Returns:
        (model, variables).

    Raises:
        CheckpointError: if the directory is missing, empty, damaged in any way, or not such a
            checkpoint.

    Example:
        >>> import grumo_jax
        >>> model, variables = load_checkpoint(grumo_jax.shipped_checkpoint("synthetic"))
        >>> model.input_size, sorted(variables)
        ((128, 320), ['batch_stats', 'params'])
    """
    path = Path(path).resolve()
    card = read_card(path)
    model, abstract = _build_model(path, card)
    try:
        _check_sizes(path, card.files, abstract)
        _check_files(path, card.files)
    except OSError as error:
        raise CheckpointError(f"{path}: {(error.strerror or 'not readable').lower()}") from error
    variables = _read_variables(path, abstract)
    if variables is None or content_hash(card.configuration, variables) != card.sha256:
        raise CheckpointError(
            f"{path}: damaged, since its content is not what was saved; copy it again"
        )
    _warn_of_unsound(path, variables)
    if dtype is not None:
        model = model.clone(dtype=jnp.dtype(dtype))
        variables = {**variables, "params": _cast_convolutions(variables["params"], dtype)}
    return model, jax.device_put(variables, sharding) if sharding is not None else variables


def checkpoint_hash(path: str | Path) -> str:
    """The hash of a checkpoint's configuration and variables, read from its card.

    Raises:
        CheckpointError: if there is no checkpoint, or its card is damaged.
    """
    return read_card(Path(path).resolve()).sha256


def _write_card(path: Path, model: Monodepth2, variables: Any) -> None:
    configuration = _configuration(model)
    digest = content_hash(configuration, variables)
    write_card(path, Card(type(model).__name__, configuration, digest, _file_hashes(path)))


def _check_sizes(path: Path, files: Iterable[str], abstract: Any) -> None:
    """Compare the sizes of network and files, before memory is allocated for either."""
    stored = sum((path / name).stat().st_size for name in files if (path / name).is_file())
    needed = sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract))
    for more, less in ((needed, stored), (stored, needed)):
        if more > LARGEST_RATIO * less + SMALL:
            raise CheckpointError(
                f"{path}: damaged or made up (its network needs {needed / 1e6:.3g} MB, and its "
                f"files have {stored / 1e6:.3g} MB); get it again from where it comes from"
            )


def _check_files(path: Path, expected: Mapping[str, str]) -> None:
    """Compare the hashes of the files, before orbax reads them.

    Other files in the folder may be large and are not read. Pipes are refused: orbax would wait
    for them.
    """
    for file in path.rglob("*"):
        if not (file.is_file() or file.is_dir()):
            raise CheckpointError(f"{path}: {file.relative_to(path)} is neither file nor folder")
    for name, digest in expected.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: incomplete ({name} is missing); copy it again")
        if hash_file(path / name) != digest:
            raise CheckpointError(f"{path}: damaged ({name} is not what was saved); copy it again")


def _file_hashes(path: Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != CARD)
    return {file.relative_to(path).as_posix(): hash_file(file) for file in files}


def _build_model(path: Path, card: Card) -> tuple[Monodepth2, Any]:
    """The card's network and the shapes of its variables.

    Raises:
        CheckpointError: if the configuration is invalid or from a newer version.
    """
    if card.model not in MODELS:
        raise CheckpointError(f"{path}: written by a newer grumo_jax; update the library")
    make = MODELS[card.model]
    fields = [field for field in dataclasses.fields(make) if field.name not in _NOT_SAVED]
    if not {field.name for field in fields}.issuperset(card.configuration):
        raise CheckpointError(
            f"{path}: written by a newer grumo_jax: its {card.model} has options this one does "
            "not know; update the library"
        )
    if problem := find_misfit(card.configuration, fields):
        raise made_up(path, problem)
    try:
        model = make(**card.configuration)
        return model, _abstract(model)
    except GrumoError as error:
        raise made_up(path, f"describes no network: {error}") from error


def _read_variables(path: Path, abstract: Any) -> Any:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract
    )
    # Orbax and tensorstore raise errors of many unrelated classes for damaged files.
    try:
        with _quiet_orbax(), v1.Context(multiprocessing_options=_alone()):
            stored = v1.metadata(path).metadata
            return v1.load(path, target) if _forms(stored) == _forms(abstract) else None
    except Exception as error:
        raise CheckpointError(f"{path}: damaged (orbax cannot read it); copy it again") from error


def _cast_convolutions(params: Any, dtype: Any) -> Any:
    if "kernel" in params:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    return {
        name: _cast_convolutions(value, dtype) if isinstance(value, dict) else value
        for name, value in params.items()
    }


def _configuration(model: Monodepth2) -> dict[str, Any]:
    fields = (field.name for field in dataclasses.fields(model) if field.name not in _NOT_SAVED)
    values = {name: getattr(model, name) for name in fields}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


@lru_cache(maxsize=8)
def _abstract(model: Monodepth2) -> Any:
    images = jax.ShapeDtypeStruct((1, STRIDE, STRIDE, 3), jnp.float32)
    return jax.eval_shape(model.clone(dtype=None).init, jax.random.key(0), images)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


def _forms(tree: Any) -> Any:
    """Shapes and dtypes, and whether stored chunks fit their arrays: each is read as a whole."""

    def form(leaf: Any) -> Any:
        storage = getattr(leaf, "storage_metadata", None)
        pieces = leaf.shape if storage is None else storage.chunk_shape
        return tuple(leaf.shape), str(leaf.dtype), tuple(map(min, pieces, leaf.shape)) == pieces

    return jax.tree.map(form, tree)


def _warn_of_unsound(path: Path, variables: Any) -> None:
    if problem := find_unsound(variables):
        warnings.warn(
            f"{path}: {problem}; did the training diverge? What this network computes is wrong",
            GrumoWarning,
            stacklevel=3,
        )


def _save_alone(path: Path, variables: Any) -> None:
    # Not v1, whose save makes all processes compare paths, whatever the options are.
    options = _alone().v0()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    with ocp.Checkpointer(handler, multiprocessing_options=options) as saver:
        # As numpy: orbax treats a process's `jax.Array`s as shards of arrays of all processes.
        saver.save(path, jax.device_get(variables))


def _alone() -> v1.options.MultiprocessingOptions:
    """Options with which orbax neither waits for other processes nor shares work with them."""
    me = jax.process_index()
    return v1.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )


@contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Silence orbax's log: relevant problems are raised as a `CheckpointError`."""
    logger = logging.getLogger("absl")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
