"""Vectors as tuples (x, y, z) of arrays that broadcast.

XLA fuses and vectorises them far better than arrays with an axis of three: rendering is six times
as fast.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Vector = tuple[jax.Array, jax.Array, jax.Array]


def components(array: jax.Array) -> Vector:
    """Split an array (3, …) into its components."""
    return array[0], array[1], array[2]


def componentwise(function: Callable[..., jax.Array], *vectors: Any) -> Vector:
    """Apply a function to the x, y and z components of vectors.

    Example:
        >>> componentwise(max, (1, 5, 2), (4, 3, 2))
        (4, 5, 2)
    """
    x, y, z = (function(*parts) for parts in zip(*vectors, strict=True))
    return x, y, z


def dot(a: Vector, b: Vector) -> jax.Array:
    """Scalar products."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def norm(a: Vector) -> jax.Array:
    """Lengths."""
    return jnp.sqrt(dot(a, a))


def turn(vector: Vector, yaw: jax.Array, *, back: bool = False) -> Vector:
    """Rotate from the world's axes to those turned by yaw (radians), or back."""
    x, y, z = vector
    sine, cosine = jnp.sin(yaw), jnp.cos(yaw)
    sine = -sine if back else sine
    return cosine * x - sine * z, y, sine * x + cosine * z
