"""In-Drop and Drop: the variance of predictions under channel dropout."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from grumo_jax._internal.vmap_or_loop import vmap_or_loop
from grumo_jax.activations import choose_layers, edit_activations
from grumo_jax.activations.edits import drop_channels, edit_in_layout
from grumo_jax.activations.names import LayerNames, as_layers, find_layers
from grumo_jax.errors import GrumoError
from grumo_jax.estimators.base import (
    Estimate,
    Estimator,
    Inputs,
    normalized_estimate,
    predict_depth,
)

DEFAULT_RATE = 0.2
"""The papers' probability of dropping a channel."""


@dataclass(frozen=True)
class InferenceDropout(Estimator):
    """Plain depth; variance over passes with channel dropout, in a network trained without it.

    Channels are dropped after the activated up-convolutions by editing activations, so the model
    needs no dropout layers. The part before the first of these layers runs once. The rest is
    batched over passes on accelerators, which takes memory in proportion to `samples`. The
    unbiased variance is taken of the network's quantity (disparity or depth).

    Attributes:
        model: see `Estimator`.
        samples: number of passes.
        rate: probability with which a channel is dropped; None uses the model's dropout rate.
        layers: names or numbers of layers whose channels are dropped; None lets `choose_layers`
            find them.

    Example:
        >>> import jax
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, nn.Conv(1, (3, 3)), nn.softplus])
        >>> images = jax.random.uniform(jax.random.key(0), (1, 32, 64, 3))
        >>> variables = model.init(jax.random.key(1), images)
        >>> estimator = grumo_jax.InferenceDropout(model, samples=4)
        >>> estimator(variables, images, jax.random.key(2)).uncertainty.shape
        (1, 32, 64)

    Reference: Mi et al., "Training-Free Uncertainty Estimation for Dense Regression", AAAI
    2022; Hornauer & Belagiannis, ECCV 2022, section 4 (baseline "In-Drop").
    """

    samples: int = 8
    rate: float | None = DEFAULT_RATE
    layers: LayerNames | None = None

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise GrumoError(f"samples is {self.samples}; a variance needs at least 2")
        if self.rate is not None and not 0 < self.rate < 1:
            raise GrumoError(f"rate is {self.rate}; expected a probability between 0 and 1")
        object.__setattr__(self, "layers", as_layers(self.layers))

    @property
    def needs_key(self) -> bool:
        """True, since dropout draws channels."""
        return True

    @property
    def used_rate(self) -> float:
        """`rate`; if that is None the model's, and without one the papers' 0.2."""
        return self.rate or self.network.dropout_rate or DEFAULT_RATE

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        raw = jnp.var(self._samples(inputs), axis=0, ddof=1)
        depth = predict_depth(self.network, inputs.variables, inputs.images)
        return normalized_estimate(depth, raw)

    def _samples(self, inputs: Inputs) -> jax.Array:
        """The network's quantity in each pass (samples, B, H, W)."""
        network, variables, images = self.network, inputs.variables, inputs.images
        layers = as_layers(self.layers) or choose_layers(network, variables, images, "dropout")
        calls = find_layers(network, variables, images, layers, {})

        def one_pass(key: jax.Array) -> jax.Array:
            keys = jax.random.split(key, len(layers))
            drops = {
                name: edit_in_layout(
                    network, call, images, partial(drop_channels, rate=self.used_rate, key=k)
                )
                for (name, call), k in zip(calls.items(), keys, strict=True)
            }
            output = edit_activations(network, variables, images, drops)
            return network.to_quantity(network.read_depth(output))

        # Layers before the first dropped one do not depend on the key, so they are hoisted.
        return vmap_or_loop(one_pass, jax.random.split(inputs.key, self.samples))


@dataclass(frozen=True)
class DropoutEnsemble(InferenceDropout):
    """Drop: mean and variance over passes of a network trained with dropout.

    The passes are those of `InferenceDropout`, and their mean is the prediction. `rate` and
    `layers` must be those of the training: by default the model's `Monodepth2.dropout_rate` (0.2
    if it has none), and for `Monodepth2` the ten up-convolutions.

    Example:
        >>> import grumo_jax
        >>> grumo_jax.DropoutEnsemble(grumo_jax.Monodepth2(dropout_rate=0.2)).samples
        8

    Reference: Gal & Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.
    """

    rate: float | None = None

    def estimate(self, inputs: Inputs) -> Estimate:
        """See `Estimator.__call__`."""
        samples = self._samples(inputs)
        depth = self.network.to_depth(jnp.mean(samples, axis=0))
        return normalized_estimate(depth, jnp.var(samples, axis=0, ddof=1))
