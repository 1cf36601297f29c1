"""Ablation of places: the effect of replacing patches of activations."""

import dataclasses
import itertools

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


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


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

    activation = 3 * np.arange(8, dtype=np.float32).reshape(2, 4)
    images = np.repeat(activation[None, ..., None] / 3, 3, axis=-1)
    variables = draw_variables(Lines(), images)
    variables["params"]["a"]["kernel"] = jnp.full((1, 1, 1, 1), 3.0)

    def lost(edited, plain):
        return jnp.sum(plain.depth - edited.depth, axis=(1, 2))

    @jax.jit
    def run(images):
        options = {
            "zero": {},
            "mean": {"replace": "mean"},
            "flip": {"replace": "reference"},
            "darker": {"replace": "reference", "reference": Darker()},
            "function": {"replace": lambda a: a - 1},
            "patches": {"patch": (1, 2)},
            "overlapping": {"patch": (2, 3), "stride": (1, 2)},
            "input": {"layer": "input"},
        }
        return {
            name: ablate_locations(
                grumo_jax.wrap(Lines()), variables, images, effect=lost, **{"layer": "a", **given}
            )[..., 0]
            for name, given in options.items()
        }

    found = run(images)
    np.testing.assert_allclose(found["zero"], 2 * activation)
    np.testing.assert_allclose(found["mean"], 2 * (activation - activation.mean()))
    np.testing.assert_allclose(found["flip"], 0 * activation, err_msg="exact flip")
    np.testing.assert_allclose(found["darker"], activation)
    np.testing.assert_allclose(found["function"], np.full((2, 4), 2.0))
    sums = 2 * (activation[:, ::2] + activation[:, 1::2])
    np.testing.assert_allclose(found["patches"], sums)
    # Patches overlap, and are cut off at the border.
    overlapping = found["overlapping"]
    np.testing.assert_allclose(overlapping[0, 0], 2 * activation[:, :3].sum())
    np.testing.assert_allclose(overlapping[1, 1], 2 * activation[1:, 2:].sum())
    np.testing.assert_allclose(found["input"], 2 * activation)


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


LAYERS, REPLACEMENTS = ("up2", "down1", "input"), ("zero", "mean", "noise", "reference")
TELLING = (("up2", "noise"), ("down1", "reference"), ("input", "mean"), ("input", "reference"))


@pytest.mark.parametrize(
    ("layer", "replace"),
    [way if way in TELLING else slow(*way) for way in itertools.product(LAYERS, REPLACEMENTS)],
)
def test_each_place_is_an_edited_run(small, images, replace, layer):
    """The long way: one run for one place, on the edited network."""
    network, variables = small
    grad, key = grumo_jax.GradientUncertainty(network, layers="up1"), jax.random.key(1)
    reference = Noise(0.1)

    @jax.jit
    def run(variables, images):
        return ablate_locations(
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

    def activation_of(variables, images):
        if layer == "input":
            return images
        return grumo_jax.capture_activations(network, variables, images, layer)

    @jax.jit
    def run_for_one_place(variables, images):
        """Depths of the plain and of the edited network, and scores of that."""
        activation = activation_of(variables, images)
        spread = jnp.std(activation, axis=(1, 2), keepdims=True)
        mean = jnp.mean(activation, axis=(1, 2), keepdims=True)
        if replace == "reference":
            put = activation_of(variables, reference.augment(images, reference_key(key, reference)))
        else:
            noise = jax.random.normal(key, activation.shape[1:])[None]
            put = {"zero": 0 * activation, "mean": mean + 0 * activation}.get(
                replace, mean + spread * noise
            )
        place = (slice(None), slice(4, 8), slice(8, 16))
        edited = activation.at[place].set(put[place])
        constant = grumo_jax.ConstantBaseline(network)
        plain, flipped = (constant(variables, x).depth for x in (images, images[:, :, ::-1]))
        seen, edits = (edited, {}) if layer == "input" else (images, {layer: lambda a: edited})
        output = grumo_jax.edit_activations(network, variables, seen, edits)
        # The reference depth is that of the unedited network.
        by_hand = gradient_at(network, variables, seen, edits, flipped[:, :, ::-1])
        scores = jnp.max(by_hand, axis=-1)
        resized = jax.image.resize(scores, images.shape[:3], "bilinear", antialias=False)
        return plain, network.read_depth(output), resized

    shape = jax.eval_shape(activation_of, variables, images).shape
    depth, raw, plain = run(variables, images)
    assert depth.shape == (shape[1] // 4, shape[2] // 8, *images.shape[:3])
    expected_plain, expected, scores = run_for_one_place(variables, images)
    np.testing.assert_allclose(plain[1, 1], expected_plain, rtol=1e-5)
    np.testing.assert_allclose(depth[1, 1], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(raw[1, 1], scores, rtol=1e-3, atol=1e-6)


def reference_key(key, reference):
    from grumo_jax.estimators.draws import reference_key

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

    expected, *found = jax.jit(lambda: [run(memory) for memory in (2**40, 1, 100_000)])()
    for result in found:
        np.testing.assert_allclose(result, expected, atol=1e-5)


class Chain(nn.Module):
    """Layers of one size, one after another."""

    @nn.compact
    def __call__(self, x):
        for i in range(6):
            x = nn.tanh(nn.Conv(16, (3, 3), name=f"c{i}")(x))
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(x)[..., 0])


GRAD, DROP = grumo_jax.GradientUncertainty, grumo_jax.InferenceDropout


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        (GRAD, "input"),
        (GRAD, "c5"),
        (DROP, "head"),
        slow(GRAD, "c0"),
        slow(GRAD, "head"),
        slow(DROP, "input"),
        slow(DROP, "c0"),
        slow(DROP, "c5"),
    ],
)
def test_memory_is_bounded(images, layer, kind):
    """Also where the estimator reads, or drops, before the layer that is edited."""
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


