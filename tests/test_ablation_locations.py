"""Ablation of places: the effect of replacing patches of activations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import draw_variables

import grumo_jax
from grumo_jax.ablation import ablate_locations, depth_change, error_change, uncertainty_change
from grumo_jax.errors import GrumoError, LayerError
from grumo_jax.estimators import Estimate
from grumo_jax.references import Flip, GroundTruth, ImageReference, Noise


@dataclasses.dataclass(frozen=True)
class Darker(ImageReference):
    """Half as bright."""

    def augment(self, images, key=None):
        return images / 2


def at_pixel(edited, plain):
    return edited.depth[:, 5, 7] - plain.depth[:, 5, 7]


def test_worked_out_by_hand():
    """Depth is twice the activation plus 1, which is three times the image's first channel."""

    class Lines(nn.Module):
        @nn.compact
        def __call__(self, x):
            kernel = nn.initializers.constant(3.0)
            a = nn.Conv(1, (1, 1), use_bias=False, kernel_init=kernel, name="a")(x[..., :1])
            return 2 * a[..., 0] + 1

    images = jnp.arange(8.0).reshape(1, 2, 4, 1) * jnp.ones((1, 1, 1, 3))
    variables = Lines().init(jax.random.key(0), images)
    network = grumo_jax.wrap(Lines())
    activation = 3 * jnp.arange(8.0).reshape(2, 4)

    def lost(edited, plain):
        return jnp.sum(plain.depth - edited.depth, axis=(1, 2))

    def run(**options):
        return ablate_locations(network, variables, images, "a", lost, **options)[..., 0]

    np.testing.assert_allclose(run(), 2 * activation)
    np.testing.assert_allclose(run(replace="mean"), 2 * (activation - activation.mean()))
    np.testing.assert_allclose(run(replace="reference"), 0 * activation, err_msg="exact flip")
    np.testing.assert_allclose(run(replace="reference", reference=Darker()), activation)
    np.testing.assert_allclose(run(replace=lambda a: a - 1), np.full((2, 4), 2.0))
    sums = 2 * (activation[:, ::2] + activation[:, 1::2])
    np.testing.assert_allclose(run(patch=(1, 2)), sums)
    # Patches overlap, and are cut off at the border.
    overlapping = run(patch=(2, 3), stride=(1, 2))
    np.testing.assert_allclose(overlapping[0, 0], 2 * activation[:, :3].sum())
    np.testing.assert_allclose(overlapping[1, 1], 2 * activation[1:, 2:].sum())
    by_input = ablate_locations(network, variables, images, "input", lost)[..., 0]
    np.testing.assert_allclose(by_input, 2 * activation)


def test_what_is_put_in_place_is_of_what_is_finite():
    """The input is its own activation; its last pixel is NaN."""
    network = grumo_jax.wrap(nn.Sequential([lambda images: images[..., 0]]))
    images = jnp.arange(8.0).reshape(1, 2, 4, 1).at[0, 1, 3].set(jnp.nan)

    @jax.jit
    def run(images):
        def depth(edited, plain):
            return edited.depth

        key = jax.random.key(0)
        return [
            ablate_locations(network, {}, images, "input", depth, key, replace=replace)
            for replace in ("mean", "noise")
        ]

    mean, noise = run(images)
    np.testing.assert_allclose(mean[0, 0, 0, 0, 0], 3.0)
    drawn = jax.random.normal(jax.random.key(0), (2, 4, 1))[1, 3, 0]
    np.testing.assert_allclose(noise[1, 3, 0, 1, 3], 3 + 2 * drawn, rtol=1e-6)


