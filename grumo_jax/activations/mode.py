"""Refuse train mode: its batch statistics and dropout make a result depend on the batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from grumo_jax.activations.kinds import is_attention, is_dropout, is_nnx, is_norm, loaded_nnx
from grumo_jax.errors import GrumoError
from grumo_jax.networks.network import Variables

SWITCHES = {"train", "training", "is_training", "deterministic", "use_running_average"}
"""Keyword arguments that select the mode of a call."""


def check_mode(path: str, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise a `GrumoError` if a module is called in train mode.

    Args:
        path, module: the submodule that is called.
        args, kwargs: arguments of the call; they override the module's attributes.
    """
    if (nnx := loaded_nnx()) is not None and isinstance(module, nnx.bridge.ToLinen):
        _check_inside(nnx, path, module, kwargs)
    if is_norm(module):
        on = not _setting("use_running_average", module, args, kwargs)
        what = "normalises by the batch"
    elif is_dropout(module):
        on = module.rate > 0 and not _setting("deterministic", module, args, kwargs)
        what = "drops at random"
    elif is_attention(module):
        on = module.dropout_rate > 0 and not _setting("deterministic", module, (), kwargs)
        what = "drops at random"
    else:
        return
    if on:
        cure = (
            "call model.eval() before nnx.split, or behind a bridge self.eval() in __init__"
            if is_nnx(module)
            else 'say so in its configuration or with wrap(model, kwargs={"train": False})'
        )
        raise GrumoError(
            f"the network is in train mode: {path!r} {what}, so that an image's result would "
            f"depend on the others; {cure}"
        )


def _check_inside(nnx: Any, path: str, bridge: Any, kwargs: Mapping[str, Any]) -> None:
    """Check the modes of the NNX modules behind `nnx.bridge.to_linen`.

    If the call selects a mode, what the NNX network does with it is not visible.
    """
    if SWITCHES.intersection(kwargs):
        return

    def make() -> Any:
        rngs = {} if bridge.skip_rng else {"rngs": nnx.Rngs(0)}
        return bridge.nnx_class(*bridge.args, **bridge.kwargs, **rngs)

    for parts, module in nnx.iter_modules(nnx.eval_shape(make)):
        check_mode("/".join([path, *map(str, parts)]), module, (), {})


def _setting(name: str, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    given = args[1] if len(args) > 1 else kwargs.get(name)
    return bool(getattr(module, name, None) if given is None else given)


def check_arguments(variables: Variables, kwargs: Mapping[str, Any]) -> None:
    """Raise a `GrumoError` for variables or keyword arguments that a linen network cannot take."""
    if not isinstance(variables, Mapping):
        raise GrumoError(
            f"the variables of a linen network are a {type(variables).__name__}; expected what its "
            "init returns, {'params': …}"
        )
    if taken := sorted({"mutable", "capture_intermediates"}.intersection(kwargs)):
        raise GrumoError(
            f"{taken[0]} is among the arguments of the network's calls; leave it out: estimators "
            "ask a network in evaluation mode, which changes nothing"
        )
