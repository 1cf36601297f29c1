"""Whatever is listed can be named, by every function alike; what is no array is no activation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import draw_variables

import grumo_jax
from grumo_jax.ablation import ablate_locations, depth_change
from grumo_jax.errors import GrumoError, LayerError


class Sequential(nn.Module):
    """As ported from PyTorch: modules are called by their places."""

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate((4, 4, 4)):
            x = nn.relu(nn.Conv(width, (3, 3), strides=2 if i == 0 else 1, name=str(i))(x))
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return nn.softplus(nn.Conv(1, (3, 3), name="3")(x))[..., 0]


@pytest.fixture(scope="module")
def sequential(images):
    return Sequential(), draw_variables(Sequential(), images), images


def test_a_name_comes_before_a_number_and_an_int_is_a_number(sequential):
    assert list(grumo_jax.activation_shapes(*sequential)) == ["0", "1", "2", "3"]
    assert grumo_jax.name_layers(*sequential, "decoder") == ("2", "3")
    assert grumo_jax.name_layers(*sequential, ["1"]) == ("1",)
    assert grumo_jax.name_layers(*sequential, 1) == ("3",)
    assert grumo_jax.name_layers(*sequential, np.int64(0)) == ("2",)
    assert grumo_jax.name_layers(*sequential, np.array([0, 1])) == ("2", "3")
    with pytest.raises(LayerError, match=r"no decoder layer 9; the decoder's layers are 0 … 1"):
        grumo_jax.name_layers(*sequential, "9")


class Twice(nn.Module):
    """A module that is called twice, and one whose name is that of its second call."""

    first: str
    second: str

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(3, (3, 3), name=self.first)
        x = nn.Conv(4, (3, 3), name=self.second)(conv(conv(x)))
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(x))


def test_a_digit_that_is_called_twice_is_no_number(images):
    model = Twice("0", "next")
    inside = model, draw_variables(model, images), images
    with pytest.raises(LayerError, match="layer '0' is called 2 times; name one call: '0#0' … '0"):
        grumo_jax.capture_activations(*inside, "0")
    with pytest.raises(LayerError, match="layer '0' is called 2 times"):
        grumo_jax.GradientUncertainty(model, layers="0")(*inside[1:])


def test_a_name_that_looks_like_a_call_is_no_other_module(images):
    model = Twice("conv", "conv#1")
    inside = model, draw_variables(model, images), images
    shapes = grumo_jax.activation_shapes(*inside)
    assert {name: shape.shape[-1] for name, shape in shapes.items()} == {
        "conv#0": 3,
        "conv#1": 3,
        "conv#1#0": 4,
        "head": 1,
    }
    assert grumo_jax.capture_activations(*inside, "conv#1#0").shape[-1] == 4


@pytest.mark.parametrize(("layer", "name"), [("2", "2"), (1, "3"), ("3#0", "3")])
def test_all_functions_take_the_same_names_and_numbers(sequential, layer, name):
    model, variables, images = sequential

    def values(variables, images, layer):
        inside = (model, variables, images)
        return {
            "captured": grumo_jax.capture_activations(*inside, layer),
            "gradient": grumo_jax.activation_gradients(*inside, layer, jnp.mean),
            "edited": grumo_jax.edit_activations(*inside, {layer: jnp.zeros_like}),
        }

    @jax.jit
    def by_name_and_number(variables, images):
        found, expected = (values(variables, images, chosen) for chosen in (layer, name))
        patch = expected["captured"].shape[1:3]
        change = ablate_locations(model, variables, images, layer, depth_change, patch=patch)
        return found, expected, change, model.apply(variables, images)

    found, expected, change, plain = by_name_and_number(variables, images)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    shapes = jax.eval_shape(
        lambda *inside: grumo_jax.capture_activations(model, *inside, ["0", layer]),
        variables,
        images,
    )
    assert list(shapes) == ["0", name]
    edited = expected["edited"]
    expected = np.mean(np.abs(edited - plain) / plain, axis=(1, 2))
    np.testing.assert_allclose(change[0, 0], expected, rtol=1e-5)


def test_the_input_is_a_layer(sequential):
    model, variables, images = sequential

    @jax.jit
    def found_and_expected(variables, images):
        inside = (model, variables, images)
        found = (
            grumo_jax.capture_activations(*inside, "input"),
            grumo_jax.activation_gradients(*inside, "input", jnp.mean),
            grumo_jax.edit_activations(*inside, {"input": jnp.zeros_like}),
        )
        slope = jax.grad(lambda x: jnp.mean(model.apply(variables, x)))(images)
        return found, (images, slope, model.apply(variables, 0 * images))

    (captured, gradient, black), expected = found_and_expected(variables, images)
    np.testing.assert_array_equal(captured, expected[0])
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(black, expected[2], rtol=1e-6)
    grad = grumo_jax.GradientUncertainty(model, layers="input")
    scores = jax.eval_shape(grad, variables, images).layer_scores
    assert scores["input"].shape == (1, 3, 32, 64)


def test_a_module_of_that_name_comes_first(images):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.softplus(nn.Conv(1, (3, 3), name="input")(x))[..., 0]

    variables = draw_variables(Net(), images)
    assert grumo_jax.capture_activations(Net(), variables, images, "input").shape == (3, 32, 64, 1)


@pytest.mark.parametrize("layer", [True, 1.5, None, ["2", 0.5]])
def test_what_is_neither_name_nor_number_is_refused(sequential, layer):
    with pytest.raises(LayerError, match=r"a layer is (True|1.5|None|0.5); expected a name, or a"):
        grumo_jax.capture_activations(*sequential, layer)


class Sized(nn.Module):
    """Returns its features and their size, as many encoders do."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2, name="conv")(x)
        return x, x.shape[1:3], "half"


