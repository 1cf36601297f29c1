"""Argument checks, each with one sentence for what is wrong."""

from collections.abc import Collection, Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax.errors import GrumoError


def is_shape(value: object, length: int) -> TypeGuard[Sequence[int]]:
    """Whether a value is a tuple or list of `length` positive ints."""
    return (
        isinstance(value, tuple | list)
        and len(value) == length
        and all(isinstance(n, int | np.integer) and n >= 1 for n in value)
    )


def check_choice(name: str, value: object, known: Collection[str]) -> None:
    """Raise a `GrumoError` unless an option has one of the values that there are.

    >>> check_choice("space", "metres", ("depth", "disparity"))
    Traceback (most recent call last):
    grumo_jax.errors.GrumoError: space is 'metres'; it must be one of 'depth', 'disparity'
    """
    # Others, such as arrays, may not be comparable at all.
    if not (isinstance(value, str) and value in known):
        choices = ", ".join(map(repr, known))
        raise GrumoError(f"{name} is {value!r}; it must be one of {choices}")


def check_images(images: Any, channels: int | None = None) -> None:
    """Raise a `GrumoError` unless an input is float images (B, H, W, C) or a pytree with some.

    Args:
        images: an array, or a pytree of arrays; its leaves with four axes are images.
        channels: the number of channels, if the input must be a single array; None allows any
            number, and pytrees.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(images)]
    pictures = [shape for shape in shapes if len(shape) == 4]
    if not pictures or (channels and (len(shapes) > 1 or pictures[0][-1] != channels)):
        found = ", ".join(map(str, shapes)) or "nothing"
        expected = channels or "channels"
        raise GrumoError(f"images have shape {found}; expected (batch, height, width, {expected})")
    for dtype in (jnp.result_type(leaf) for leaf in jax.tree.leaves(images) if jnp.ndim(leaf) == 4):
        if not jnp.issubdtype(dtype, jnp.floating):
            raise GrumoError(f"images are {dtype}; expected float32 in [0, 1]: divide uint8 by 255")
