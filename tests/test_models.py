import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_variables

import grumo_jax


@pytest.fixture(scope="module")
def output(tiny, images):
    return jax.jit(tiny[0].apply)(tiny[1], images)


def test_output_has_all_scales(tiny, output):
    model, _ = tiny
    assert output.depth.shape == (3, 32, 64)
    assert [d.shape for d in output.disparities] == [(3, 32 >> s, 64 >> s) for s in range(4)]
    assert output.log_sigma.shape == (3, 32, 64)
    assert np.all((output.disparity > 0) & (output.disparity < 1))
    np.testing.assert_allclose(output.depth, model.disparity_to_depth(output.disparity), rtol=1e-5)


def test_output_is_a_frozen_pytree(tiny, images):
    model, variables = tiny
    output = jax.eval_shape(model.apply, variables, images)
    assert len(jax.tree.leaves(output)) == 12
    with pytest.raises(dataclasses.FrozenInstanceError):
        output.depths = ()


@pytest.fixture(scope="module")
def training(images):
    """A network that predicts depth, in training mode: variables, (variables, key) → result."""
    model = grumo_jax.Monodepth2.tiny(output="depth", scales=(0,), dropout_rate=0.5)

    @jax.jit
    def train(variables, key):
        return model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )

    return draw_variables(model, images), train


def test_depth_network_has_a_linear_output(training):
    variables, train = training
    output, _ = train(variables, jax.random.key(1))
    moved = jax.tree.map(lambda x: x, variables)
    moved["params"]["decoder"]["head_0"]["bias"] += 7
    np.testing.assert_allclose(
        train(moved, jax.random.key(1))[0].depth, output.depth + 7, rtol=1e-5
    )
    assert output.disparities is None
    assert len(output.depths) == 1


def test_training_mode_updates_batch_statistics_and_drops_channels(training):
    variables, train = training
    first, updated = train(variables, jax.random.key(1))
    second, _ = train(variables, jax.random.key(2))
    before, after = variables["batch_stats"], updated["batch_stats"]
    leaves = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    assert any(np.any(np.not_equal(a, b)) for a, b in leaves)
    assert np.any(first.depth != second.depth)


def test_eleven_decoder_layers_have_the_official_shapes():
    model = grumo_jax.Monodepth2()
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    shapes = grumo_jax.activation_shapes(model, variables, images)
    found = [shapes[name].shape[1:] for name in model.decoder_layers]
    widths = (256, 256, 128, 128, 64, 64, 32, 32, 16, 16, 1)
    strides = (32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1)
    assert found == [(64 // s, 96 // s, c) for s, c in zip(strides, widths, strict=True)]
    assert set(model.dropout_layers) <= set(shapes)
    assert set(model.feature_layers) <= set(shapes)


@pytest.mark.parametrize(
    ("num_layers", "million"), [(18, 11.2), (34, 21.3), (50, 23.5), (101, 42.5), (152, 58.1)]
)
def test_encoders_have_torchvision_parameter_counts(num_layers, million):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    model = grumo_jax.Monodepth2(num_layers)
    encoder = jax.eval_shape(model.init, jax.random.key(0), images)["params"]["encoder"]
    count = sum(leaf.size for leaf in jax.tree.leaves(encoder))
    assert round(count / 1e6, 1) == million


def test_bfloat16_network_gives_float32_depth_near_by(tiny, images, output):
    model, variables = tiny
    low = model.clone(dtype=jnp.bfloat16)
    found = jax.jit(low.apply)(variables, images)
    shapes = grumo_jax.activation_shapes(low, variables, images)
    assert shapes["decoder/up_0_1/conv"].dtype == jnp.bfloat16
    assert found.depth.dtype == jnp.float32
    np.testing.assert_allclose(found.depth, output.depth, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "shape", "dtype", "message"),
    [
        ({}, (1, 100, 200, 3), "float32", r"100×200; .* multiples of 32: .* 96×192, or use .*Pred"),
        ({}, (32, 64, 3), "float32", r"shape \(32, 64, 3\); expected \(batch, height, width, 3\)"),
        ({}, (1, 32, 64, 3), "uint8", r"images are uint8; expected float32 in \[0, 1\]: divide"),
        ({"output": "inverse"}, (1, 32, 64, 3), "float32", r"output is 'inverse'; it must be"),
        ({"num_layers": 17}, (1, 32, 64, 3), "float32", r"num_layers is 17; .* 18, 34, 50"),
        ({"scales": (1, 2)}, (1, 32, 64, 3), "float32", r"scales \(1, 2\) must contain 0"),
    ],
)
def test_errors_name_the_problem(change, shape, dtype, message):
    model = grumo_jax.Monodepth2.tiny(**change)
    with pytest.raises(grumo_jax.GrumoError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape, dtype))
