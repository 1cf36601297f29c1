"""How many runs from a layer on fit into memory side by side."""

import math
from collections.abc import Sequence

import jax

from grumo_jax.activations.calls import list_calls
from grumo_jax.networks.network import DepthNetwork, Variables

MEMORY = 2**29
"""Bytes that the activations of what is computed together may take, by default."""


def elements_within(
    memory: int,
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    layers: Sequence[str],
) -> int:
    """How many times all activations from the earliest of the layers on fit into memory; 1 or more.

    Args:
        memory: bytes.
        network, variables, images: what is run.
        layers: names; none of them for all activations.
    """
    calls = [call for call in list_calls(network, variables, images) if not call.is_input]
    first = min((i for i, call in enumerate(calls) if call.name in layers), default=0)
    leaves = jax.tree.leaves([images, *(call.shape for call in calls[first:])])
    return max(1, memory // sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves))
