"""Networks with branches, loops and bridges inside: what these keep to themselves is hidden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import grumo_jax
from grumo_jax.errors import GrumoError, LayerError

HIDDEN = "cannot be used: it runs inside a transform"


class Middle(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(4, 4, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.conv(x))


def in_fori_loop(middle, x):
    return nnx.fori_loop(0, 3, lambda i, carry: (carry[0], carry[0](carry[1])), (middle, x))[1]


def in_while_loop(middle, x):
    def step(carry):
        middle, x, count = carry
        return middle, middle(x), count + 1

    return nnx.while_loop(lambda carry: carry[2] < 3, step, (middle, x, 0))[1]


def in_cond(middle, x):
    return nnx.cond(x.mean() < 9, lambda middle, x: middle(x), lambda middle, x: x, middle, x)


def in_switch(middle, x):
    return nnx.switch(1, [lambda middle, x: x, lambda middle, x: middle(x)], middle, x)


def in_vmap(middle, x):
    return nnx.vmap(lambda middle, x: middle(x[None])[0], in_axes=(None, 0))(middle, x)


class Around(nnx.Module):
    def __init__(self, how, rngs):
        self.how = how
        self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.middle = Middle(rngs)
        self.head = nnx.Conv(4, 1, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.softplus(self.head(self.how(self.middle, self.first(x))))[..., 0]


@pytest.mark.parametrize("how", [in_fori_loop, in_while_loop, in_cond, in_switch, in_vmap])
def test_what_nnx_loops_and_branches_hold_is_hidden_and_the_rest_is_not(how, images):
    net = Around(how, nnx.Rngs(0))
    inside = (*nnx.split(net), images)
    assert list(grumo_jax.activation_shapes(*inside)) == ["first", "head"]
    captured = grumo_jax.capture_activations(*inside, "head")
    np.testing.assert_allclose(nnx.softplus(captured)[..., 0], net(images), rtol=1e-5)
    for layer in ("middle", "middle/conv"):
        with pytest.raises(LayerError, match=HIDDEN):
            grumo_jax.capture_activations(*inside, layer)


class Branches(nn.Module):
    """Of its two branches one calls a module."""

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(3, (3, 3), name="conv")
        if self.is_initializing():
            x = conv(x)
        else:
            x = nn.cond(x.mean() < 9, lambda conv, x: conv(x), lambda conv, x: x, conv, x)
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(x))[..., 0]


def test_what_a_linen_branch_holds_is_hidden_and_the_rest_is_not(images):
    model = Branches()
    variables = model.init(jax.random.key(0), images)
    assert list(grumo_jax.activation_shapes(model, variables, images)) == ["head"]
    with pytest.raises(LayerError, match=HIDDEN):
        grumo_jax.edit_activations(model, variables, images, {"conv": jnp.zeros_like})
    captured = grumo_jax.capture_activations(model, variables, images, "head")
    expected = model.apply(variables, images)
    np.testing.assert_allclose(nn.softplus(captured)[..., 0], expected, rtol=1e-5)


class Bridged(nnx.Module):
    def __init__(self, images, rngs):
        self.bridge = nnx.bridge.ToNNX(nn.Conv(4, (3, 3)), rngs=rngs).lazy_init(images)
        self.head = nnx.Conv(4, 1, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.softplus(self.head(self.bridge(x)))[..., 0]


def test_a_bridge_inside_an_nnx_network_is_hidden(images):
    net = Bridged(images, nnx.Rngs(0))
    inside = (*nnx.split(net), images)
    assert list(grumo_jax.activation_shapes(*inside)) == ["head"]
    captured = grumo_jax.capture_activations(*inside, "head")
    np.testing.assert_allclose(nnx.softplus(captured)[..., 0], net(images), rtol=1e-5)


class Normed(nnx.Module):
    def __init__(self, evaluates, rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        if evaluates:
            self.eval()

    def __call__(self, x, **mode):
        return self.norm(x, **mode)


class Bridging(nn.Module):
    evaluates: bool

    @nn.compact
    def __call__(self, x, **mode):
        x = nnx.bridge.to_linen(Normed, self.evaluates, name="bridge")(x, **mode)
        return nn.softplus(nn.Conv(1, (3, 3))(x))[..., 0]


def test_train_mode_is_seen_behind_a_bridge(images):
    variables = Bridging(False).init(jax.random.key(0), images)
    said = r"in train mode: 'bridge/norm' normalises by the batch.* self.eval\(\) in __init__"
    with pytest.raises(GrumoError, match=said):
        grumo_jax.PostProcessing(Bridging(False))(variables, images)
    grumo_jax.PostProcessing(Bridging(True))(variables, images)
    network = grumo_jax.wrap(Bridging(False), kwargs={"use_running_average": True})
    grumo_jax.PostProcessing(network)(variables, images)
