"""Networks that compute in half precision: the same maps as in float32, in every unit of depth."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import grumo_jax
from grumo_jax.ablation import Grid, Signal, Site, ablate_settings, pixel_gradients
from grumo_jax.estimators.backward import outputs_vjp
from grumo_jax.predictor import to_photo_size
from grumo_jax.references import Flip

UNITS = (1e-2, 1.0, 400.0)
EXACT = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 4e-3}
"""How far maps may differ, by the dtype: some roundings of depth."""


class Half(nn.Module):
    """Depth in any unit, computed in `dtype`; the heads' output is float32 if told."""

    dtype: Any
    wide_head: bool = False

    @nn.compact
    def __call__(self, images):
        def conv(width, name, **options):
            return nn.Conv(width, (3, 3), dtype=self.dtype, name=name, **options)

        unit = self.param("unit", nn.initializers.ones, ())
        x = nn.tanh(conv(8, "up2", strides=4)(images))
        x = nn.tanh(conv(8, "up1")(x))
        x = jnp.repeat(jnp.repeat(conv(2, "head")(x), 4, axis=1), 4, axis=2)
        x = x.astype(jnp.float32) if self.wide_head else x
        depth = nn.softplus(x[..., 0]) + jnp.asarray(0.1, x.dtype)
        return {"depth": depth * unit.astype(x.dtype), "log_sigma": x[..., 1]}


@pytest.fixture(scope="module")
def photos():
    """Two photos whose left differs from their right, so that a flip changes something."""
    noise = jax.random.uniform(jax.random.key(0), (2, 32, 64, 3))
    return (noise + jnp.linspace(0, 1, 64)[None, None, :, None]) / 2


@pytest.fixture(scope="module")
def in_units(photos):
    """The same variables, in which depth has each of the units."""
    variables = Half(jnp.float32).init(jax.random.key(1), photos)
    return [{"params": {**variables["params"], "unit": jnp.float32(unit)}} for unit in UNITS]


def wrapped(dtype, **options):
    return grumo_jax.wrap(Half(dtype, **options), log_sigma=lambda output: output["log_sigma"])


def scores_of(estimate):
    return jnp.stack(list(estimate.layer_scores.values()))


@pytest.mark.parametrize(
    ("dtype", "wide_head", "space"),
    [
        ("bfloat16", False, "log_depth"),
        ("float16", False, "log_depth"),
        pytest.param("float32", False, "log_depth", marks=pytest.mark.slow),
        pytest.param("float16", True, "log_depth", marks=pytest.mark.slow),
        pytest.param("float16", False, "depth", marks=pytest.mark.slow),
    ],
)
def test_maps_do_not_depend_on_the_unit_of_depth(photos, in_units, dtype, wide_head, space):
    options = {"layers": ("up2", "up1"), "space": space, "combine": "mean"}
    network = wrapped(jnp.dtype(dtype), wide_head=wide_head)
    grad = grumo_jax.GradientUncertainty(network, **options)
    small, one, large = (grad(variables, photos) for variables in in_units)
    for estimate in (small, large):
        np.testing.assert_allclose(estimate.uncertainty, one.uncertainty, atol=EXACT[dtype])
        assert np.mean(scores_of(estimate) == 0) <= np.mean(scores_of(one) == 0) + 1e-3
    for array in (one.depth, one.uncertainty, one.raw, one.loss, scores_of(one)):
        assert array.dtype == jnp.float32
    full = grumo_jax.GradientUncertainty(wrapped(jnp.float32), **options)(in_units[1], photos)
    np.testing.assert_allclose(one.uncertainty, full.uncertainty, atol=0.1)
    assert np.mean(scores_of(one) == 0) <= np.mean(scores_of(full) == 0) + 1e-3


def test_log_sigma_counts_in_half_precision(photos, in_units):
    full, half = (
        grumo_jax.GradientUncertainty.uncertainty_only(wrapped(dtype), layers="up1")(
            in_units[1], photos
        )
        for dtype in (jnp.float32, jnp.float16)
    )
    np.testing.assert_allclose(half.uncertainty, full.uncertainty, atol=2e-2)
    np.testing.assert_allclose(half.loss, full.loss, rtol=1e-3)


