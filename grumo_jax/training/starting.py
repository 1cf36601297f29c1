"""Initial variables: random weights, an ImageNet encoder, or another network."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from grumo_jax._internal.hashing import hash_file
from grumo_jax.errors import CheckpointError, WeightsError
from grumo_jax.networks.checkpoint import checkpoint_hash, load_checkpoint
from grumo_jax.networks.network import Variables
from grumo_jax.networks.porting.monodepth2 import ENCODER_RULES
from grumo_jax.networks.porting.rules import apply_rules, match_shapes
from grumo_jax.networks.porting.states import State, plain_state
from grumo_jax.networks.porting.torch_files import load_torch_state
from grumo_jax.training.folder import STATES, find_checkpoint, read_settings, run_seal
from grumo_jax.training.saving import latest_leaves, list_states
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import Networks, initial_variables

_FORM = ("num_layers", "output", "min_depth", "max_depth")
"""Attributes of `Monodepth2` that the shapes of the weights do not show."""


def start_variables(
    settings: Settings, *, encoder: str | Path | None = None, init: str | Path | None = None
) -> Variables:
    """The variables of all networks before the first step.

    Args:
        settings: of the run.
        encoder: a torchvision ResNet's weights (.pth), such as those trained on ImageNet, for the
            encoders of both networks.
        init: a checkpoint, or the folder of another run, to start from. Output heads it lacks start
            at random, and so does the pose network unless it is a run's folder.

    Returns:
        {"depth", and "pose" if used: {"params", "batch_stats"}}.

    Raises:
        WeightsError: if the encoder's file is unreadable, or of another network.
        CheckpointError: if the checkpoint is unreadable, or of another network: other widths or
            depth, or predictions with another meaning.
    """
    variables = initial_variables(settings)
    if encoder is not None:
        variables = insert_encoder(variables, load_torch_state(encoder), str(encoder))
    if init is not None:
        variables = _insert_checkpoint(variables, settings, Path(init))
    return variables


def hash_of_weights(path: str | Path | None) -> str | None:
    """Hash of the file, checkpoint or run that a training starts from; None for None."""
    if path is None:
        return None
    path = Path(path)
    file = list_states(path / STATES)[-1] if is_unfinished(path) else path
    if file.is_file():
        return hash_file(file)
    if file.suffix in (".pth", ".pt"):
        raise WeightsError(f"{file}: no such file")
    return checkpoint_hash(find_checkpoint(path))


def insert_encoder(variables: Variables, state: State, source: str = "encoder") -> Variables:
    """Insert a torchvision ResNet's weights into the encoders of all networks.

    The pose network's first convolution, on two pictures, gets the weights twice, halved: two equal
    pictures then give what one gives in the depth network.

    Args:
        variables: of all networks.
        state: torchvision's names ("conv1.weight", "layer1.0.bn1.running_mean", …) to arrays;
            "fc.…" are ignored.
        source: name of the weights in errors.

    Raises:
        WeightsError: if an entry is missing, surplus or of another shape.
    """
    state = plain_state(state, source)
    prefix = "" if any(name.startswith("encoder.") for name in state) else "encoder."
    ported = apply_rules({prefix + name: v for name, v in state.items()}, ENCODER_RULES, source)
    first = "params/encoder/conv1/kernel"
    result = {}
    for network, tree in variables.items():
        weights = dict(ported)
        if network == "pose" and first in weights:
            weights[first] = np.concatenate([weights[first]] * 2, axis=2) / 2
        wanted = {kind: {"encoder": tree[kind]["encoder"]} for kind in tree}
        new = match_shapes(weights, wanted, f"{source}, for the {network} network")
        result[network] = {kind: {**tree[kind], **new[kind]} for kind in tree}
    return result


def check_same_units(found: Any, wanted: Any, path: Path) -> None:
    """Check that two networks' predictions have the same meaning, and that they are equally deep.

    Raises:
        CheckpointError: if not; the message says how they differ.
    """
    differences = [
        f"{name} {getattr(found, name)} and not {getattr(wanted, name)}"
        for name in _FORM
        if getattr(found, name) != getattr(wanted, name)
    ]
    if differences:
        raise CheckpointError(
            f"{path}: is of another network than this training's, with {', '.join(differences)}"
        )


def _insert_checkpoint(variables: Variables, settings: Settings, path: Path) -> Variables:
    unfinished, result = is_unfinished(path), dict(variables)
    leaves: Mapping[str, np.ndarray] = {}
    if list_states(path / STATES) and (unfinished or "pose" in variables):
        leaves = latest_leaves(path / STATES, run_seal(path))
    if "pose" in variables and (pose := _nest(leaves, "pose")):
        result["pose"] = _take_over(variables["pose"], pose, path)
    if unfinished:
        model, stored = Networks.of(read_settings(path)).depth, _nest(leaves, "depth")
    else:
        model, stored = load_checkpoint(find_checkpoint(path))
    check_same_units(model, Networks.of(settings).depth, path)
    return {**result, "depth": _take_over(variables["depth"], stored, path)}


def _take_over(variables: Any, stored: Any, path: Path) -> Any:
    """Replace all leaves by stored ones; heads that are not stored stay as they are."""
    wanted = traverse_util.flatten_dict(variables, sep="/")
    found = traverse_util.flatten_dict(stored, sep="/")
    for name, leaf in wanted.items():
        if name not in found:
            if "/uncertainty_head_" in name:
                continue
            raise CheckpointError(f"{path}: has no {name}; it is of a network of another form")
        if found[name].shape != leaf.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {found[name].shape}, and this training needs "
                f"{leaf.shape}; choose the widths of that network, with --set"
            )
        wanted[name] = found[name]
    return traverse_util.unflatten_dict(wanted, sep="/")


def is_unfinished(path: Path) -> bool:
    """Whether this is a run's folder with saved states, but no network yet."""
    return find_checkpoint(path) == path and bool(list_states(path / STATES))


def _nest(leaves: Mapping[str, np.ndarray], network: str) -> Any:
    """One network's variables from a state's leaves, with paths like .params['depth']['a']['b']."""
    nested = {}
    for name, leaf in leaves.items():
        match re.findall(r"\w+", name):
            case ["params" | "batch_stats" as kind, first, *path] if first == network:
                nested[(kind, *path)] = jnp.asarray(leaf)
    try:
        return traverse_util.unflatten_dict(nested)
    except TypeError as error:
        raise CheckpointError(f"a state's {network} network is damaged; train anew") from error
