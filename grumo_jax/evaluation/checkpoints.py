"""Checkpoints to evaluate: one, or several of the same network as an ensemble."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grumo_jax.errors import GrumoError
from grumo_jax.estimators import stack_variables
from grumo_jax.networks import Monodepth2
from grumo_jax.networks.checkpoint import checkpoint_hash, load_checkpoint


def load_members(paths: Sequence[Path]) -> tuple[Monodepth2, Any]:
    """Load a network and its variables; those of several checkpoints are stacked.

    Raises:
        GrumoError: if they are of different networks.
        CheckpointError: if one cannot be read.
    """
    loaded = [load_checkpoint(path) for path in paths]
    model, variables = loaded[0]
    for path, (other, _) in zip(paths, loaded, strict=True):
        if other != model:
            raise GrumoError(
                f"{path}: another network than {paths[0]}; an ensemble is of one network"
            )
    return model, variables if len(loaded) == 1 else stack_variables([v for _, v in loaded])


def describe_checkpoints(paths: Sequence[Path]) -> str:
    """Names and hash prefixes, as results files record them.

    Raises:
        CheckpointError: if one cannot be read.
    """
    return ", ".join(f"{path.resolve().name} ({checkpoint_hash(path)[:12]})" for path in paths)
