"""The mesh over which batches are sharded, of one process or of several."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from grumo_jax._internal.meshes import mesh_of, replicated, shared
from grumo_jax.errors import GrumoError


def make_mesh(devices: Sequence[jax.Device], batch_size: int) -> Mesh:
    """A mesh with one axis, over which the batch axis is sharded.

    Raises:
        GrumoError: if the batch does not divide evenly, or some process has none of the devices.
    """
    number, processes = len(devices), {device.process_index for device in devices}
    if len(processes) < jax.process_count():
        raise GrumoError(
            f"the devices given are of {len(processes)} of {jax.process_count()} processes; give "
            "those of all, jax.devices()"
        )
    if batch_size % number:
        near = max(round(batch_size / number), 1) * number
        raise GrumoError(
            f"a batch of {batch_size} images cannot be shared evenly between {number} devices; "
            f"make it {near} (--batch {near})"
        )
    return mesh_of(devices)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Replicate a pytree, equal in all processes, on every device."""
    return _place(tree, replicated(mesh))


def share(tree: Any, mesh: Mesh) -> Any:
    """Shard a batch, of which each process has its own part, over the devices."""
    return _place(tree, shared(mesh))


def on_one_device(tree: Any) -> Any:
    """A replicated pytree as arrays on this process's first device."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _place(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree
    )
