import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from helpers import draw_variables

import grumo_jax
from grumo_jax import choose_layers, name_layers
from grumo_jax.errors import GrumoError, LayerError


def test_the_rules_find_the_papers_layers_without_being_told(tiny, images):
    """On Monodepth2 the rules for unknown networks give the papers' numbering and layer 6."""
    model, variables = tiny
    undescribed = grumo_jax.DepthNetwork(model)
    chosen = [
        choose_layers(undescribed, variables, images, role) for role in ("decoder", "gradient")
    ]
    assert chosen == [model.decoder_layers, (model.decoder_layers[6],)]
    assert choose_layers(undescribed, variables, images, "dropout") == model.decoder_layers[:-1]
    features = choose_layers(undescribed, variables, images, "features")
    assert [name.split("/")[1] for name in features] == ["conv1", *(f"layer{i}" for i in "1234")]


def test_what_the_user_says_counts_first(tiny, images):
    model, variables = tiny
    network = grumo_jax.wrap(
        model,
        decoder_layers=["decoder/up_1_1/conv"],
        dropout_layers=["decoder/up_0_0"],
        feature_layers=["encoder/layer4"],
    )
    roles = ("decoder", "gradient", "dropout", "features")
    chosen = [choose_layers(network, variables, images, role) for role in roles]
    assert chosen == [
        ("decoder/up_1_1/conv",),
        ("decoder/up_1_1/conv",),
        ("decoder/up_0_0",),
        ("encoder/layer4",),
    ]


@pytest.mark.parametrize("layers", [6, "6", [6], ["6"], "decoder/up_1_0/conv"])
def test_layers_go_by_number_as_by_name(tiny, images, layers):
    model, variables = tiny
    assert name_layers(model, variables, images, layers) == ("decoder/up_1_0/conv",)
    estimator = grumo_jax.GradientUncertainty(model, layers=layers)
    assert estimator.layer_names(variables, images) == ("decoder/up_1_0/conv",)


def test_numbers_and_names_go_together(tiny, images):
    model, variables = tiny
    together = name_layers(model, variables, images, [10, "encoder/conv1", "0"])
    assert together == ("decoder/head_0", "encoder/conv1", "decoder/up_4_0/conv")
    assert name_layers(model, variables, images, "decoder") == model.decoder_layers


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        (11, "there is no decoder layer 11; the decoder's layers are 0 … 10"),
        ([6, "decoder/up_1_0/conv"], "the layer 'decoder/up_1_0/conv' is named twice; name it"),
        (-1, "there is no decoder layer -1; the decoder's layers are 0 … 10"),
        (["decoder", 3], "the layer 'decoder/up_3_1/conv' is named twice"),
        (1.5, "layers is 1.5; expected names or numbers of layers"),
    ],
)
def test_wrong_layers_are_explained(tiny, images, layers, sentence):
    model, variables = tiny
    with pytest.raises(GrumoError, match=sentence):
        grumo_jax.GradientUncertainty(model, layers=layers)(variables, images)


def test_a_mistyped_decoder_layer_is_explained(tiny, images):
    model, variables = tiny
    network = grumo_jax.wrap(model, decoder_layers=["decoder/head_0", "decoder/head_9"])
    with pytest.raises(grumo_jax.GrumoError, match="no layer 'decoder/head_9'; did you mean"):
        choose_layers(network, variables, images, "gradient")


class WithSideBranch(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), (2, 2), name="down")(x)
        side = nn.Conv(1, (1, 1), name="side")(x)
        x = jax.image.resize(x, (*x.shape[:1], 2 * x.shape[1], 2 * x.shape[2], 4), "nearest")
        return {"depth": nn.softplus(nn.Conv(1, (3, 3), name="head")(x)[..., 0]), "side": side}


def test_layers_that_depth_does_not_depend_on_are_left_out(images):
    model = WithSideBranch()
    variables = draw_variables(model, images)
    network = grumo_jax.wrap(model)
    assert choose_layers(network, variables, images, "decoder") == ("down", "head")


class OwnConv(nn.Module):
    """A convolution written by hand."""

    @nn.compact
    def __call__(self, x):
        kernel = self.param("weights", nn.initializers.lecun_normal(), (3, 3, x.shape[-1], 4))
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=axes)


def test_a_decoder_that_flax_has_no_class_for_is_no_reason_to_take_the_stem(images):
    model = nn.Sequential([nn.Conv(4, (4, 4), strides=4), OwnConv(), OwnConv()])
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    network = grumo_jax.wrap(model, depth=lambda output: nn.softplus(output[..., 0]))
    said = r"on 'layers_0', .* follow layers .*'layers_1', 'layers_2'"
    with pytest.raises(LayerError, match=said):
        choose_layers(network, variables, images, "decoder")


def test_a_network_without_convolutions_is_explained(images):
    model = nn.Sequential([nn.Dense(1), nn.softplus])
    variables = draw_variables(model, images)
    with pytest.raises(grumo_jax.GrumoError, match="no convolution that its depth depends on"):
        grumo_jax.GradientUncertainty(model)(variables, images)
    # Naming the layer is not needed for estimators that look at depth alone.
    estimate = jax.eval_shape(grumo_jax.PostProcessing(model), variables, images)
    assert estimate.depth.shape == (3, 32, 64)


def test_an_output_without_depth_is_explained(images):
    class Strange(nn.Module):
        @nn.compact
        def __call__(self, x):
            return (nn.Conv(1, (1, 1))(x),)

    variables = draw_variables(Strange(), images)
    with pytest.raises(grumo_jax.GrumoError, match=r"returns a tuple .*wrap\(model, depth=lambda"):
        grumo_jax.PostProcessing(Strange())(variables, images)
    wrapped = grumo_jax.wrap(Strange(), depth=lambda output: jnp.exp(output[0])[:, None])
    with pytest.raises(grumo_jax.GrumoError, match=r"depth has shape \(3, 1, 32, 64, 1\); exp"):
        grumo_jax.PostProcessing(wrapped)(variables, images)
