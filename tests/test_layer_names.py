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
    return Sequential(), Sequential().init(jax.random.key(0), images), images


def test_a_name_comes_before_a_number_and_an_int_is_a_number(sequential):
    assert list(grumo_jax.activation_shapes(*sequential)) == ["0", "1", "2", "3"]
    assert grumo_jax.name_layers(*sequential, "decoder") == ("2", "3")
    assert grumo_jax.name_layers(*sequential, ["1"]) == ("1",)
    assert grumo_jax.name_layers(*sequential, 1) == ("3",)
    assert grumo_jax.name_layers(*sequential, np.int64(0)) == ("2",)
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
    captured = grumo_jax.capture_activations(*sequential, name)
    np.testing.assert_array_equal(grumo_jax.capture_activations(*sequential, layer), captured)
    assert list(grumo_jax.capture_activations(*sequential, ["0", layer])) == ["0", name]
    gradient = grumo_jax.activation_gradients(*sequential, layer, jnp.mean)
    np.testing.assert_array_equal(
        gradient, grumo_jax.activation_gradients(*sequential, name, jnp.mean)
    )
    edited = grumo_jax.edit_activations(*sequential, {layer: jnp.zeros_like})
    np.testing.assert_array_equal(
        edited, grumo_jax.edit_activations(*sequential, {name: jnp.zeros_like})
    )
    patch = captured.shape[1:3]
    change = ablate_locations(model, variables, images, layer, depth_change, patch=patch)
    plain = model.apply(variables, images)
    expected = jnp.mean(jnp.abs(edited - plain) / plain, axis=(1, 2))
    np.testing.assert_allclose(change[0, 0], expected, rtol=1e-5)


def test_the_input_is_a_layer(sequential):
    model, variables, images = sequential
    assert grumo_jax.capture_activations(*sequential, "input") is not None
    np.testing.assert_array_equal(grumo_jax.capture_activations(*sequential, "input"), images)
    gradient = grumo_jax.activation_gradients(*sequential, "input", jnp.mean)
    desired = jax.grad(lambda x: jnp.mean(model.apply(variables, x)))(images)
    np.testing.assert_allclose(gradient, desired, rtol=1e-4, atol=1e-9)
    black = grumo_jax.edit_activations(*sequential, {"input": jnp.zeros_like})
    np.testing.assert_allclose(black, model.apply(variables, 0 * images), rtol=1e-6)
    scores = grumo_jax.GradientUncertainty(model, layers="input")(variables, images).layer_scores
    assert scores["input"].shape == (1, 3, 32, 64)


def test_a_module_of_that_name_comes_first(images):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.softplus(nn.Conv(1, (3, 3), name="input")(x))[..., 0]

    variables = Net().init(jax.random.key(0), images)
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
    return Strange(), Strange().init(jax.random.key(0), images), images


def test_leaves_that_are_no_arrays_are_no_activations(strange):
    shapes = grumo_jax.activation_shapes(*strange)
    assert list(shapes) == ["encoder/conv", "encoder", "index", "head"]
    features, size, word = shapes["encoder"]
    assert features.shape == (3, 16, 32, 4)
    assert (size, word) == ((None, None), None)
    assert list(grumo_jax.GradientUncertainty(strange[0])(*strange[1:]).layer_scores) == ["head"]


def test_outputs_with_other_things_are_captured_differentiated_and_edited(strange):
    features = grumo_jax.capture_activations(*strange, "encoder/conv")
    np.testing.assert_array_equal(grumo_jax.capture_activations(*strange, "encoder")[0], features)
    gradient = grumo_jax.activation_gradients(*strange, ["encoder", "encoder/conv"], jnp.mean)
    np.testing.assert_array_equal(gradient["encoder"][0], gradient["encoder/conv"])
    doubled = grumo_jax.edit_activations(*strange, {"encoder": lambda out: (2 * out[0], *out[1:])})
    same = grumo_jax.edit_activations(*strange, {"encoder/conv": lambda a: 2 * a})
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

    return Scanned(), Scanned().init(jax.random.key(0), images)


def dense_head(images):
    class DenseHead(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3), strides=2, name="stem")(x))
            x = nn.Dense(1, name="head")(x)
            return nn.softplus(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))[..., 0]

    return DenseHead(), DenseHead().init(jax.random.key(0), images)


@pytest.mark.parametrize(
    ("make", "named"), [(hidden_in_a_scan, "'steps/conv'"), (dense_head, "'head'")]
)
def test_the_stem_is_not_taken_for_a_decoder(make, named, images):
    model, variables = make(images)
    sentence = f"no decoder can be recognised: on 'stem', .* cannot be seen: {named}; name the lay"
    with pytest.raises(LayerError, match=sentence):
        grumo_jax.GradientUncertainty(model)(variables, images)
    named_one = grumo_jax.GradientUncertainty(model, layers="head")(variables, images)
    assert named_one.uncertainty.shape == (3, 32, 64)
    assert grumo_jax.PostProcessing(model)(variables, images).depth.shape == (3, 32, 64)


def test_several_layers_are_averaged_by_default(tiny, images):
    model, variables = tiny
    grad = grumo_jax.GradientUncertainty(model, layers=[5, 6])
    by_hand = grumo_jax.GradientUncertainty(model, layers=[5, 6], combine="mean")
    np.testing.assert_array_equal(
        grad(variables, images).uncertainty, by_hand(variables, images).uncertainty
    )
    with pytest.raises(GrumoError, match="combine is 'best'; it must be one of"):
        grumo_jax.GradientUncertainty(model, combine="best")
