"""How many runs of a network, from some layer on, fit into memory together."""

import math
from collections.abc import Sequence

import jax

from grumo_jax.activations.calls import list_calls
from grumo_jax.networks.network import DepthNetwork, Variables

MEMORY = 2**29
"""Default limit, in bytes, for the activations of runs that are batched together."""


def elements_within(
    memory: int,
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    layers: Sequence[str],
) -> int:
    """How often all activations from the earliest of the layers on fit into memory; at least 1.

    Args:
        memory: bytes.
        network, variables, images: the network and its arguments.
        layers: names of layers; empty for all activations.
    """
    calls = [call for call in list_calls(network, variables, images) if not call.is_input]
    first = min((i for i, call in enumerate(calls) if call.name in layers), default=0)
    leaves = jax.tree.leaves([images, *(call.shape for call in calls[first:])])
    return max(1, memory // sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves))
