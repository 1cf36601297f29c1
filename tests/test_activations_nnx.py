"""NNX: the same functions on a graph definition and its state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_trees_close
from PIL import Image

import grumo_jax
from grumo_jax.data import ImageFolder
from grumo_jax.evaluation import Protocol, evaluate


class SmallDepthNet(nnx.Module):
    """An encoder, two decoder convolutions of which one is used twice, and a head."""

    def __init__(self, rngs):
        conv = {"kernel_size": (3, 3), "rngs": rngs}
        self.down = nnx.Conv(3, 4, strides=2, **conv)
        self.blocks = nnx.List([nnx.Conv(4, 4, **conv) for _ in range(2)])
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.head = nnx.Sequential(nnx.Conv(4, 4, **conv), nnx.relu, nnx.Conv(4, 1, **conv))

    def __call__(self, x):
        assert self.down.kernel_size == (3, 3)
        x = jnp.tanh(self.down(x))
        for block in (*self.blocks, self.blocks[0]):
            x = jnp.tanh(block(x))
        x = jnp.repeat(jnp.repeat(self.norm(x), 2, axis=1), 2, axis=2)
        return nnx.softplus(self.head(x))[..., 0] + 0.1


@pytest.fixture(scope="module")
def net():
    return SmallDepthNet(nnx.Rngs(0))


def loss(depth):
    return jnp.mean(depth**2)


def test_layers_and_gradients(net, images):
    graphdef, state = nnx.split(net)
    inside = (graphdef, state, images)
    layers = grumo_jax.activation_shapes(*inside)
    assert list(layers) == [
        "down",
        "blocks/0#0",
        "blocks/1",
        "blocks/0#1",
        "norm",
        "head/layers/0",
        "head/layers/2",
        "head",
    ]

    def gradients(state, images):
        return grumo_jax.activation_gradients(graphdef, state, images, list(layers), loss)

    @jax.jit
    def derivatives(state, images, offsets):
        def loss_after_adding(offset, name):
            edits = {name: lambda a: a + offset}
            return loss(grumo_jax.edit_activations(graphdef, state, images, edits))

        return {name: jax.grad(loss_after_adding)(offset, name) for name, offset in offsets.items()}

    offsets = {name: np.zeros(shape.shape, np.float32) for name, shape in layers.items()}
    desired = derivatives(state, images, offsets)
    assert_trees_close(jax.jit(gradients)(state, images), desired, rtol=1e-4, atol=1e-8)


def test_capture_and_no_state_left_behind(net, images):
    graphdef, state = nnx.split(net)
    before = net(images)
    captured = grumo_jax.capture_activations(graphdef, state, images, ["down", "head"])
    np.testing.assert_allclose(captured["down"], net.down(images), rtol=1e-5)
    np.testing.assert_allclose(nnx.softplus(captured["head"])[..., 0] + 0.1, before, rtol=1e-5)
    np.testing.assert_array_equal(net(images), before)
    assert isinstance(net.down, nnx.Conv)


def test_estimators_take_an_nnx_network(net, images):
    graphdef, state = nnx.split(net)
    references = (grumo_jax.Flip(), grumo_jax.FeatureNoise(layers=("down",)))
    estimators = {
        "grad": grumo_jax.GradientUncertainty(graphdef),
        "averaged": grumo_jax.GradientUncertainty.averaged(graphdef, references=references),
        "in-drop": grumo_jax.InferenceDropout(graphdef, samples=3),
    }
    estimates = grumo_jax.estimate_together(estimators, state, images, jax.random.key(0))
    assert list(estimates["grad"].layer_scores) == ["blocks/0#1"]
    np.testing.assert_allclose(estimates["grad"].depth, net(images), rtol=1e-5)
    for name in ("averaged", "in-drop"):
        uncertainty = np.asarray(estimates[name].uncertainty)
        assert uncertainty.shape == (3, 32, 64)
        assert 0 < uncertainty.mean() < 1


class DropoutNet(SmallDepthNet):
    """Holds a PRNG key among its variables."""

    def __init__(self, rngs, *, deterministic=True):
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=deterministic, rngs=rngs)

    def __call__(self, x):
        return super().__call__(self.dropout(x))


@pytest.mark.slow
def test_a_network_with_dropout_is_evaluated(tmp_path):
    for kind in ("rgb", "depth"):
        (tmp_path / kind).mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (64, 32), "gray").save(tmp_path / "rgb" / f"{name}.png")
        np.save(tmp_path / "depth" / f"{name}.npy", np.full((32, 64), 5, np.float32))
    source = ImageFolder(tmp_path / "rgb", tmp_path / "depth")
    graphdef, state = nnx.split(DropoutNet(nnx.Rngs(0)))
    estimators = {"grad": grumo_jax.GradientUncertainty(graphdef)}
    protocol = Protocol("test", size=(32, 64))
    results = evaluate(estimators, state, source, tmp_path / "r.jsonl", protocol=protocol)
    assert [row["estimators"]["grad"]["pixels"] for row in results.rows()] == [32 * 64] * 3


class BatchNormNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 1, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(1, rngs=rngs)

    def __call__(self, x):
        return nnx.softplus(self.norm(self.conv(x)))[..., 0]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (BatchNormNet, "train mode: 'norm' normalises by the batch, .*; call model.eval() before"),
        (
            lambda rngs: DropoutNet(rngs, deterministic=False),
            "train mode: 'dropout' drops at random, .*; call model.eval() before nnx.split",
        ),
    ],
)
def test_a_network_in_train_mode_is_refused(make, sentence, images):
    net = make(nnx.Rngs(0))
    estimator = grumo_jax.PostProcessing
    graphdef, state = nnx.split(net)
    with pytest.raises(grumo_jax.GrumoError, match=sentence.replace("()", r"\(\)")):
        estimator(graphdef)(state, images)
    net.eval()
    graphdef, state = nnx.split(net)
    alone = estimator(graphdef)(state, images[:1])
    np.testing.assert_allclose(estimator(graphdef)(state, images).depth[:1], alone.depth, rtol=1e-5)


class Deep(nnx.Module):
    """Twelve blocks in a list, so that "10" comes before "2"; and a dictionary of digits."""

    def __init__(self, rngs):
        self.blocks = nnx.List([nnx.Conv(3, 3, (1, 1), rngs=rngs) for _ in range(12)])
        self.named = nnx.Dict({"0": nnx.Conv(3, 1, (1, 1), rngs=rngs)})

    def __call__(self, x):
        for block in self.blocks:
            x = x + nnx.tanh(block(x))
        return nnx.softplus(self.named["0"](x))[..., 0]


def test_a_state_is_paired_by_name(images):
    net = Deep(nnx.Rngs(0))
    graphdef, state = nnx.split(net)
    restored = nnx.to_pure_dict(state)
    restored["blocks"] = {str(i): block for i, block in restored["blocks"].items()}
    assert list(map(str, sorted(restored["blocks"])))[:3] == ["0", "1", "10"]
    params, rest = nnx.split_state(state, nnx.Param, ...)
    expected = net(images)
    for given in (state, restored, nnx.to_pure_dict(state), (params, rest)):
        depth = grumo_jax.DepthBaseline(graphdef)(given, images).depth
        np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_a_state_of_another_network_is_explained(images):
    graphdef, state = nnx.split(Deep(nnx.Rngs(0)))
    short = nnx.to_pure_dict(state)
    del short["named"]
    other = nnx.to_pure_dict(state)
    other["names"] = other.pop("named")
    for given, sentence in (
        (short, "the state of 24 entries does not belong to the network, which has 26"),
        (other, "the state has no entry 'named/0/bias', which the network has: split"),
        (3, "variables of an NNX network are a .*; expected its state, as graphdef, state ="),
    ):
        with pytest.raises(grumo_jax.GrumoError, match=sentence):
            grumo_jax.DepthBaseline(graphdef)(given, images)


def test_bridges_are_named(images):
    bridge = nnx.bridge.to_linen(nnx.Conv, 3, 1, (3, 3))
    network = grumo_jax.wrap(bridge, depth=lambda output: jnp.exp(output))
    variables = bridge.init(jax.random.key(0), images)
    assert grumo_jax.PostProcessing(network)(variables, images).depth.shape == (3, 32, 64)
    with pytest.raises(grumo_jax.GrumoError, match="a bridge of flax shows no layers: use the mod"):
        grumo_jax.GradientUncertainty(network)(variables, images)


class Child(nnx.Module):
    def __init__(self, rngs):
        self._scale = 2.0
        self.conv = nnx.Conv(3, 3, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.conv(x)


class Peculiar(nnx.Module):
    """A parent that looks at its children: at their class, private fields, and in a list."""

    def __init__(self, rngs):
        self.child = Child(rngs)
        self.row = nnx.data([nnx.Conv(3, 3, (1, 1), rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x = self.child(x) * self.child._scale
        if isinstance(self.child, Child):
            x = x + 1
        for conv in self.row:
            x = conv(x)
        return x


def test_modules_stay_what_they_are(images):
    net = Peculiar(nnx.Rngs(0))
    inside = (*nnx.split(net), images)
    layers = grumo_jax.activation_shapes(*inside)
    assert list(layers) == ["child/conv", "child", "row/0", "row/1"]
    edited = grumo_jax.edit_activations(*inside, {name: lambda a: a for name in layers})
    np.testing.assert_array_equal(edited, net(images))
    gradients = grumo_jax.activation_gradients(*inside, ["row/0", "child"], jnp.sum)
    kernel = net.row[1].kernel.get_value()[0, 0]
    np.testing.assert_allclose(gradients["row/0"][0, 0, 0], kernel.sum(axis=1), rtol=1e-5)


def test_an_unsplit_module_is_explained(net, images):
    with pytest.raises(grumo_jax.GrumoError, match=r"graphdef, state = nnx.split\(model\)"):
        grumo_jax.activation_shapes(net, {}, images)
