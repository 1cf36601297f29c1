"""Boot and Snap: the variance over several trainings or snapshots of one network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax.activations import apply_model
from grumo_jax.errors import GrumoError
from grumo_jax.estimators.base import Estimate, Estimator, Inputs, normalized_estimate
from grumo_jax.networks.network import Variables


@dataclass(frozen=True)
class Ensemble(Estimator):
    """Mean and variance over members: trainings (Boot) or snapshots of one (Snap).

    The call takes the members' variables stacked by `stack_variables`. Mean and (unbiased)
    variance are taken of the network's quantity (disparity or depth); members that predict log σ
    add the sum of their σ².

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> network, images = nn.Conv(1, (1, 1)), jnp.ones((1, 32, 64, 3))
        >>> members = [network.init(jax.random.key(seed), images) for seed in range(2)]
        >>> stacked = grumo_jax.stack_variables(members)
        >>> model = grumo_jax.wrap(network, depth=jnp.exp)
        >>> grumo_jax.Ensemble(model)(stacked, images).depth.shape
        (1, 32, 64)

    Reference: Poggi et al., "On the Uncertainty of Self-Supervised Monocular Depth
    Estimation", CVPR 2020, section 3.2.
    """

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        network, variables, images = self.network, inputs.variables, inputs.images
        members = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(variables)}
        if len(members) != 1 or members < {2}:
            raise GrumoError(
                "an Ensemble takes the variables of at least two members, stacked: "
                "grumo_jax.stack_variables([variables, …])"
            )

        def one_member(variables: Variables) -> tuple[jax.Array, jax.Array]:
            output = apply_model(network, variables, images)
            quantity = network.to_quantity(network.read_depth(output))
            s = network.read_log_sigma(output)
            return quantity, jnp.zeros_like(quantity) if s is None else jnp.exp(2 * s)

        # Not vmap: convolutions with batched kernels are slow.
        quantities, learned = jax.lax.map(one_member, variables)
        raw = jnp.var(quantities, axis=0, ddof=1) + jnp.sum(learned, axis=0)
        return normalized_estimate(network.to_depth(jnp.mean(quantities, axis=0)), raw)


def stack_variables(members: Sequence[Any]) -> Any:
    """Stack the variables of models of one architecture along a new first axis.

    Raises:
        GrumoError: if there are fewer than two members, or they differ in structure or shape.

    Example:
        >>> import jax.numpy as jnp
        >>> members = [{"params": {"bias": jnp.zeros(4)}}, {"params": {"bias": jnp.ones(4)}}]
        >>> stack_variables(members)["params"]["bias"].shape
        (2, 4)
    """
    if len(members) < 2:
        raise GrumoError(f"an ensemble needs at least 2 members; got {len(members)}")
    forms = [jax.tree.map(jnp.shape, member) for member in members]
    for i, form in enumerate(forms[1:], start=1):
        if form != forms[0]:
            raise GrumoError(f"member {i} of the ensemble has other parameters than member 0")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
