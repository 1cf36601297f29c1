import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grumo_jax
from grumo_jax import references as r
from grumo_jax.estimators import draws, views


def test_flip_is_its_own_inverse(images):
    flip = grumo_jax.Flip()
    np.testing.assert_array_equal(flip.augment(flip.augment(images)), images)
    np.testing.assert_array_equal(flip.invert(flip.augment(images)[..., 0]), images[..., 0])


def test_gray_has_the_luma_in_all_channels():
    pixel = jnp.array([[[[1.0, 0.5, 0.25]]]])
    gray = grumo_jax.Gray().augment(pixel)
    np.testing.assert_allclose(gray[0, 0, 0], [0.2989 + 0.587 / 2 + 0.114 / 4] * 3, rtol=1e-6)


def test_noise_is_shared_by_the_batch_and_has_its_size(images):
    noise = grumo_jax.Noise(std=0.1).augment(images, jax.random.key(3)) - images
    np.testing.assert_allclose(noise[0], noise[1], atol=1e-6)
    assert abs(float(noise.std()) - 0.1) < 0.005


def test_rotate_turns_counter_clockwise_and_leaves_zeros():
    square = jnp.zeros((1, 5, 5)).at[0, 0, 4].set(1)
    np.testing.assert_array_equal(r.rotate(square, 90.0)[0], jnp.zeros((5, 5)).at[0, 0].set(1))
    turned = r.rotate(jnp.ones((1, 20, 60)), 10.0)
    assert turned[0, 0, 0] == 0
    assert turned[0, 10, 30] == 1


def test_the_inverse_of_a_rotation_turns_back():
    maps, quarter = jnp.arange(25.0).reshape(1, 5, 5), grumo_jax.Rotate(90.0)
    np.testing.assert_array_equal(quarter.invert(quarter.augment(maps)), maps)
    assert np.any(quarter.augment(maps) != maps)


def test_feature_noise_is_relative_to_each_maps_own_spread():
    calm, wild = np.random.default_rng(0).normal(size=(2, 1, 40, 40, 1)).astype(np.float32)
    features = jnp.concatenate([calm, 100 * wild], axis=-1)
    noise = grumo_jax.FeatureNoise(0.1).edit(features, jax.random.key(0)) - features
    spread = noise.std(axis=(0, 1, 2)) / features.std(axis=(0, 1, 2))
    np.testing.assert_allclose(spread, 0.1, rtol=0.1)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(st.floats(-45, 45), st.sampled_from([(8, 40), (40, 8), (23, 24)]))
def test_rotating_there_and_back_keeps_the_middle(degrees, size):
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    back = r.rotate(r.rotate(jnp.asarray(y + 100 * x)[None], degrees), -degrees)[0]
    middle = np.s_[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1]
    # Nearest neighbour twice moves a value by at most two pixels.
    assert np.all(np.abs(np.asarray(back)[middle] - (y + 100 * x)[middle]) <= 202)


@partial(jax.jit, static_argnums=(0, 3))
def predict(network, variables, images, references, key=None, **options):
    inside = (network, variables, images)
    return views.reference_depths(*inside, draws.number(references), key, **options)


def test_reference_depths_are_predictions_on_augmented_images(small, images):
    network, variables = small
    chosen = (grumo_jax.Flip(), grumo_jax.GroundTruth(), grumo_jax.Gray())
    truth = jnp.full(images.shape[:3], 7.0)
    depths = predict(network, variables, images, chosen, ground_truth=truth)
    assert depths.shape == (3, 3, 32, 64)
    apply = jax.jit(network.module.apply)
    flipped = apply(variables, images[:, :, ::-1])["depth"][:, :, ::-1]
    np.testing.assert_allclose(depths[:, 0], flipped, rtol=1e-4)
    np.testing.assert_array_equal(depths[:, 1], truth)
    gray = apply(variables, grumo_jax.Gray().augment(images))["depth"]
    np.testing.assert_allclose(depths[:, 2], gray, rtol=1e-4)


@pytest.mark.parametrize("reference", [grumo_jax.FeatureDropout(), grumo_jax.FeatureNoise()])
def test_feature_references_edit_the_encoders_outputs(small, images, reference):
    network, variables = small
    strength = {"rate": 1e-7} if isinstance(reference, grumo_jax.FeatureDropout) else {"std": 0.0}
    weak = type(reference)(**strength)
    depths = predict(network, variables, images, (reference, weak), jax.random.key(0))
    plain = jax.jit(network.module.apply)(variables, images)["depth"]
    assert np.abs(depths[:, 0] - plain).max() > 1e-3
    np.testing.assert_allclose(depths[:, 1], plain, rtol=1e-4)


