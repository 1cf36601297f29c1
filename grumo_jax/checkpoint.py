"""Checkpoints: an orbax directory that knows its model and notices any damage."""

import dataclasses
import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax import checkpoint as ocp
from orbax.checkpoint import v1

from grumo_jax.errors import CheckpointError
from grumo_jax.models.monodepth2 import STRIDE, Monodepth2

FORMAT = 1
CARD = "checkpoint.json"
"""The file beside orbax's that holds the configuration and the hashes."""

MODELS: dict[str, Callable[..., Monodepth2]] = {"Monodepth2": Monodepth2}
_NOT_SAVED = ("parent", "name", "dtype")


def save_checkpoint(
    path: str | Path, model: Monodepth2, variables: Any, *, overwrite: bool = False
) -> None:
    """Write a model's configuration and variables to a directory, atomically.

    A save that is killed leaves nothing at `path`, or, with `overwrite`, what was there; only a
    kill between two renames at the very end leaves the old one beside it, named `.….old`.

    Args:
        path: directory to create.
        model: the network; its configuration, input size included, is stored.
        variables: {"params", "batch_stats"} of that network.
        overwrite: replace a checkpoint that is already there.

    Raises:
        CheckpointError: if `path` exists (and is no checkpoint to overwrite) or cannot be
            written, or the variables are not the model's in float32.

    Example:
        >>> import tempfile, jax, jax.numpy as jnp
        >>> import grumo_jax
        >>> model = grumo_jax.Monodepth2(
        ...     encoder_widths=(8, 8, 8, 16, 16), decoder_widths=(4, 4, 8, 8, 8)
        ... )
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
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
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _quiet_orbax():
            _save_alone(partial, variables)
        # Orbax notes the folder of whoever saved here, which is nobody else's business.
        (partial / "commit_success.txt").write_text("Checkpoint commit was successful.\n")
        _write_card(partial, model, variables)
        _move_into_place(partial, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_checkpoint(
    path: str | Path,
    *,
    dtype: Any = None,
    sharding: jax.sharding.Sharding | None = None,
) -> tuple[Monodepth2, Any]:
    """Read a checkpoint, after verifying that every parameter is what was saved.

    Args:
        path: directory written by `save_checkpoint`.
        dtype: run the network in this dtype, such as `jnp.bfloat16`: convolutions are cast to
            it (BatchNorm stays float32) and `model.dtype` is set.
        sharding: where parameters are placed; the first local device by default.

    Returns:
        (model, variables).

    Raises:
        CheckpointError: one sentence, for a directory that is missing, empty, damaged in any
            way, or the checkpoint of something else.

    Example:
        >>> model, variables = load_checkpoint(shipped_checkpoint("synthetic"))
        >>> model.input_size, sorted(variables)
        ((128, 320), ['batch_stats', 'params'])
    """
    path = Path(path).resolve()
    card = _read_card(path)
    _check_files(path, card["files"])
    model = _build_model(path, card)
    variables = _read_variables(path, _abstract(model))
    if variables is None or content_hash(card["configuration"], variables) != card["sha256"]:
        raise CheckpointError(
            f"{path}: damaged, since its content is not what was saved; copy it again"
        )
    if dtype is not None:
        model = model.clone(dtype=jnp.dtype(dtype))
        variables = {**variables, "params": _cast_convolutions(variables["params"], dtype)}
    return model, jax.device_put(variables, sharding) if sharding is not None else variables


def checkpoint_hash(path: str | Path) -> str:
    """The hash of a checkpoint's configuration and parameters, as its card says.

    Raises:
        CheckpointError: if there is no checkpoint, or its card is damaged.
    """
    return _read_card(Path(path).resolve())["sha256"]


def shipped_checkpoint(name: str) -> Path:
    """Where a checkpoint that comes with the library lies: in the package, or in a clone of it.

    Raises:
        CheckpointError: if there is none of that name.

    Example:
        >>> shipped_checkpoint("synthetic").name
        'synthetic'
    """
    package = Path(__file__).parent
    folders = [folder / "checkpoints" for folder in (package, package.parent)]
    found = [folder / name for folder in folders if (folder / name / CARD).is_file()]
    if not found:
        known = sorted(card.parent.name for folder in folders for card in folder.glob(f"*/{CARD}"))
        raise CheckpointError(f"no checkpoint {name!r} comes along; there are: {', '.join(known)}")
    return found[0]


def content_hash(configuration: dict[str, Any], variables: Any) -> str:
    """SHA-256 over the configuration and the name, dtype, shape and bytes of every leaf."""
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode())
    leaves, _ = jax.tree.flatten_with_path(variables)
    for key_path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.ascontiguousarray(_as_numbers(leaf))
        digest.update(f"{jax.tree_util.keystr(key_path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _as_numbers(leaf: Any) -> Any:
    """A leaf as it is, or the numbers of a PRNG key, such as those of an NNX network's dropout."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _write_card(path: Path, model: Monodepth2, variables: Any) -> None:
    configuration = _configuration(model)
    card = {
        "grumo_jax": FORMAT,
        "model": type(model).__name__,
        "configuration": configuration,
        "sha256": content_hash(configuration, variables),
        "files": _file_hashes(path),
    }
    card["seal"] = _seal(card)
    (path / CARD).write_text(json.dumps(card, indent=1) + "\n")


