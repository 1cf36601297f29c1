"""Networks in train mode: batch statistics and dropout make images depend on each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
from flax import nnx

from grumo_jax.errors import GrumoError

NORMS = (nn.BatchNorm, nnx.BatchNorm)
DROPOUTS = (nn.Dropout, nnx.Dropout)
ATTENTIONS = (nn.MultiHeadDotProductAttention, nnx.MultiHeadAttention)
"""They drop weights by themselves."""


def check_mode(path: str, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise a `GrumoError` if a module is called in train mode.

    Args:
        path, module: what is called.
        args, kwargs: of the call; they come before the module's own settings.
    """
    if isinstance(module, NORMS):
        on = not _setting("use_running_average", module, args, kwargs)
        what = "normalises by the batch"
    elif isinstance(module, DROPOUTS):
        on = module.rate > 0 and not _setting("deterministic", module, args, kwargs)
        what = "drops at random"
    elif isinstance(module, ATTENTIONS):
        on = module.dropout_rate > 0 and not _setting("deterministic", module, (), kwargs)
        what = "drops at random"
    else:
        return
    if on:
        cure = (
            "call model.eval() before nnx.split"
            if isinstance(module, nnx.Module)
            else 'say so in its configuration or with wrap(model, kwargs={"train": False})'
        )
        raise GrumoError(
            f"the network is in train mode: {path!r} {what}, so that an image's result would "
            f"depend on the others; {cure}"
        )


def _setting(name: str, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    given = args[1] if len(args) > 1 else kwargs.get(name)
    return bool(getattr(module, name, None) if given is None else given)


def check_arguments(variables: Any, kwargs: Mapping[str, Any]) -> None:
    """Raise a `GrumoError` for what a linen module's apply cannot be given here."""
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
