"""Linen: toy networks whose gradients are worked out by hand, and awkward modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_trees_close
from hypothesis import given, settings
from hypothesis import strategies as st

import grumo_jax


class TwoLayers(nn.Module):
    """y = w₂ · relu(w₁ · x), one number per layer."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, use_bias=False, name="b")(
            nn.relu(nn.Dense(1, use_bias=False, name="a")(x))
        )


TWO_LAYERS = {"params": {"a": {"kernel": jnp.array([[2.0]])}, "b": {"kernel": jnp.array([[3.0]])}}}


def half_square(y):
    return jnp.sum(y**2) / 2


def test_gradients_worked_out_by_hand():
    # x = 5: a = 10, y = 30; L = y²/2: dL/dy = 30 and dL/da = 3 · 30.
    inside = (TwoLayers(), TWO_LAYERS, jnp.array([[5.0]]))
    gradients = grumo_jax.activation_gradients(*inside, ["b", "a"], half_square)
    assert list(gradients) == ["b", "a"]
    assert_trees_close(gradients, {"b": [[30.0]], "a": [[90.0]]})
    assert grumo_jax.activation_gradients(*inside, "a", half_square) == 90


def test_gradient_behind_a_closed_relu_is_zero():
    inside = (TwoLayers(), TWO_LAYERS, jnp.array([[-5.0]]))
    assert grumo_jax.activation_gradients(*inside, "a", half_square) == 0


@jax.jit
def gradient_and_derivative(weights, image):
    """The activation's gradient, and the derivative of the loss by an edit."""
    model = TwoLayers()

    def loss_after_adding(offset):
        edits = {"a": lambda a: a + offset}
        return half_square(grumo_jax.edit_activations(model, weights, image, edits))

    gradient = grumo_jax.activation_gradients(model, weights, image, "a", half_square)
    return gradient[0, 0], jax.grad(loss_after_adding)(0.0)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=2))
def test_gradient_is_the_derivative_of_an_edit(x):
    image, weight = np.array(x, np.float32).reshape(2, 1, 1)
    gradient, derivative = gradient_and_derivative(
        jax.tree.map(lambda _: weight, TWO_LAYERS), image
    )
    np.testing.assert_allclose(gradient, derivative, rtol=1e-5)


def test_capture_and_edit():
    inside = (TwoLayers(), TWO_LAYERS, jnp.array([[5.0]]))
    assert grumo_jax.capture_activations(*inside, "a") == 10
    assert grumo_jax.capture_activations(*inside, ("a", "b")) == {"a": 10, "b": 30}
    assert grumo_jax.edit_activations(*inside, {"a": lambda a: a - 9}) == 3
    assert grumo_jax.edit_activations(*inside, {}) == 30


def test_several_cotangents_share_a_forward_pass():
    inside = (TwoLayers(), TWO_LAYERS, jnp.array([[5.0]]))
    output, pull_back = grumo_jax.activation_vjp(*inside, "a")
    assert output == 30
    gradients = jax.vmap(pull_back)(jnp.array([[[1.0]], [[2.0]]]))
    np.testing.assert_allclose(gradients[:, 0, 0], [3, 6])


def test_no_state_is_left_behind():
    model, variables, x = TwoLayers(), TWO_LAYERS, jnp.array([[5.0]])
    apply = jax.jit(model.apply)
    assert apply(variables, x) == 30
    grumo_jax.edit_activations(model, variables, x, {"a": jnp.zeros_like})
    assert model.apply(variables, x) == 30
    assert apply(variables, x) == 30
    compiled = jax.jit(lambda *inputs: model.apply(*inputs))
    assert compiled(variables, x) == 30


@pytest.mark.slow
def test_jit_gives_what_no_jit_gives(tiny, images):
    model, variables = tiny

    def gradients(variables, images):
        layers = model.decoder_layers[4:7]
        return grumo_jax.activation_gradients(
            model, variables, images, layers, lambda output: jnp.mean(output.depth)
        )

    assert_trees_close(
        jax.jit(gradients)(variables, images), gradients(variables, images), rtol=1e-3, atol=1e-7
    )


def test_gradient_has_the_layers_dtype(tiny, images):
    model, variables = tiny
    low = model.clone(dtype=jnp.bfloat16)
    shape = jax.eval_shape(
        lambda v, x: grumo_jax.activation_gradients(
            low, v, x, "decoder/up_1_0/conv", lambda output: jnp.mean(output.depth)
        ),
        variables,
        images,
    )
    assert shape.dtype == jnp.bfloat16


class Shared(nn.Module):
    """One module called twice, on inputs of different width."""

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(1, (1, 1), name="conv", use_bias=False)
        return conv(x)[:, ::2] + 2 * conv(x[:, ::2])