def test_what_comes_before_the_layer_is_computed_once(images):
    """In a loop over places the body is counted once; the layers before are not in it."""
    variables = draw_variables(Chain(), images)

    def flops(run):
        return jax.jit(run).lower(variables, images).compile().cost_analysis()["flops"]

    def ablate(layer):
        return lambda v, x: ablate_locations(Chain(), v, x, layer, depth_change, memory=1)

    once = flops(Chain().apply)
    assert flops(ablate("c4")) < 1.6 * once
    assert flops(ablate("input")) > 1.9 * once


def test_effects(small, images):
    network, variables = small
    grad = grumo_jax.GradientUncertainty(network)
    truth = np.where(images[..., 0] > 0.5, images[..., 1] + 1, 0).astype(np.float32)
    plain = jax.tree.map(np.asarray, grad(variables, images))
    # The same network sees the same images, in another order.
    edited = jax.tree.map(np.asarray, grad(variables, images[::-1]))

    @jax.jit
    def look(edited, plain, truth):
        return {
            "depth": depth_change(edited, plain),
            "uncertainty": uncertainty_change(edited, plain),
            "error": error_change(truth, median_scale=False)(edited, plain),
            "scaled": error_change(truth)(edited, plain),
        }

    found = look(edited, plain, truth)
    expected = np.mean(np.abs(edited.depth - plain.depth) / plain.depth, axis=(1, 2))
    np.testing.assert_allclose(found["depth"], expected, rtol=1e-5)
    expected = np.abs(edited.raw).mean((1, 2)) / np.abs(plain.raw).mean((1, 2)) - 1
    np.testing.assert_allclose(found["uncertainty"], expected, rtol=1e-4)
    errors = jax.jit(lambda depth: grumo_jax.depth_errors(truth, depth).abs_rel)
    expected = errors(edited.depth) - errors(plain.depth)
    np.testing.assert_allclose(found["error"], expected, rtol=1e-4)
    known = truth > 0
    for i in range(3):
        scale = np.median(truth[i][known[i]]) / np.median(plain.depth[i][known[i]])
        both = [float(errors(scale * e.depth)[i]) for e in (edited, plain)]
        assert float(found["scaled"][i]) == pytest.approx(both[0] - both[1], rel=1e-3, abs=1e-5)


def test_errors_of_what_is_not_known(images):
    truth = np.where(images[..., 0] > 0.5, 2.0, 0).astype(np.float32)
    none = np.zeros_like(truth)
    plain = Estimate(np.ones_like(truth), none, none)

    @jax.jit
    def change_and_slope(truth, depth):
        effect = error_change(truth)
        change, pull_back = jax.vjp(lambda d: effect(Estimate(d, none, none), plain), depth)
        return change, pull_back(jnp.ones_like(change))[0]

    broken = plain.depth.copy()
    broken[0, :, ::2] = np.nan
    change, _ = change_and_slope(truth, broken)
    np.testing.assert_array_equal(np.isnan(change), [True, False, False])
    _, slope = change_and_slope(truth, plain.depth + 0.5)
    assert np.isfinite(slope).all()
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), plain)
    assert jax.eval_shape(error_change(truth), half, half).dtype == jnp.float32
    change, _ = change_and_slope(none, plain.depth)
    assert np.isnan(change).all()
    with pytest.raises(GrumoError, match=r"truth has shape \(1, 32, 64\), and depth \(3, 32, 64\)"):
        error_change(truth[:1])(plain, plain)


def test_a_network_without_layers_and_an_ensemble(images):
    class Bare(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x[..., 0] * self.param("scale", nn.initializers.ones, ())

    variables = draw_variables(Bare(), images)

    def run(images):
        network = grumo_jax.wrap(Bare())
        return ablate_locations(network, variables, images, "input", at_pixel, patch=np.int64(16))

    found = jax.eval_shape(run, images)
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

    @jax.jit
    def run(images):
        return [
            ablate_locations(
                network, variables, images, "up2", at_pixel, replace="reference", patch=8, **options
            )
            for options in ({}, {"reference": Flip()})
        ]

    np.testing.assert_array_equal(*run(images))