def test_ablations_of_half_precision(photos, in_units):
    """Settings and single pixels have the gradients that the estimator has."""
    network, (_, _, variables) = wrapped(jnp.float16), in_units
    grad = grumo_jax.GradientUncertainty(network, layers="up1", space="log_depth")
    estimate = grad(variables, photos)
    grid = Grid((Signal("flip", Flip(), space="log_depth"),), (Site("up1", ("up1",)),), ("max",))
    maps = jax.jit(lambda v, x: ablate_settings(grid, network, v, x, lambda _, u: u))
    np.testing.assert_allclose(
        maps(variables, photos)[0, 0, 0], estimate.uncertainty, atol=EXACT["float16"]
    )
    pixels = jnp.array([[3, 5], [20, 40]])
    single = jax.jit(lambda v, x: pixel_gradients(grad, v, x, pixels))(variables, photos)["up1"]
    assert single.dtype == jnp.float32
    wide = grumo_jax.GradientUncertainty(wrapped(jnp.float32), layers="up1", space="log_depth")
    expected = pixel_gradients(wide, variables, photos, pixels)["up1"]
    assert np.all((np.abs(single) > 0).sum(axis=(1, 2, 3, 4, 5)) > 50)
    error = np.abs(single - expected).max(axis=(1, 3, 4, 5))
    assert np.all(error < 0.2 * np.abs(expected).max(axis=(1, 3, 4, 5)))


@pytest.mark.slow
def test_transforms_of_half_precision(photos, in_units):
    grad = grumo_jax.GradientUncertainty(wrapped(jnp.float16), layers="up1")

    @jax.jit
    def slope(variables, images):
        return jax.grad(lambda x: grad(variables, x).uncertainty.mean())(images)

    found = slope(in_units[2], photos)
    assert np.all(np.isfinite(found))
    assert np.any(found != 0)
    mapped = jax.vmap(lambda image: grad(in_units[2], image[None]).uncertainty[0])(photos)
    np.testing.assert_allclose(mapped, grad(in_units[2], photos).uncertainty, atol=EXACT["float16"])


def test_in_float32_the_scale_changes_no_bit(small, images):
    network, variables = small
    outputs, scaled = outputs_vjp(network, variables, images, ("up2", "up1"), log_sigma=True)

    def readout(output):
        return output["depth"], output["log_sigma"]

    inside = (network, variables, images, ("up2", "up1"))
    _, plain = grumo_jax.activation_vjp(*inside, readout=readout)
    cotangents = jax.tree.map(lambda y: 1e-5 * jnp.sin(7 * y), outputs)
    jax.tree.map(np.testing.assert_array_equal, scaled(cotangents), plain(cotangents))


def test_learned_uncertainty_of_half_precision(photos, in_units):
    """σ and σ² of float16 would be infinite from s = 11.1 on, and from 5.6."""
    network = grumo_jax.wrap(Half(jnp.float16), log_sigma=lambda output: output["log_sigma"] + 12)
    learned = grumo_jax.LearnedUncertainty(network)(in_units[1], photos)
    ensemble = grumo_jax.Ensemble(network)(grumo_jax.stack_variables(in_units[1:]), photos)
    for estimate in (learned, ensemble):
        assert estimate.raw.dtype == estimate.uncertainty.dtype == jnp.float32
        assert np.all(np.isfinite(estimate.raw))


def test_a_layer_whose_first_axis_is_not_the_images(photos):
    class Tiled(nn.Module):
        @nn.compact
        def __call__(self, images):
            tiles = images.reshape(-1, 16, 64, 3)
            y = nn.Conv(1, (3, 3), name="tiles")(tiles)
            return nn.softplus(y.reshape(*images.shape[:3]))

    variables = Tiled().init(jax.random.key(0), photos)
    with pytest.raises(grumo_jax.errors.LayerError, match=r"'tiles' has shape .* 2 images"):
        grumo_jax.GradientUncertainty(Tiled(), layers="tiles")(variables, photos)


@pytest.mark.parametrize("unit", [1 / 400, pytest.param(1000.0, marks=pytest.mark.slow)])
def test_inverses_are_read_in_float32(photos, in_units, unit):
    """As of relative disparity, which is in the thousands or far below 1."""
    variables = {"params": {**in_units[0]["params"], "unit": jnp.float32(unit)}}

    def grad(dtype):
        network = grumo_jax.wrap(Half(dtype), depth=lambda output: 1 / output["depth"])
        return grumo_jax.GradientUncertainty(network, layers="up1")(variables, photos)

    full, half = grad(jnp.float32), grad(jnp.float16)
    np.testing.assert_allclose(half.depth, full.depth, rtol=5e-3)
    np.testing.assert_allclose(half.uncertainty, full.uncertainty, atol=0.1)
    scores = [np.mean(scores_of(estimate) == 0) for estimate in (half, full)]
    assert scores[0] <= scores[1] + 1e-3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_predictions_are_float32(dtype):
    with jax.enable_x64(dtype == "float64"):
        maps = jnp.full((1, 2, 3), 2.0, dtype)
        estimate = grumo_jax.estimators.Estimate(maps, maps, maps)
        found = to_photo_size(grumo_jax.DepthNetwork(None), estimate, 0, (4, 5))
    for values in (found.depth, found.uncertainty, found.raw):
        assert (values.dtype, values.shape) == (np.float32, (4, 5))
        np.testing.assert_array_equal(values, 2)
