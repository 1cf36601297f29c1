"""What estimators are given: images of any number of channels and form, keys, odd values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import draw_variables

import grumo_jax
from grumo_jax import Flip, Gray, Noise
from grumo_jax.errors import GrumoError, GrumoWarning


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2, name="down")(x))
        x = jnp.repeat(jnp.repeat(nn.Conv(4, (3, 3), name="up")(x), 2, axis=1), 2, axis=2)
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(x))[..., 0] + 0.1


class Pair(nn.Module):
    """Takes two images and numbers that belong to them."""

    @nn.compact
    def __call__(self, inputs):
        both = jnp.concatenate([inputs["left"], inputs["right"]], axis=-1)
        return inputs["scale"][:, None, None] * Net(name="net")(both)


ESTIMATORS = [
    grumo_jax.PostProcessing,
    lambda model: grumo_jax.GradientUncertainty(model, references=(Flip(), Noise())),
    lambda model: grumo_jax.TestTimeVariance(model, references=(Flip(), Noise())),
    lambda model: grumo_jax.InferenceDropout(model, samples=2),
    grumo_jax.RowBaseline,
]


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 6])
@pytest.mark.parametrize("make", ESTIMATORS)
def test_any_number_of_channels(channels, make):
    images = jax.random.uniform(jax.random.key(0), (2, 16, 32, channels))
    variables = draw_variables(Net(), images)
    estimate = jax.jit(make(Net()))(variables, images, jax.random.key(2))
    assert estimate.uncertainty.shape == (2, 16, 32)
    assert jnp.isfinite(estimate.uncertainty).all()


def test_gray_says_why_not():
    images = jnp.full((2, 16, 32, 4), 0.5)
    variables = draw_variables(Net(), images)
    with pytest.raises(
        GrumoError, match=r"Gray\(\) makes red, green and blue .* 4 channels; leave"
    ):
        grumo_jax.GradientUncertainty(Net(), references=Gray())(variables, images)


@pytest.mark.parametrize("make", ESTIMATORS)
def test_trees_of_images(make):
    left, right = jax.random.uniform(jax.random.key(0), (2, 2, 16, 32, 3))
    inputs = {"left": left, "right": right, "scale": jnp.array([1.0, 2.0])}
    variables = draw_variables(Pair(), inputs)
    estimator = jax.jit(make(Pair()))
    estimate = estimator(variables, inputs, jax.random.key(2))
    unscaled = estimator(variables, {**inputs, "scale": jnp.ones(2)}, jax.random.key(2))
    expected = inputs["scale"][:, None, None] * unscaled.depth
    np.testing.assert_allclose(estimate.depth, expected, rtol=1e-5)
    flipped = {**inputs, "left": left[:, :, ::-1], "right": right[:, :, ::-1]}
    if isinstance(make(Pair()), grumo_jax.GradientUncertainty):
        seen = jax.jit(Pair().apply)(variables, flipped)[:, :, ::-1]
        np.testing.assert_allclose(estimate.reference_depth[:, 0], seen, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda x: 255 * x,
            r"the images reach from .* to 25\d.*; expected float32 in \[0, 1\]: div",
        ),
        (lambda x: x - 100, "the images reach from -100 to -99"),
        (lambda x: x.at[0, 0, 0, 0].set(jnp.nan), "the images hold values that are not finite"),
        (lambda x: (255 * x).astype(jnp.uint8), "images are uint8; expected float32"),
        (lambda x: x[0], r"images have shape \(16, 32, 3\); expected \(batch, height, width, chan"),
        (lambda x: {}, "images have shape nothing; expected"),
    ],
)
def test_images_that_are_none_are_refused(change, sentence):
    images = jax.random.uniform(jax.random.key(0), (2, 16, 32, 3))
    variables = draw_variables(Net(), images)
    with pytest.raises(GrumoError, match=sentence):
        grumo_jax.PostProcessing(Net())(variables, change(images))


def test_normalised_images_and_other_quantities_pass():
    images = jax.random.uniform(jax.random.key(0), (2, 16, 32, 4), maxval=80.0)
    variables = draw_variables(Net(), images)
    grumo_jax.PostProcessing(Net())(variables, images)  # the fourth channel may be metres
    normalised = (images[..., :3] / 80 - 0.45) / 0.225
    variables = draw_variables(Net(), normalised)
    grumo_jax.PostProcessing(Net())(variables, normalised)


@pytest.mark.parametrize("key", [0, np.int64(3), 1.0, jnp.int32(0), jnp.zeros(2)])
def test_a_seed_is_no_key(small, images, key):
    model, variables = small
    with pytest.raises(GrumoError, match=r"expected a PRNG key: of a seed, jax.random.key\(seed\)"):
        grumo_jax.InferenceDropout(model)(variables, images, key)


def test_keys_of_both_kinds_are_taken(small, images):
    network, variables = small
    drop = grumo_jax.InferenceDropout(network, samples=2)
    new, old = (drop(variables, images, key) for key in (jax.random.key(3), jax.random.PRNGKey(3)))
    np.testing.assert_array_equal(new.raw, old.raw)


def test_several_keys_are_no_key(small, images):
    network, variables = small
    drop = grumo_jax.InferenceDropout(network, samples=2)
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(GrumoError, match=r"the key is an array of keys, of shape \(2,\); expected"):
        drop(variables, images, keys)
    with pytest.raises(GrumoError, match="expected a PRNG key"):
        drop(variables, images, jnp.zeros(3, jnp.uint32))
    found = jax.vmap(drop, in_axes=(None, None, 0))(variables, images, keys)
    expected = drop(variables, images, keys[1])
    np.testing.assert_allclose(found.raw[1], expected.raw, rtol=1e-4, atol=1e-7)


class Given(nn.Module):
    """The first channel, as it is."""

    @nn.compact
    def __call__(self, x):
        return nn.Conv(1, (1, 1), use_bias=False, name="conv")(x)[..., 0]


GIVEN = {"params": {"conv": {"kernel": jnp.eye(3, 1)[None, None]}}}


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        (jnp.log, r"100 % is negative, 0 or not finite .*; if the network predicts log depth"),
        (lambda d: d.at[0, 3, 4].set(jnp.nan), r"not finite \(0.195 % NaN or infinity\)"),
        (lambda d: d.transpose(0, 2, 1), "depth has 32×16 pixels and the images 16×32, of another"),
    ],
)
def test_depth_that_is_none_is_said_once(transform, sentence):
    network = grumo_jax.wrap(Given(), depth=lambda output: transform(output))
    images = jax.random.uniform(jax.random.key(0), (2, 16, 32, 3), minval=0.1, maxval=0.9)
    with pytest.warns(GrumoWarning, match=sentence) as said:
        grumo_jax.DepthBaseline(network)(GIVEN, images)
    assert len(said) == 1


def test_traced_values_are_not_looked_at():
    network = grumo_jax.wrap(Given(), depth=lambda output: -output)
    images = jnp.full((2, 16, 32, 3), 300.0)
    depth = jax.jit(lambda x: grumo_jax.DepthBaseline(network)(GIVEN, x).depth)(images)
    np.testing.assert_array_equal(depth, -300.0)


def test_a_linen_network_in_train_mode_is_refused(images):
    class BatchNormNet(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Conv(1, (3, 3))(x))
            return nn.softplus(nn.Dropout(0.5, deterministic=not train, name="drop")(x))[..., 0]

    model = BatchNormNet()
    variables = draw_variables(model, images)
    estimate = jax.eval_shape(grumo_jax.PostProcessing(model), variables, images)
    assert estimate.depth.shape == (3, 32, 64)
    for kwargs, sentence in (
        ({"train": True}, "in train mode: 'norm' normalises by the batch, .*; say so in its conf"),
        ({"mutable": ["batch_stats"]}, "mutable is among the arguments of the network's calls"),
    ):
        with pytest.raises(GrumoError, match=sentence):
            grumo_jax.PostProcessing(grumo_jax.wrap(model, kwargs=kwargs))(variables, images)
    with pytest.raises(
        GrumoError, match=r"variables of a linen network are a .*; expected what its"
    ):
        grumo_jax.PostProcessing(model)((variables["params"], variables["batch_stats"]), images)


@pytest.mark.parametrize(
    ("depth", "sentence"),
    [
        (lambda d: jnp.concatenate([d, d]), "the network gives 4 depth maps for 2 images; say how"),
        (lambda d: d[:1], "the network gives 1 depth maps for 2 images"),
        (lambda d: (9 * d).astype(jnp.int32), "the network's depth is int32; expected real num"),
        (lambda d: d > 0.5, "the network's depth is bool; expected real numbers"),
    ],
)
def test_depth_that_is_of_no_use_is_refused(depth, sentence):
    network = grumo_jax.wrap(Given(), depth=depth)
    images = jax.random.uniform(jax.random.key(0), (2, 16, 32, 3), minval=0.1)
    with pytest.raises(GrumoError, match=sentence):
        grumo_jax.PostProcessing(network)(GIVEN, images)


class Focal(nn.Module):
    """Takes what is no image, too, and before it."""

    @nn.compact
    def __call__(self, inputs):
        x = nn.relu(nn.Conv(4, (3, 3), name="conv")(inputs["image"]))
        return inputs["focal"] * nn.softplus(nn.Conv(1, (3, 3), name="head")(x))


def test_the_images_need_not_come_first(images):
    inputs = {"focal": jnp.float32(2.0), "image": images}
    variables = Focal().init(jax.random.key(0), inputs)
    grad = grumo_jax.GradientUncertainty(Focal())
    raw = grad(variables, inputs).raw
    assert raw.shape == images.shape[:3]
    assert float(raw.max()) > 0


class DropsAttention(nn.Module):
    """Attention drops weights by itself, without a module of its own."""

    @nn.compact
    def __call__(self, x):
        tokens = nn.Dense(4)(x.reshape(*x.shape[:2], -1))
        drops = {"dropout_rate": 0.5, "deterministic": False}
        return nn.softplus(nn.MultiHeadDotProductAttention(2, name="attention", **drops)(tokens))


def test_attention_that_drops_is_in_train_mode(images):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = DropsAttention().init(keys, images)
    network = grumo_jax.wrap(DropsAttention(), kwargs={"rngs": {"dropout": jax.random.key(2)}})
    with pytest.raises(GrumoError, match="train mode: 'attention' drops at random"):
        grumo_jax.PostProcessing(network)(variables, images)


CONV = nn.Sequential([nn.Conv(4, (3, 3)), nn.Conv(1, (3, 3)), nn.softplus])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda variables: variables["params"], 'are not this network\'s: .*"/layers_0".* empty'),
        (lambda variables: {"params": {}}, "the variables or images are not this network's"),
        (
            lambda variables: jax.tree.map(lambda x: x[..., :2], variables),
            r"are not this network's: .*\(3, 3, 3, 4\), but the existing .* shape \(3, 3, 3, 2\)",
        ),
    ],
)
def test_variables_of_another_network_are_one_sentence(change, sentence, images):
    variables = CONV.init(jax.random.key(0), images)
    with pytest.raises(GrumoError, match=sentence):
        grumo_jax.PostProcessing(CONV)(change(variables), images)


def test_what_a_network_once_kept_of_itself_is_no_hindrance(images):
    variables = CONV.init(jax.random.key(0), images)
    _, state = CONV.apply(variables, images, capture_intermediates=True, mutable=["intermediates"])
    shape = grumo_jax.capture_activations(CONV, {**variables, **state}, images, "layers_0").shape
    assert shape == (*images.shape[:3], 4)


def test_ground_truth_is_an_array(small, images):
    network, variables = small
    oracle = grumo_jax.GradientUncertainty(network, references=grumo_jax.GroundTruth())
    for wrong, found in (([1.0, 2.0], "is a list"), (images, r"has shape \(3, 32, 64, 3\)")):
        with pytest.raises(GrumoError, match=f"ground_truth {found}; expected an array"):
            oracle(variables, images, ground_truth=wrong)