class Silent(nn.Module):
    def __call__(self, x):
        return None


class Strange(nn.Module):
    """Submodules whose outputs are more, less or other than an array."""

    @nn.compact
    def __call__(self, x):
        x, size, _ = Sized(name="encoder")(x)
        Silent(name="nothing")(x)
        index = Argmax(name="index")(x)
        x = x + 0.0 * index[..., None].astype(x.dtype)
        x = nn.Conv(1, (3, 3), name="head")(x)
        x = jax.image.resize(x, (len(x), 2 * size[0], 2 * size[1], 1), "nearest")
        return nn.softplus(x)[..., 0]


class Argmax(nn.Module):
    def __call__(self, x):
        return jnp.argmax(x, axis=-1)


@pytest.fixture(scope="module")
def strange(images):
    return Strange(), draw_variables(Strange(), images), images


def test_leaves_that_are_no_arrays_are_no_activations(strange):
    shapes = grumo_jax.activation_shapes(*strange)
    assert list(shapes) == ["encoder/conv", "encoder", "index", "head"]
    features, size, word = shapes["encoder"]
    assert features.shape == (3, 16, 32, 4)
    assert (size, word) == ((None, None), None)
    estimate = jax.eval_shape(grumo_jax.GradientUncertainty(strange[0]), *strange[1:])
    assert list(estimate.layer_scores) == ["head"]


def test_outputs_with_other_things_are_captured_differentiated_and_edited(strange):
    model, variables, images = strange

    @jax.jit
    def values(variables, images):
        inside = (model, variables, images)
        return (
            grumo_jax.capture_activations(*inside, "encoder/conv"),
            grumo_jax.capture_activations(*inside, "encoder")[0],
            grumo_jax.activation_gradients(*inside, ["encoder", "encoder/conv"], jnp.mean),
            grumo_jax.edit_activations(*inside, {"encoder": lambda out: (2 * out[0], *out[1:])}),
            grumo_jax.edit_activations(*inside, {"encoder/conv": lambda a: 2 * a}),
        )

    features, captured, gradient, doubled, same = values(variables, images)
    np.testing.assert_array_equal(captured, features)
    np.testing.assert_array_equal(gradient["encoder"][0], gradient["encoder/conv"])
    np.testing.assert_allclose(doubled, same, rtol=1e-6)


def test_integers_have_no_gradient(strange):
    assert grumo_jax.capture_activations(*strange, "index").dtype == jnp.int32
    with pytest.raises(LayerError, match="layer 'index' gives no real numbers and has no gradient"):
        grumo_jax.activation_gradients(*strange, "index", jnp.mean)


def hidden_in_a_scan(images):
    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.relu(nn.Conv(4, (3, 3), name="conv")(x)), None

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), strides=2, name="stem")(x)
            scan = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
            x = jnp.repeat(jnp.repeat(scan(name="steps")(x, None)[0], 2, axis=1), 2, axis=2)
            return nn.softplus(nn.Conv(1, (3, 3), name="head")(x))[..., 0]

    return Scanned(), draw_variables(Scanned(), images)


def dense_head(images):
    class DenseHead(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3), strides=2, name="stem")(x))
            x = nn.Dense(1, name="head")(x)
            return nn.softplus(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))[..., 0]

    return DenseHead(), draw_variables(DenseHead(), images)


@pytest.mark.parametrize(
    ("make", "named"), [(hidden_in_a_scan, "'steps/conv'"), (dense_head, "'head'")]
)
def test_the_stem_is_not_taken_for_a_decoder(make, named, images):
    model, variables = make(images)
    sentence = f"no decoder can be recognised: on 'stem', .* cannot be seen: {named}; name the lay"
    with pytest.raises(LayerError, match=sentence):
        grumo_jax.GradientUncertainty(model)(variables, images)
    for estimator in (
        grumo_jax.GradientUncertainty(model, layers="head"),
        grumo_jax.PostProcessing(model),
    ):
        assert jax.eval_shape(estimator, variables, images).uncertainty.shape == (3, 32, 64)


def test_several_layers_are_averaged_by_default(small, images):
    model, variables = small
    grad = grumo_jax.GradientUncertainty(model, layers=["up2", "up1"])
    by_hand = grumo_jax.GradientUncertainty(model, layers=["up2", "up1"], combine="mean")
    np.testing.assert_array_equal(
        jax.jit(grad)(variables, images).uncertainty,
        jax.jit(by_hand)(variables, images).uncertainty,
    )
    with pytest.raises(GrumoError, match="combine is 'best'; it must be one of"):
        grumo_jax.GradientUncertainty(model, combine="best")