def test_each_call_of_a_shared_module_is_a_layer():
    variables = {"params": {"conv": {"kernel": jnp.full((1, 1, 1, 1), 3.0)}}}
    inside = (Shared(), variables, jnp.ones((1, 4, 4, 1)))
    shapes = grumo_jax.activation_shapes(*inside)
    assert {k: s.shape for k, s in shapes.items()} == {
        "conv#0": (1, 4, 4, 1),
        "conv#1": (1, 2, 4, 1),
    }
    gradients = grumo_jax.activation_gradients(*inside, list(shapes), jnp.sum)
    assert gradients["conv#0"].sum() == 8
    assert np.all(gradients["conv#1"] == 2)
    assert np.all(grumo_jax.edit_activations(*inside, {"conv#1": jnp.zeros_like}) == 3)
    with pytest.raises(grumo_jax.GrumoError, match=r"'conv' is called 2 times; name one call: 'co"):
        grumo_jax.capture_activations(*inside, "conv")


class Transformed(nn.Module):
    """Modules inside nn.remat and nn.jit, which work."""

    @nn.compact
    def __call__(self, x):
        x = nn.remat(nn.Dense)(4, name="a")(x)
        x = nn.jit(nn.Dense)(4, name="b")(x)
        return nn.Dense(1, name="c")(jnp.tanh(x))


def test_remat_and_jit_inside_the_model():
    model, x = Transformed(), jnp.ones((2, 3))
    variables = model.init(jax.random.key(0), x)
    inside = (model, variables, x)

    def gradients(variables, x):
        return grumo_jax.activation_gradients(model, variables, x, ["a", "b", "c"], half_square)

    def derivative(variables, x, name):
        def loss_after_adding(offset):
            edits = {name: lambda a: a + offset}
            return half_square(grumo_jax.edit_activations(model, variables, x, edits))

        activation = grumo_jax.capture_activations(model, variables, x, name)
        return jax.grad(loss_after_adding)(jnp.zeros_like(activation))

    desired = {name: jax.jit(derivative, static_argnums=2)(*inside[1:], name) for name in "abc"}
    assert_trees_close(gradients(variables, x), desired, rtol=1e-5)
    assert_trees_close(jax.jit(gradients)(variables, x), desired, rtol=1e-5)
    np.testing.assert_allclose(grumo_jax.edit_activations(*inside, {}), model.apply(variables, x))


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(3, name="dense")(x), None


class Scanned(nn.Module):
    """Layers hidden in a scan, with or without their captures carried out."""

    carry_out: bool

    @nn.compact
    def __call__(self, x):
        axes = {"params": 0} | ({"intermediates": 0} if self.carry_out else {})
        scan = nn.scan(Step, variable_axes=axes, split_rngs={"params": True}, length=3)
        return nn.Dense(1, name="last")(scan(name="steps")(x, None)[0])


@pytest.mark.parametrize(
    ("carry_out", "reason"), [(False, "keeps its outputs to itself"), (True, "stacks its outputs")]
)
def test_layers_inside_a_scan_are_detected_and_said(carry_out, reason):
    model, x = Scanned(carry_out), jnp.ones((2, 3))
    variables = model.init(jax.random.key(0), x)
    assert list(grumo_jax.activation_shapes(model, variables, x)) == ["last"]
    with pytest.raises(grumo_jax.GrumoError, match=f"'steps/dense' cannot be used: .*{reason}"):
        grumo_jax.activation_gradients(model, variables, x, "steps/dense", half_square)


def test_errors_name_the_problem(tiny, images):
    model, variables = tiny

    def traced(function, *arguments):
        """Nothing is computed, and the problem is found all the same."""
        return jax.eval_shape(lambda v, x: function(model, v, x, *arguments), variables, images)

    with pytest.raises(
        grumo_jax.GrumoError,
        match=r"no layer 'decoder/up_1_2/conv'; did you mean .*'decoder/up_1_1/conv'.* lists all",
    ):
        traced(grumo_jax.capture_activations, "decoder/up_1_2/conv")
    with pytest.raises(grumo_jax.GrumoError, match=r"'head_0'; did you mean .*'decoder/head_0'"):
        traced(grumo_jax.capture_activations, "head_0")
    with pytest.raises(grumo_jax.GrumoError, match=r"the loss has shape \(3,\); .* scalar"):
        traced(
            grumo_jax.activation_gradients,
            "decoder/head_0",
            lambda output: output.depth[:, 0, 0],
        )
    with pytest.raises(grumo_jax.GrumoError, match=r"edit of layer 'decoder/head_0' returns"):
        traced(grumo_jax.edit_activations, {"decoder/head_0": lambda a: a[:1]})
    with pytest.raises(grumo_jax.GrumoError, match=r"the model is a function; expected a linen"):
        grumo_jax.activation_shapes(half_square, {}, images)
