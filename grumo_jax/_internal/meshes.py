"""Devices in a row, which share what they are given along its first axis."""

from collections.abc import Sequence

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec


def mesh_of(devices: Sequence[jax.Device]) -> Mesh:
    """The devices in a row.

    Example:
        >>> import jax
        >>> mesh_of(jax.devices()[:1]).axis_names
        ('data',)
    """
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """All of it on every device."""
    return NamedSharding(mesh, PartitionSpec())


def shared(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The first axis cut up between the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))
