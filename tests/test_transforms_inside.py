"""Networks that use JAX's and Flax's transforms themselves: none may hide what goes on inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from helpers import draw_variables

import grumo_jax
from grumo_jax.ablation import ablate_locations, depth_change
from grumo_jax.errors import GrumoError, LayerError


def enlarge(x):
    return jnp.repeat(jnp.repeat(x, 4, axis=1), 4, axis=2)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + nn.relu(nn.Conv(4, (3, 3), name="conv")(x))


class JitMethod(nn.Module):
    @nn.jit
    @nn.compact
    def __call__(self, x):
        return x + nn.relu(nn.Conv(4, (3, 3), name="conv")(x))


JitClass = nn.jit(Block)
BLOCKS = {
    "jit of the method": JitMethod,
    "jit of the class": JitClass,
    "checkpoint": nn.checkpoint(Block),
    "jit of checkpoint": nn.jit(nn.checkpoint(Block)),
}


def network(block):
    class Net(nn.Module):
        """Three blocks of one class and shape, which `nn.jit` would trace once."""

        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3), strides=4, name="down")(x))
            for i in range(3):
                x = block(name=f"block_{i}")(x)
            return nn.softplus(nn.Conv(1, (3, 3), name="head")(enlarge(x)))[..., 0]

    return Net()


def what_is_seen(model, variables, images):
    """Everything that looks inside, in an order in which one call could spoil the next."""
    edits = {"block_1/conv": jnp.zeros_like}

    @jax.jit
    def values(variables, images):
        inside = (model, variables, images)
        return {
            "edited": grumo_jax.edit_activations(*inside, edits),
            "plain": grumo_jax.edit_activations(*inside, {}),
            "captured": grumo_jax.capture_activations(*inside, "block_2/conv"),
            "gradients": grumo_jax.activation_gradients(
                *inside, ["block_0/conv", "block_2/conv"], jnp.mean
            ),
            "grad": grumo_jax.GradientUncertainty(model)(variables, images).raw,
            "after": model.apply(variables, images),
        }

    return {
        "layers": list(grumo_jax.activation_shapes(model, variables, images)),
        "chosen": grumo_jax.choose_layers(model, variables, images, "decoder"),
        **values(variables, images),
    }


@pytest.fixture(scope="module")
def plain(images):
    model = network(Block)
    variables = draw_variables(model, images)
    return variables, what_is_seen(model, variables, images)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_transformed_block_is_seen_as_a_plain_one(kind, plain, images):
    variables, expected = plain
    model = network(BLOCKS[kind])
    model.apply(variables, images)  # what is traced here must not be found later
    found = what_is_seen(model, variables, images)
    assert (found.pop("layers"), found.pop("chosen")) == (expected["layers"], expected["chosen"])
    for name, value in found.items():
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), value, expected[name]
        )


def test_a_network_jitted_as_a_whole_is_seen_as_a_plain_one(plain, images):
    variables, expected = plain
    model = nn.jit(type(network(Block)))()
    model.apply(variables, images)
    assert list(grumo_jax.activation_shapes(model, variables, images)) == expected["layers"]
    edited = grumo_jax.edit_activations(model, variables, images, {"block_1/conv": jnp.zeros_like})
    np.testing.assert_allclose(edited, expected["edited"], rtol=1e-5)


class OwnDerivative(nn.Module):
    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(1, (3, 3), name="conv")

        def forward(module, x):
            return nn.vjp(lambda module, x: module(x), module, x)

        inside = nn.custom_vjp(lambda module, x: module(x), forward, lambda pull, y: pull(y))
        return nn.softplus(inside(conv, nn.Conv(3, (3, 3), name="before")(x)))[..., 0]


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_a_layer_inside_custom_vjp_is_refused_and_one_before_is_not(transform, images):
    model = OwnDerivative()
    variables = draw_variables(model, images)

    def gradients(variables, layer):
        return grumo_jax.activation_gradients(model, variables, images, layer, jnp.mean)

    with pytest.raises(LayerError, match=r"no gradient reaches layer 'conv': .* own derivative"):
        transform(lambda v: gradients(v, "conv"))(variables)
    assert transform(lambda v: gradients(v, "before"))(variables).shape == images.shape


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(4, 4, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.conv(x))


class NnxJit(NnxBlock):
    @nnx.jit
    def __call__(self, x):
        return nnx.relu(self.conv(x))


class NnxRemat(NnxBlock):
    @nnx.remat
    def __call__(self, x):
        return nnx.relu(self.conv(x))


call_jitted = nnx.jit(lambda module, x: module(x))


class NnxCached(NnxBlock):
    """Calls the same module twice through one cached function."""

    def __call__(self, x):
        return nnx.relu(call_jitted(self.conv, call_jitted(self.conv, x)))


class NnxTwice(NnxBlock):
    def __call__(self, x):
        return nnx.relu(self.conv(self.conv(x)))


class NnxJaxCheckpoint(NnxBlock):
    def __call__(self, x):
        return nnx.relu(jax.checkpoint(self.conv)(x))


class NnxNet(nnx.Module):
    def __init__(self, block, rngs):
        self.down = nnx.Conv(3, 4, (3, 3), strides=4, rngs=rngs)
        self.block = block(rngs)
        self.head = nnx.Conv(4, 1, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.softplus(self.head(enlarge(self.block(self.down(x)))))[..., 0]


@pytest.mark.parametrize(
    ("block", "as_plain", "layer"),
    [
        (NnxJit, NnxBlock, "block/conv"),
        (NnxRemat, NnxBlock, "block/conv"),
        (NnxCached, NnxTwice, "block/conv#0"),
        (NnxCached, NnxTwice, "block/conv#1"),
    ],
)
def test_nnx_transforms_hide_nothing(block, as_plain, layer, images):
    found = []
    for kind in (block, as_plain):
        net = NnxNet(kind, nnx.Rngs(0))
        net(images)
        graph, state = nnx.split(net)

        @jax.jit
        def values(state, images, graph=graph):
            edited = grumo_jax.edit_activations(graph, state, images, {layer: jnp.zeros_like})
            gradient = grumo_jax.activation_gradients(graph, state, images, layer, jnp.mean)
            return edited, gradient

        names = list(grumo_jax.activation_shapes(graph, state, images))
        found.append((names, *values(state, images)))
    assert found[0][0] == found[1][0]
    for ours, plain in zip(found[0][1:], found[1][1:], strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-8)


def test_what_jax_carries_nothing_out_of_is_said_to_be_hidden(images):
    inside = (*nnx.split(NnxNet(NnxJaxCheckpoint, nnx.Rngs(0))), images)
    assert list(grumo_jax.activation_shapes(*inside)) == ["down", "block", "head"]
    with pytest.raises(LayerError, match="'block/conv' cannot be used: it runs inside a transform"):
        grumo_jax.edit_activations(*inside, {"block/conv": jnp.zeros_like})


class InnerDecoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(1, (3, 3), name="last")(nn.relu(nn.Conv(4, (3, 3), name="first")(x)))


@jax.jit
def apply_inner(variables, x):
    return InnerDecoder().apply(variables, x)


class Applies(nn.Module):
    """Its decoder is a network of its own, applied through a function that JAX traces once."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=4, name="down")(x))
        inner = self.variable("inner", "of it", InnerDecoder().init, jax.random.key(2), x)
        return nn.softplus(apply_inner(inner.value, x))[..., 0]