@pytest.mark.parametrize("replace", ["zero", "mean", "noise", "reference"])
@pytest.mark.parametrize("layer", ["up2", "down1", "input"])
def test_each_place_is_an_edited_run(small, images, replace, layer):
    """The long way: one run for one place, the estimator called on the edited network."""
    network, variables = small
    grad, key = grumo_jax.GradientUncertainty(network, layers="up1"), jax.random.key(1)
    reference = Noise(0.1)
    effects = jax.jit(
        lambda variables, images: ablate_locations(
            grad,
            variables,
            images,
            layer,
            lambda edited, plain: (edited.depth, edited.raw, plain.depth),
            key,
            replace=replace,
            patch=(4, 8),
            reference=reference,
        )
    )(variables, images)
    depth, raw, plain = effects
    np.testing.assert_allclose(plain[1, 1], grad(variables, images).depth, rtol=1e-5)
    activation = images
    if layer != "input":
        activation = grumo_jax.capture_activations(network, variables, images, layer)
    rows, columns = activation.shape[1] // 4, activation.shape[2] // 8
    assert depth.shape == (rows, columns, *images.shape[:3])

    spread = jnp.std(activation, axis=(1, 2), keepdims=True)
    mean = jnp.mean(activation, axis=(1, 2), keepdims=True)
    if replace == "reference":
        seen = reference.augment(images, reference_key(key, reference))
        put = seen
        if layer != "input":
            put = grumo_jax.capture_activations(network, variables, seen, layer)
    else:
        noise = jax.random.normal(key, activation.shape[1:])[None]
        put = {"zero": 0 * activation, "mean": mean + 0 * activation}.get(
            replace, mean + spread * noise
        )
    place = (slice(None), slice(4, 8), slice(8, 16))
    edited = activation.at[place].set(put[place])
    if layer == "input":
        expected = grumo_jax.ConstantBaseline(network)(variables, edited).depth
    else:
        output = grumo_jax.edit_activations(network, variables, images, {layer: lambda a: edited})
        expected = network.read_depth(output)
    np.testing.assert_allclose(depth[1, 1], expected, rtol=1e-4, atol=1e-5)
    # The reference depth is that of the unedited network.
    flipped = grumo_jax.ConstantBaseline(network)(variables, images[:, :, ::-1]).depth[:, :, ::-1]
    if layer != "input":
        by_hand = gradient_at(network, variables, images, {layer: lambda a: edited}, flipped)
    else:
        by_hand = gradient_at(network, variables, edited, {}, flipped)
    scores = jnp.max(by_hand, axis=-1)
    resized = jax.image.resize(scores, images.shape[:3], "bilinear", antialias=False)
    np.testing.assert_allclose(raw[1, 1], resized, rtol=1e-3, atol=1e-6)


def reference_key(key, reference):
    from grumo_jax.draws import reference_key

    return reference_key(key, reference, 0)


def gradient_at(network, variables, images, edits, reference):
    edited = dataclasses.replace(network, edits={(name, 0): e for name, e in edits.items()})

    def loss(output):
        squares = jnp.square(network.read_depth(output) - reference)
        return jnp.sum(jnp.mean(squares, axis=(1, 2)))

    return grumo_jax.activation_gradients(edited, variables, images, "up1", loss)


def test_memory_bounds_nothing_but_memory(small, images):
    network, variables = small

    def run(memory):
        return ablate_locations(
            network, variables, images, "up2", at_pixel, patch=(3, 5), memory=memory
        )

    expected = run(2**40)
    for memory in (1, 100_000, 1_000_000):
        np.testing.assert_allclose(jax.jit(run, static_argnums=0)(memory), expected, atol=1e-5)


@pytest.mark.parametrize("layer", ["c0", "c5", "head", "input"])
@pytest.mark.parametrize("kind", [grumo_jax.GradientUncertainty, grumo_jax.InferenceDropout])
def test_memory_is_bounded(images, layer, kind):
    """Also where the estimator reads, or drops, before the layer that is edited."""

    class Chain(nn.Module):
        @nn.compact
        def __call__(self, x):
            for i in range(6):
                x = nn.tanh(nn.Conv(16, (3, 3), name=f"c{i}")(x))
            return nn.softplus(nn.Conv(1, (3, 3), name="head")(x)[..., 0])

    variables, memory = draw_variables(Chain(), images[:1]), 2_000_000
    estimator = kind(grumo_jax.wrap(Chain()), layers=["c0"])

    def run(variables, images):
        key = jax.random.key(0)
        return ablate_locations(
            estimator, variables, images, layer, uncertainty_change, key, memory=memory
        )

    compiled = jax.jit(run).lower(variables, images[:1]).compile()
    # Kept beside activations: what is computed once, cotangents, and the maps of each location.
    assert compiled.memory_analysis().temp_size_in_bytes < 2 * memory


def test_what_comes_before_the_layer_is_computed_once(tiny, images):
    """In a loop over places the body is counted once; the encoder is not in it."""
    model, variables = tiny

    def flops(layer):
        def run(variables, images):
            return ablate_locations(model, variables, images, layer, depth_change, memory=1)

        return jax.jit(run).lower(variables, images).compile().cost_analysis()["flops"]

    def forward(variables, images):
        return model.apply(variables, images).depth

    once = jax.jit(forward).lower(variables, images).compile().cost_analysis()["flops"]
    assert flops("decoder/up_0_1/conv") < 1.6 * once
    assert flops("input") > 1.9 * once