def test_users_own_reference(small, images):
    import dataclasses

    @dataclasses.dataclass(frozen=True)
    class Shift(grumo_jax.ImageReference):
        pixels: int = 8

        def augment(self, images, key):
            return jnp.roll(images, self.pixels, axis=2)

        def invert(self, maps):
            return jnp.roll(maps, -self.pixels, axis=2)

    model, variables = small
    estimator = jax.jit(grumo_jax.GradientUncertainty(model, references=Shift()))
    estimate = estimator(variables, images)
    assert 0 < estimate.uncertainty.mean() < 1


def test_errors_name_the_problem(small, images):
    model, variables = small
    oracle = grumo_jax.GradientUncertainty(model, references=grumo_jax.GroundTruth())
    with pytest.raises(grumo_jax.GrumoError, match=r"ground_truth=depth"):
        oracle(variables, images)
    with pytest.raises(grumo_jax.GrumoError, match=r"\(3, 8, 8\); expected \(3, 32, 64\)"):
        oracle(variables, images, ground_truth=jnp.ones((3, 8, 8)))
    for make, message in (
        (lambda: grumo_jax.Noise(-1), r"std is -1; it must be at least 0"),
        (lambda: grumo_jax.FeatureDropout(1.0), r"rate is 1.0; .* less than 1"),
        (lambda: grumo_jax.FeatureNoise(-0.1), r"std is -0.1"),
    ):
        with pytest.raises(grumo_jax.GrumoError, match=message):
            make()
    with pytest.raises(grumo_jax.GrumoError, match="'flip' is no reference"):
        grumo_jax.GradientUncertainty(model, references=("flip",))


# --- what is drawn


def test_draws_hang_on_numbers_that_are_written_down():
    """`fold_in(fold_in(key, stream), number)`: 1 is Noise, 2 FeatureDropout, 3 FeatureNoise."""
    key = jax.random.key(7)
    kinds = {1: grumo_jax.Noise, 2: grumo_jax.FeatureDropout, 3: grumo_jax.FeatureNoise}
    for stream, kind in kinds.items():
        expected = jax.random.fold_in(jax.random.fold_in(key, stream), 4)
        renamed = type("Other", (kind,), {"__module__": "elsewhere"})
        for reference in (kind(), kind(0.3), renamed()):
            assert draws.reference_key(key, reference, 4) == expected


def test_references_of_ones_own_draw_by_their_number_else_by_their_place():
    key = jax.random.key(7)
    own = type("Own", (grumo_jax.ImageReference,), {"__module__": "package.module"})
    by_name = jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(b"package.module.Own")), 0)
    assert draws.reference_key(key, own(), 0) == by_name
    own.stream = 1000
    by_number = jax.random.fold_in(jax.random.fold_in(key, 1000), 0)
    assert draws.reference_key(key, own(), 0) == by_number
    assert draws.reference_key(None, own(), 0) is None


@pytest.mark.slow
def test_two_of_a_kind_draw_differently_and_companions_change_nothing(small, images):
    network, variables = small
    key = jax.random.key(0)
    weak, strong = grumo_jax.Noise(std=0.1), grumo_jax.Noise(std=0.2)
    both = predict(network, variables, images, (weak, strong), key)
    alone = predict(network, variables, images, (strong,), key)
    assert np.abs(both[:, 1] - alone[:, 0]).max() > 1e-3
    estimators = {
        "weak": grumo_jax.TestTimeVariance(network, references=(weak,)),
        "strong": grumo_jax.TestTimeVariance(network, references=(strong,)),
        "both": grumo_jax.TestTimeVariance(network, references=(weak, strong)),
    }

    @jax.jit
    def together_and_alone(*arguments):
        alone = {name: estimator(*arguments).raw for name, estimator in estimators.items()}
        return grumo_jax.estimate_together(estimators, *arguments), alone

    together, alone = together_and_alone(variables, images, key)
    for name, expected in alone.items():
        np.testing.assert_allclose(together[name].raw, expected, rtol=1e-3, atol=1e-6)


def test_unknown_ground_truth_is_no_nan(small, images):
    """So that `jax_debug_nans` finds the user's own."""
    network, variables = small
    truth = jnp.ones((3, 32, 64)).at[:, :4].set(0.0)
    grad = grumo_jax.GradientUncertainty(network, references=grumo_jax.GroundTruth())
    with jax.debug_nans(True):
        estimate = grad(variables, images, ground_truth=truth)
    assert jnp.isinf(estimate.reference_depth[:, 0, :4]).all()
    assert jnp.isfinite(estimate.loss).all()
