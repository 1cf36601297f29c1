"""What an activation's axes are: recognised, declared or refused; tokens are maps like others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import draw_variables

import grumo_jax
from grumo_jax import FeatureDropout, FeatureMap, Tokens
from grumo_jax.ablation import ablate_locations, depth_change
from grumo_jax.errors import GrumoError, LayerError
from grumo_jax.networks.layouts import find_layout, fits

IMAGES = jax.ShapeDtypeStruct((2, 32, 64, 3), jnp.float32)


def layout_of(shape, declared=None):
    return find_layout("layer", jax.ShapeDtypeStruct(shape, jnp.float32), declared, IMAGES)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 8, 16, 5), FeatureMap()),
        ((2, 30, 62, 5), FeatureMap()),  # cut at the borders
        ((2, 128, 6), Tokens(0, (8, 16))),
        ((2, 129, 6), Tokens(1, (8, 16))),
        ((2, 37, 6), Tokens(5, (4, 8))),
        ((2, 2, 4, 1), FeatureMap()),
    ],
)
def test_usual_layouts_are_recognised(shape, layout):
    assert layout_of(shape) == layout


@pytest.mark.parametrize(
    "shape",
    [
        (2, 129, 4, 6),  # attention: tokens, heads
        (2, 4, 129, 6),  # heads, tokens
        (2, 12, 8, 16),  # channels first
        (2, 64, 8, 16),
        (2, 131, 6),  # no such grid
        (2, 6),
        (8, 4, 8, 6),  # windows in the place of images
        (2, 16, 8, 5),  # rows and columns exchanged
    ],
)
def test_what_does_not_fit_the_picture_is_refused(shape):
    with pytest.raises(LayerError, match=r"'layer' is no feature map \(batch, height, width, ch"):
        layout_of(shape)


@pytest.mark.parametrize(
    ("shape", "declared", "size"),
    [
        ((2, 12, 8, 16), FeatureMap(channel_axis=1), (8, 16, 12)),
        ((2, 131, 6), Tokens(prefix=3), (8, 16, 6)),
        ((2, 129, 6), Tokens(prefix=1, grid=(8, 16)), (8, 16, 6)),
        ((2, 4, 129, 6), Tokens(prefix=1, axis=2), (8, 16, 24)),
    ],
)
def test_declared_layouts_are_taken_and_inverted(shape, declared, size):
    layout = layout_of(shape, declared)
    activation = jax.random.normal(jax.random.key(0), shape)
    maps = layout.to_map(activation)
    assert maps.shape == (2, *size)
    np.testing.assert_array_equal(layout.from_map(maps, activation), activation)


def test_tokens_stand_row_by_row():
    tokens = jnp.arange(9.0).reshape(1, 9, 1)
    maps = Tokens(prefix=1, grid=(2, 4)).to_map(tokens)
    np.testing.assert_array_equal(maps[0, ..., 0], [[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: layout_of((2, 8, 16, 12), FeatureMap(1)), "cannot be FeatureMap.*32×64; correct"),
        (lambda: layout_of((2, 128, 6), Tokens(1)), r"cannot be Tokens\(prefix=1"),
        (
            lambda: layout_of((2, 128, 6), Tokens(grid=(16, 8))),
            r"cannot be Tokens\(prefix=0",
        ),
        (lambda: FeatureMap(channel_axis=0), "channel_axis is 0; expected 1, 2, 3 or -1"),
        (lambda: Tokens(prefix=-1), "prefix is -1; expected a number of tokens"),
        (lambda: Tokens(grid=(3, 0)), r"grid is \(3, 0\); expected \(rows, columns\)"),
        (lambda: Tokens(axis=0), "axis is 0; expected an axis other than the batch's"),
        (lambda: grumo_jax.wrap(nn.Dense(1), layouts={"*": "tokens"}), "a layout is 'tokens'; exp"),
    ],
)
def test_wrong_layouts_are_explained(make, sentence):
    with pytest.raises(GrumoError, match=sentence):
        make()


def test_strides_agree_up_to_borders():
    assert fits((6, 20), (192, 640))
    assert fits((47, 156), (375, 1242))
    assert not fits((20, 6), (192, 640))


class Attention(nn.Module):
    """Tokens that see each other, with the heads' tensor in sight."""

    @nn.compact
    def __call__(self, x):
        heads = nn.DenseGeneral((2, 4), name="heads")(x)
        weights = nn.softmax(jnp.einsum("bthd,bshd->bhts", heads, heads))
        mixed = jnp.einsum("bhts,bshd->bthd", weights, heads)
        return x + nn.DenseGeneral(8, axis=(-2, -1), name="out")(mixed)