def test_what_is_applied_inside_is_hidden_each_time(images):
    variables = Applies().init(jax.random.key(0), images)
    for _ in range(3):
        with pytest.raises(LayerError, match=r"on 'down'.* cannot be seen: 'first', 'last'; name"):
            grumo_jax.choose_layers(Applies(), variables, images, "decoder")
    grad = grumo_jax.GradientUncertainty(Applies(), layers="down")
    assert jnp.isfinite(grad(variables, images).raw).all()


def test_edits_inside_custom_vjp_are_refused(images):
    model = OwnDerivative()
    variables = model.init(jax.random.key(0), images)
    said = r"layer 'conv' cannot be edited: it runs inside a function that brings its own deriv"
    with pytest.raises(LayerError, match=said):
        grumo_jax.edit_activations(model, variables, images, {"conv": jnp.zeros_like})
    with pytest.raises(LayerError, match=said):
        grumo_jax.InferenceDropout(model, layers="conv")(variables, images, jax.random.key(0))
    with pytest.raises(LayerError, match=said):
        ablate_locations(model, variables, images, "conv", depth_change)


class TwoHeads(nn.Module):
    """Depth does not depend on its second head."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=4, name="down")(x))
        x = enlarge(nn.relu(nn.Conv(4, (3, 3), name="decoder")(x)))
        classes = nn.Conv(5, (3, 3), name="classes")(x)
        return {"depth": nn.softplus(nn.Conv(1, (3, 3), name="head")(x)), "classes": classes}


@pytest.mark.parametrize("transform", [lambda cls: cls, nn.jit, nn.checkpoint])
def test_heads_that_depth_does_not_depend_on_are_no_layers(transform, images):
    model = transform(TwoHeads)()
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    chosen = grumo_jax.choose_layers(model, variables, images, "decoder")
    assert chosen == ("decoder", "head")


class BatchNormed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False, name="norm")(x)
        return nn.softplus(nn.Conv(1, (3, 3))(x))


@jax.jit
def apply_normed(variables, x):
    return BatchNormed().apply(variables, x, mutable=["batch_stats"])[0]


class AppliesNormed(nn.Module):
    @nn.compact
    def __call__(self, x):
        inner = self.variable("inner", "of it", BatchNormed().init, jax.random.key(2), x)
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(apply_normed(inner.value, x)))


def test_train_mode_is_seen_however_often_it_was_traced(images):
    variables = AppliesNormed().init(jax.random.key(0), images)
    for _ in range(2):
        with pytest.raises(GrumoError, match="in train mode: 'norm' normalises by the batch"):
            grumo_jax.PostProcessing(AppliesNormed())(variables, images)
        with pytest.raises(GrumoError, match="in train mode: 'norm' normalises by the batch"):
            ablate_locations(AppliesNormed(), variables, images, "head", depth_change)
