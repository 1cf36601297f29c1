"""Flax's classes by what they do, linen's and NNX's alike.

NNX takes a fifth of the time that JAX and Flax take to import. Whoever has an NNX network has
imported it, and nobody else needs it.
"""

import sys
from types import ModuleType
from typing import Any

from flax import linen as nn


def loaded_nnx() -> ModuleType | None:
    """`flax.nnx`, if it was imported."""
    return sys.modules.get("flax.nnx")


def is_convolution(kind: type) -> bool:
    """Whether a class of modules is one of convolutions."""
    return issubclass(kind, _classes("Conv", "ConvTranspose", "ConvLocal"))


def is_linear(kind: type) -> bool:
    """Whether a class of modules is one of matrix products."""
    names = "Dense", "DenseGeneral", "Einsum", "Linear", "LinearGeneral"
    return issubclass(kind, _classes(*names))


def is_bridge(kind: type) -> bool:
    """Whether a class of modules holds a module of the other API, and shows nothing of it."""
    nnx = loaded_nnx()
    return nnx is not None and issubclass(kind, (nnx.bridge.ToLinen, nnx.bridge.ToNNX))


def is_norm(module: Any) -> bool:
    """Whether a module normalises by the batch in train mode."""
    return isinstance(module, _classes("BatchNorm"))


def is_dropout(module: Any) -> bool:
    """Whether a module drops at random in train mode."""
    return isinstance(module, _classes("Dropout"))


def is_attention(module: Any) -> bool:
    """Whether a module is attention, which drops weights by itself."""
    return isinstance(module, _classes("MultiHeadDotProductAttention", "MultiHeadAttention"))


def is_nnx(module: Any) -> bool:
    """Whether something is an NNX module."""
    nnx = loaded_nnx()
    return nnx is not None and isinstance(module, nnx.Module)


def _classes(*names: str) -> tuple[type, ...]:
    """The classes of these names, as far as linen and NNX have them."""
    places = [place for place in (nn, loaded_nnx()) if place is not None]
    return tuple(getattr(place, name) for place in places for name in names if hasattr(place, name))