class Vit(nn.Module):
    """A vision transformer with a class token and a dense head."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=4, name="patch")(x)
        batch, h, w, c = x.shape
        cls = self.param("cls", nn.initializers.normal(), (1, 1, c))
        x = jnp.concatenate([jnp.tile(cls, (batch, 1, 1)), x.reshape(batch, h * w, c)], axis=1)
        for i in range(2):
            x = Attention(name=f"block_{i}")(x)
        depth = nn.softplus(nn.Dense(16, name="head")(x[:, 1:])) + 0.1
        depth = depth.reshape(batch, h, w, 4, 4).transpose(0, 1, 3, 2, 4)
        return depth.reshape(batch, 4 * h, 4 * w)


@pytest.fixture(scope="module")
def vit(images):
    return Vit(), draw_variables(Vit(), images)


def test_tokens_give_maps_like_any_layer(vit, images):
    model, variables = vit
    estimate = grumo_jax.GradientUncertainty(model, layers=["block_0", "head"])(variables, images)
    assert {k: s.shape for k, s in estimate.layer_scores.items()} == {
        "block_0": (1, 3, 8, 16),
        "head": (1, 3, 8, 16),
    }

    @jax.jit
    def gradients(variables, images):
        return grumo_jax.activation_gradients(
            model, variables, images, "head", lambda depth: jnp.sum(depth[:, :4, 8:12])
        )

    raw = gradients(variables, images)
    touched = np.flatnonzero(np.abs(raw[0]).sum(axis=-1))
    assert touched.tolist() == [2]  # the third patch of the first row
    assert estimate.uncertainty.shape == (3, 32, 64)


def test_locations_of_tokens_are_ablated(vit, images):
    model, variables = vit

    def remove_patch(a):
        return a.at[:, 1:].set(
            a[:, 1:].reshape(3, 8, 16, 8).at[:, :4, 8:].set(0).reshape(3, 128, 8)
        )

    @jax.jit
    def look(variables, images):
        inside = (model, variables, images)
        found = ablate_locations(*inside, "block_1", depth_change, patch=(4, 8))
        edited = grumo_jax.edit_activations(*inside, {"block_1": remove_patch})
        return found, edited, model.apply(variables, images)

    found, by_hand, plain = map(np.asarray, look(variables, images))
    assert found.shape == (2, 2, 3)
    expected = np.mean(np.abs(by_hand - plain) / plain, axis=(1, 2))
    np.testing.assert_allclose(found[0, 1], expected, rtol=1e-4)


def test_declared_layers_are_dropped_by_channels(vit, images):
    """Whole channels of the heads' tensor, (tokens, heads, d): both axes are the channels."""
    _, variables = vit
    network = grumo_jax.wrap(Vit(), layouts={"block_?/heads": Tokens(prefix=1)})
    drop = grumo_jax.InferenceDropout(network, samples=2, layers="block_0/heads")
    assert drop(variables, images, jax.random.key(0)).raw.max() > 0
    grad = grumo_jax.GradientUncertainty(network, layers="block_1/heads")
    scores = jax.eval_shape(grad, variables, images).layer_scores
    assert scores["block_1/heads"].shape == (1, 3, 8, 16)


def test_attention_is_no_map_unless_declared(vit, images):
    model, variables = vit
    grad = grumo_jax.GradientUncertainty(model, layers="block_0/heads")
    with pytest.raises(LayerError, match=r"'block_0/heads' is no feature map .*: it has shape \(3"):
        grad(variables, images)


def test_no_decoder_is_guessed_where_none_is_recognised(vit, images):
    model, variables = vit
    with pytest.raises(
        LayerError,
        match=r"no decoder can be recognised: on 'patch', .* layers that are no convolutions",
    ):
        grumo_jax.GradientUncertainty(model)(variables, images)


class ChannelsFirst(nn.Module):
    """Works on (B, C, h, w) between two layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3), strides=2, name="down")(x)
        x = Transpose(name="first")(x)
        x = nn.Conv(4, (3, 3), name="up")(x.transpose(0, 2, 3, 1))
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(x))[..., 0]


class Transpose(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.transpose(0, 3, 1, 2)


def test_channels_first_scores_are_those_of_channels_last(images):
    model = ChannelsFirst()
    variables = draw_variables(model, images)
    network = grumo_jax.wrap(model, layouts={"first": FeatureMap(channel_axis=1)})
    scores = grumo_jax.GradientUncertainty(network, layers=["down", "first"])(variables, images)
    np.testing.assert_array_equal(scores.layer_scores["first"], scores.layer_scores["down"])
    with pytest.raises(LayerError, match=r"wrap\(model, layouts=\{\"first\": FeatureMap"):
        grumo_jax.GradientUncertainty(model, layers="first")(variables, images)


@pytest.mark.parametrize("references", [None, FeatureDropout(layers="first")])
def test_what_is_no_map_is_not_dropped_by_columns(references, images):
    model = ChannelsFirst()
    variables = draw_variables(model, images)
    drop = grumo_jax.InferenceDropout(model, layers="first", samples=2)
    if references:
        drop = grumo_jax.GradientUncertainty(model, layers="down", references=references)
    with pytest.raises(LayerError, match="layer 'first' is no feature map"):
        drop(variables, images, jax.random.key(0))


def test_a_pattern_that_no_layer_matches_is_named(images):
    model = nn.Sequential([nn.Conv(4, (3, 3)), nn.Conv(1, (3, 3)), nn.softplus])
    variables = model.init(jax.random.key(0), images)
    network = grumo_jax.wrap(model, layouts={"layer_0": FeatureMap(channel_axis=1)})
    said = r"no layer is called 'layer_0', of which wrap.* says FeatureMap.*did you mean 'layers_0'"
    with pytest.raises(LayerError, match=said):
        grumo_jax.GradientUncertainty(network)(variables, images)