def _seal(card: dict[str, Any]) -> str:
    """SHA-256 over the rest of the card, so that a change to it is noticed before it is used."""
    rest = {name: value for name, value in card.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_card(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such directory")
    if not any(path.iterdir()):
        raise CheckpointError(f"{path}: empty; expected a checkpoint directory")
    if not (path / CARD).is_file():
        raise CheckpointError(
            f"{path}: no checkpoint of grumo_jax, since it has no {CARD}; make one with "
            "save_checkpoint or `grumo convert`"
        )
    try:
        card = json.loads((path / CARD).read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({CARD} cannot be read); copy it again") from error
    if not isinstance(card, dict) or card.get("seal") != _seal(card):
        raise CheckpointError(f"{path}: damaged ({CARD} is not what was saved); copy it again")
    if card["grumo_jax"] != FORMAT or card["model"] not in MODELS:
        raise CheckpointError(f"{path}: written by a newer grumo_jax; update the library")
    return card


def _check_files(path: Path, expected: dict[str, str]) -> None:
    """Compare all files with what was saved, before orbax stumbles over one of them."""
    found = _file_hashes(path)
    for name, digest in expected.items():
        if name not in found:
            raise CheckpointError(f"{path}: incomplete ({name} is missing); copy it again")
        if found[name] != digest:
            raise CheckpointError(f"{path}: damaged ({name} is not what was saved); copy it again")


def _file_hashes(path: Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != CARD)
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def _build_model(path: Path, card: dict[str, Any]) -> Monodepth2:
    try:
        return MODELS[card["model"]](**card["configuration"])
    except TypeError as error:
        raise CheckpointError(
            f"{path}: written by a newer grumo_jax: its {card['model']} has options this one does "
            "not know; update the library"
        ) from error


def _read_variables(path: Path, abstract: Any) -> Any:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract
    )
    # Orbax and tensorstore raise errors of many unrelated classes for what they cannot read.
    try:
        with _quiet_orbax(), v1.Context(multiprocessing_options=_alone()):
            stored = v1.metadata(path).metadata
            return v1.load(path, target) if _shapes(stored) == _shapes(abstract) else None
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


def _abstract(model: Monodepth2) -> Any:
    images = jax.ShapeDtypeStruct((1, STRIDE, STRIDE, 3), jnp.float32)
    return jax.eval_shape(model.clone(dtype=None).init, jax.random.key(0), images)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


def _move_into_place(partial: Path, path: Path) -> None:
    if not path.exists():
        partial.rename(path)
        return
    old = partial.with_name(f"{partial.name}.old")
    path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old)


def _save_alone(path: Path, variables: Any) -> None:
    # Not by v1, whose save has all processes compare their paths, whatever the options say.
    options = _alone().v0()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    with ocp.Checkpointer(handler, multiprocessing_options=options) as saver:
        # Orbax takes arrays of one process for shards of what all processes have.
        saver.save(path, jax.device_get(variables))


def _alone() -> v1.options.MultiprocessingOptions:
    """Orbax neither waits for other processes nor leaves a part of the work to them."""
    me = jax.process_index()
    return v1.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )


@contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Keep orbax's own warnings out: what matters of them is raised as one sentence."""
    logger = logging.getLogger("absl")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled
