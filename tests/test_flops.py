"""What estimators cost, counted by XLA."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from pydnet import NETWORK as PYDNET

import grumo_jax


def counter(network, size):
    """Function make → FLOPs of the estimator made of the network, in its forward passes."""
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    variables = jax.eval_shape(network.module.init, jax.random.key(0), images)

    def flops(function):
        lowered = jax.jit(function).lower(variables, images)
        # What XLA leaves to do is counted before machine code is made, so that may be slow.
        compiled = lowered.compile({"xla_backend_optimization_level": "0"})
        return compiled.cost_analysis()["flops"]

    forward = flops(lambda v, x: network.read_depth(network.module.apply(v, x)))
    return lambda make: flops(lambda v, x: make(network)(v, x, jax.random.key(0))) / forward


@pytest.fixture(scope="module")
def forward_passes():
    """Function estimator → FLOPs in forward passes of Monodepth2 with ResNet-18."""
    count = counter(grumo_jax.Monodepth2().as_depth_network(), (64, 96))
    return lambda make: count(lambda network: make(network.module))


def averaged(network):
    """`grad-averaged`, its references unrolled: XLA counts the body of a loop over them once."""
    whole = grumo_jax.GradientUncertainty.averaged(network)
    parts = [dataclasses.replace(whole, references=r) for r in whole.references]
    return lambda v, x, key: [part(v, x, key).uncertainty for part in parts]


def at_layer(k):
    return lambda model: grumo_jax.GradientUncertainty(model, layers=model.decoder_layers[k])


@pytest.mark.slow
def test_gradient_costs_little_more_than_two_forward_passes(forward_passes):
    costs = [forward_passes(at_layer(k)) for k in (9, 6, 0)]
    assert costs[1] < 2.4
    # Only what comes after a layer is back-propagated: the later the layer, the cheaper.
    assert costs == sorted(costs)
    assert costs[0] < 2.05


@pytest.mark.slow
def test_all_layers_cost_what_the_earliest_costs(forward_passes):
    everything = forward_passes(
        lambda model: grumo_jax.GradientUncertainty(model, layers="decoder")
    )
    # The encoder, half of the network, is never back-propagated (it would take 3 passes).
    assert everything < 1.01 * forward_passes(at_layer(0)) < 2.6


@pytest.mark.slow
def test_feature_references_share_the_encoder(forward_passes):
    cost = forward_passes(
        lambda model: grumo_jax.GradientUncertainty(model, references=grumo_jax.FeatureDropout())
    )
    assert cost < 1.8


@pytest.mark.slow
def test_inference_dropout_runs_the_encoder_once(forward_passes):
    # On CPUs the passes are a loop, whose body is counted once: the plain pass, and a body
    # without the encoder, which is half of the network.
    assert forward_passes(grumo_jax.InferenceDropout) < 1.6


@pytest.mark.slow
def test_estimators_called_together_share_their_passes(forward_passes):
    def together(model):
        several = {
            "grad": grumo_jax.GradientUncertainty(model),
            "post": grumo_jax.PostProcessing(model),
            "depth": grumo_jax.DepthBaseline(model),
        }
        return lambda v, x, key: grumo_jax.estimate_together(several, v, x, key)

    # The plain and the flipped image once, whoever needs them.
    assert forward_passes(together) < forward_passes(grumo_jax.GradientUncertainty) + 0.05


@pytest.mark.slow
def test_averaging_costs_twice_as_much_and_more(forward_passes):
    """The numbers of docs/results.md: what averaging costs depends on the network."""
    count = counter(PYDNET, (64, 128))
    paper = grumo_jax.GradientUncertainty.paper
    assert forward_passes(averaged) == pytest.approx(4.6, abs=0.2)
    assert (count(paper), count(averaged)) == pytest.approx((2.7, 6.9), abs=0.2)
