"""Export estimators to files that run without the model's code.

A file is a `jax.export` artifact: the estimator's program for one shape of images, with the
network's variables as constants. Read it with `load_exported`, or with JAX alone:

    program = jax.export.deserialize(Path("grad.jaxexport").read_bytes())
    maps = jax.jit(program.call)(images, jnp.uint32(0))  # {"depth", "uncertainty", "raw"}
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax._internal.checks import check_images, is_shape
from grumo_jax._internal.files import open_regular
from grumo_jax.errors import CheckpointError, GrumoError
from grumo_jax.estimators import Estimate, Estimator
from grumo_jax.estimators.base import check_call
from grumo_jax.networks.network import Variables, as_names

_SEAL = hashlib.sha256
_NOT_EXPORTED = "{}: no exported estimator, or damaged; `grumo export` writes them"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclass(frozen=True)
class Exported:
    """An estimator loaded from a file.

    Attributes:
        program: the deserialised `jax.export.Exported`.

    Example:
        >>> exported = load_exported("row.jaxexport")
        >>> exported.shape, exported.platforms
        ((1, 32, 64, 3), ('cpu',))
    """

    program: export.Exported

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (B, H, W, C) of its input images."""
        return tuple(self.program.in_avals[0].shape)

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platforms that it was lowered for: "cpu", "cuda", "rocm", "tpu"."""
        return tuple(self.program.platforms)

    def __call__(self, images: jax.Array, seed: int | jax.Array = 0) -> Estimate:
        """Estimate depth and uncertainty, as the estimator does with `jax.random.key(seed)`.

        Compiled at the first call. It can be used under `jax.jit`, but not under `jax.grad` or
        `jax.vmap`: a file holds one program, for one shape and without derivatives.

        Args:
            images: float32 in [0, 1], of this `shape`.
            seed: integer from 0 to 2**32 - 1.

        Raises:
            GrumoError: for images of another shape or dtype, a seed that is no such integer, or a
                platform that is not among `platforms`.
        """
        check_images(images)
        if (dtype := jnp.result_type(images)) != jnp.float32:
            raise GrumoError(f"images are {dtype}; expected float32 in [0, 1]: convert them")
        if jnp.shape(images) != self.shape:
            raise GrumoError(f"images have shape {jnp.shape(images)}; this takes {self.shape}")
        here = jax.default_backend()
        if not {"gpu": {"cuda", "rocm"}}.get(here, {here}).intersection(self.platforms):
            raise GrumoError(
                f"it was exported for {', '.join(self.platforms)} and runs on a {here} here; name "
                "this platform when exporting"
            )
        # An array's value is not checked, since it may be traced.
        is_number = jnp.ndim(seed) == 0 and jnp.issubdtype(jnp.result_type(seed), jnp.integer)
        if not is_number or (not isinstance(seed, jax.Array) and not 0 <= seed < 2**32):
            raise GrumoError(
                f"seed is {seed}; expected an integer from 0 to {2**32 - 1}, and no key: the file "
                "makes that itself"
            )
        return Estimate(**_call(self.program.call, images, jnp.uint32(seed)))


def export_estimator(
    path: str | Path,
    estimator: Estimator,
    variables: Variables,
    shape: Sequence[int],
    *,
    platforms: str | Sequence[str] = PLATFORMS,
) -> Path:
    """Export an estimator with its network's variables to a file, atomically.

    Args:
        path: the file.
        estimator: one that does not need ground truth.
        variables: the network's variables; they become constants of the program.
        shape: shape of the images: (B, H, W), or (B, H, W, C) if C is not 3.
        platforms: one or several platforms to lower for.

    Raises:
        GrumoError: for an invalid shape, an unknown platform or none, or an estimator that cannot
            be called with such images.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
        >>> post = grumo_jax.PostProcessing(model)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = export_estimator(f"{folder}/post.jaxexport", post, {}, (1, 32, 64))
        ...     exported = load_exported(path)
        >>> exported(jnp.zeros((1, 32, 64, 3))).uncertainty.shape
        (1, 32, 64)
    """
    if not (is_shape(shape, 3) or is_shape(shape, 4)):
        raise GrumoError(
            f"shape is {shape}; expected (batch, height, width), each 1 or more, and a fourth "
            "number where channels are not 3"
        )
    platforms = as_names(platforms)
    if not platforms:
        raise GrumoError(f"platforms is empty; choose of {', '.join(map(repr, PLATFORMS))}")
    if unknown := [platform for platform in platforms if platform not in PLATFORMS]:
        raise GrumoError(
            f"there is no platform {unknown[0]!r}; choose of {', '.join(map(repr, PLATFORMS))}"
        )
    images = jax.ShapeDtypeStruct((*shape, 3)[:4], jnp.float32)

    def program(images: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
        key = jax.random.key(seed)
        check_call((estimator,), images, key)
        found = estimator(variables, images, key)
        return {"depth": found.depth, "uncertainty": found.uncertainty, "raw": found.raw}

    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    exported = export.export(jax.jit(program), platforms=platforms)(images, seed)
    content, path = bytes(exported.serialize()), Path(path)
    # `jax.export.deserialize` ignores bytes after the program.
    seal = _SEAL(content).digest()
    write_atomically(path, lambda stream: stream.write(content + seal))
    return path


def load_exported(path: str | Path) -> Exported:
    """Load an estimator that `export_estimator` wrote.

    Raises:
        CheckpointError: if the file is missing, truncated, damaged or something else.

    Example:
        >>> import jax.numpy as jnp
        >>> exported = load_exported("row.jaxexport")
        >>> exported(jnp.zeros(exported.shape)).uncertainty.shape
        (1, 32, 64)
    """
    try:
        content = _read_sealed(Path(path))
    except OSError as error:
        raise CheckpointError(f"{path}: {(error.strerror or 'not readable').lower()}") from error
    try:
        program = export.deserialize(content)
        form = jax.tree.unflatten(program.out_tree, map(_describe, program.out_avals))
        images, *rest = map(_describe, program.in_avals)
        maps = (images[0][:3], "float32")
        if images[1] != "float32" or len(images[0]) != 4 or rest != [((), "uint32")]:
            raise ValueError(f"the program takes {program.in_avals}")
        if form != {"depth": maps, "uncertainty": maps, "raw": maps}:
            raise ValueError(f"the program gives {form}")
    except Exception as error:
        # For damaged bytes the reader raises undocumented errors of many classes.
        raise CheckpointError(_NOT_EXPORTED.format(path)) from error
    return Exported(program)


def _read_sealed(path: Path) -> bytearray:
    """Read the program after the digest at the file's end is verified.

    The digest is computed in chunks, since the file may be any large file.

    Raises:
        CheckpointError: if the digest does not match.
    """
    with open_regular(path) as stream:
        left = max(stream.seek(0, os.SEEK_END) - _SEAL().digest_size, 0)
        stream.seek(0)
        digest = _SEAL()
        while part := stream.read(min(2**20, left)):
            digest.update(part)
            left -= len(part)
        size = stream.tell()
        if digest.digest() != stream.read():
            raise CheckpointError(_NOT_EXPORTED.format(path))
        stream.seek(0)
        return bytearray(stream.read(size))


def _describe(value: Any) -> tuple[tuple[int, ...], str]:
    return tuple(value.shape), str(value.dtype)


@partial(jax.jit, static_argnums=0)
def _call(program: Any, images: jax.Array, seed: jax.Array) -> dict[str, jax.Array]:
    return program(images, seed)
