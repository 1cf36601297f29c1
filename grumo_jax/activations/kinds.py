"""Kinds of Flax modules, linen and NNX alike.

NNX is never imported here, since that takes a fifth of the import time of JAX and Flax: a program
that has an NNX network has imported it already.
"""

import sys
from types import ModuleType
from typing import Any

from flax import linen as nn


def loaded_nnx() -> ModuleType | None:
    """`flax.nnx` if it has been imported, else None."""
    return sys.modules.get("flax.nnx")


def is_convolution(kind: type) -> bool:
    """Whether a module class is a convolution."""
    return issubclass(kind, _classes("Conv", "ConvTranspose", "ConvLocal"))


def is_linear(kind: type) -> bool:
    """Whether a module class is a matrix product."""
    names = "Dense", "DenseGeneral", "Einsum", "Linear", "LinearGeneral"
    return issubclass(kind, _classes(*names))


def is_bridge(kind: type) -> bool:
    """Whether a module class wraps a module of the other API, whose submodules are not visible."""
    nnx = loaded_nnx()
    return nnx is not None and issubclass(kind, (nnx.bridge.ToLinen, nnx.bridge.ToNNX))


def is_norm(module: Any) -> bool:
    """Whether a module normalises by batch statistics in train mode."""
    return isinstance(module, _classes("BatchNorm"))


def is_dropout(module: Any) -> bool:
    """Whether a module drops at random in train mode."""
    return isinstance(module, _classes("Dropout"))


def is_attention(module: Any) -> bool:
    """Whether a module is attention, which has a dropout of its own."""
    return isinstance(module, _classes("MultiHeadDotProductAttention", "MultiHeadAttention"))


def is_nnx(module: Any) -> bool:
    """Whether an object is an NNX module."""
    nnx = loaded_nnx()
    return nnx is not None and isinstance(module, nnx.Module)


def _classes(*names: str) -> tuple[type, ...]:
    """The classes with these names in linen and, if imported, NNX."""
    places = [place for place in (nn, loaded_nnx()) if place is not None]
    return tuple(getattr(place, name) for place in places for name in names if hasattr(place, name))
