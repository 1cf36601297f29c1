"""What estimators cost, counted by XLA."""

import jax
import jax.numpy as jnp
import pytest

import grumo_jax


@pytest.fixture(scope="module")
def forward_passes():
    """Function estimator → FLOPs in forward passes of Monodepth2 with ResNet-18."""
    model = grumo_jax.Monodepth2()
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def flops(function):
        compiled = jax.jit(function).lower(variables, images).compile()
        return compiled.cost_analysis()["flops"]

    forward = flops(lambda v, x: model.apply(v, x).depth)
    return lambda make: flops(lambda v, x: make(model)(v, x, jax.random.key(0))) / forward


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


def test_feature_references_share_the_encoder(forward_passes):
    cost = forward_passes(
        lambda model: grumo_jax.GradientUncertainty(model, reference=grumo_jax.FeatureDropout())
    )
    assert cost < 1.8


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