def test_effects(small, images):
    network, variables = small
    grad = grumo_jax.GradientUncertainty(network)
    truth = jnp.where(images[..., 0] > 0.5, images[..., 1] + 1, 0)
    plain, edited = (grad(variables, x) for x in (images, images[::-1]))
    change = depth_change(edited, plain)
    expected = np.mean(np.abs(edited.depth - plain.depth) / plain.depth, axis=(1, 2))
    np.testing.assert_allclose(change, expected, rtol=1e-5)
    change = uncertainty_change(edited, plain)
    expected = np.abs(edited.raw).mean((1, 2)) / np.abs(plain.raw).mean((1, 2)) - 1
    np.testing.assert_allclose(change, expected, rtol=1e-4)
    metric = error_change(truth, median_scale=False)(edited, plain)
    errors = [grumo_jax.depth_errors(truth, e.depth).abs_rel for e in (edited, plain)]
    np.testing.assert_allclose(metric, errors[0] - errors[1], rtol=1e-4)
    scaled = error_change(truth)(edited, plain)
    for i in range(3):
        known = truth[i] > 0
        scale = np.median(truth[i][known]) / np.median(plain.depth[i][known])
        both = [grumo_jax.depth_errors(truth, scale * e.depth).abs_rel[i] for e in (edited, plain)]
        assert float(scaled[i]) == pytest.approx(float(both[0] - both[1]), rel=1e-3, abs=1e-5)


def test_errors_of_what_is_not_known(images):
    truth = jnp.where(images[..., 0] > 0.5, 2.0, 0)
    none = jnp.zeros_like(truth)
    plain = Estimate(jnp.ones_like(truth), none, none)

    def change(depth, **options):
        return error_change(truth, **options)(Estimate(depth, none, none), plain)

    broken = plain.depth.at[0, :, ::2].set(jnp.nan)
    np.testing.assert_array_equal(jnp.isnan(change(broken)), [True, False, False])
    gradient = jax.grad(lambda depth: jnp.sum(change(depth)))(plain.depth + 0.5)
    assert jnp.isfinite(gradient).all()
    halves = [jax.tree.map(lambda x: x.astype(jnp.bfloat16), e) for e in (plain, plain)]
    assert error_change(truth)(*halves).dtype == jnp.float32
    assert jnp.isnan(error_change(none)(plain, plain)).all()
    with pytest.raises(GrumoError, match=r"truth has shape \(1, 32, 64\), and depth \(3, 32, 64\)"):
        error_change(truth[:1])(plain, plain)


def test_a_network_without_layers_and_an_ensemble(images):
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x[..., 0] * self.param("scale", nn.initializers.ones, ())

    variables = Bare().init(jax.random.key(0), images)
    found = ablate_locations(
        grumo_jax.wrap(Bare()), variables, images, "input", at_pixel, patch=np.int64(16)
    )
    assert found.shape == (2, 4, 3)
    with pytest.raises(GrumoError, match="several networks; ablate each member by itself"):
        ablate_locations(grumo_jax.Ensemble(Bare()), variables, images, "input", depth_change)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "up9"}, "there is no layer 'up9'"),
        ({"replace": "ones"}, "replace is 'ones'; it must be one of 'zero', 'mean', 'noise'"),
        ({"replace": "noise"}, "replace='noise' draws random numbers: pass a key"),
        ({"replace": lambda a: a[:1]}, r"replace gives float32 \(1, 8, 16, 8\); the activation is"),
        ({"replace": lambda a: 0.0}, r"replace gives float32 \(\); the activation is"),
        ({"replace": jnp.zeros(3)}, "replace is ArrayImpl; it must be one of 'zero', 'mean',"),
        ({"replace": "reference", "reference": GroundTruth()}, "augments no image; expected an"),
        ({"patch": 0}, "patch is 0; expected one or two whole numbers, 1 or more"),
        ({"patch": 2.5}, "patch is 2.5; expected one or two whole numbers"),
        ({"patch": "33"}, "patch is '33'; expected one or two whole numbers"),
        ({"stride": (1, 2, 3)}, r"stride is \(1, 2, 3\); expected one or two"),
        ({"images": jnp.zeros((32, 64, 3))}, r"images have shape \(32, 64, 3\)"),
    ],
)
def test_mistakes_are_said(small, images, options, said):
    network, variables = small
    given = {"images": images, "layer": "up2", **options}
    with pytest.raises(GrumoError, match=said):
        ablate_locations(network, variables, effect=depth_change, **given)


def test_layers_must_be_feature_maps(images):
    class Flat(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1, name="dense")(x.reshape(x.shape[0], -1))[:, :, None]

    variables = draw_variables(Flat(), images)
    network = grumo_jax.wrap(Flat(), depth=lambda y: y)
    with pytest.raises(LayerError, match="layer 'dense' is no feature map"):
        ablate_locations(network, variables, images, "dense", depth_change)


def test_flip_is_the_default_reference(small, images):
    network, variables = small
    runs = [
        ablate_locations(
            network, variables, images, "up2", at_pixel, replace="reference", patch=8, **options
        )
        for options in ({}, {"reference": Flip()})
    ]
    np.testing.assert_array_equal(*runs)
