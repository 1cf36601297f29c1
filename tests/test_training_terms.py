"""The terms of losses, each by itself: photometric error, smoothness, likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_runs import constant_error, gray, noise

from grumo_jax.training import photometric

photometric_error = jax.jit(photometric.photometric_error, static_argnames="ssim_weight")
smoothness = jax.jit(photometric.edge_aware_smoothness)


def ssim_in_float64(first, second):
    distances = []
    for a, b in zip(np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0), strict=True):
        a, b = (
            np.lib.stride_tricks.sliding_window_view(np.pad(x, 1, mode="reflect"), (3, 3))
            for x in (a, b)
        )
        axes = (-2, -1)
        mean_a, mean_b = a.mean(axes), b.mean(axes)
        covariance = ((a - mean_a[..., None, None]) * (b - mean_b[..., None, None])).mean(axes)
        ssim = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
        ssim /= (mean_a**2 + mean_b**2 + 1e-4) * (a.var(axes) + b.var(axes) + 9e-4)
        distances.append(np.clip((1 - ssim) / 2, 0, 1))
    return np.mean(distances, axis=0)


def test_photometric_error_is_that_of_an_oracle_in_float64():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 2, 7, 9, 3))
    second[1] = np.clip(first[1] + 0.02 * rng.normal(size=first[1].shape), 0, 1)
    result = photometric_error(jnp.float32(first), jnp.float32(second))
    for a, b, error in zip(first, second, result, strict=True):
        expected = 0.85 * ssim_in_float64(a, b) + 0.15 * np.abs(a - b).mean(-1)
        np.testing.assert_allclose(error, expected, atol=2e-5)


def test_photometric_error_of_constant_pictures():
    error = photometric_error(gray(0.2), gray(0.6))
    np.testing.assert_allclose(error, constant_error(0.2, 0.6), atol=2e-5)
    np.testing.assert_allclose(photometric_error(noise(0), noise(0)), 0, atol=1e-6)
    only = photometric_error(gray(0.2), gray(0.6), ssim_weight=0.0)
    np.testing.assert_allclose(only, 0.4, rtol=1e-6)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(photometric_error(x, gray(0.5)))))(gray(0.5))
    np.testing.assert_allclose(slope, 0, atol=1e-4)


def test_smoothness_of_a_ramp_worked_out_by_hand():
    ramp = jnp.broadcast_to(jnp.array([1.0, 2.0, 3.0]), (2, 2, 3))
    smooth = smoothness(ramp, jnp.zeros((2, 2, 3, 3)))
    np.testing.assert_allclose(smooth, 1 / 2, rtol=1e-6)
    edge = jnp.zeros((2, 2, 3, 3)).at[:, :, 2, 0].set(0.6)
    smooth = smoothness(7 * ramp, edge)
    np.testing.assert_allclose(smooth, (0.5 + 0.5 * np.exp(-0.2)) / 2, rtol=1e-6)
    turned = smoothness(jnp.swapaxes(ramp, 1, 2), jnp.swapaxes(edge, 1, 2))
    np.testing.assert_allclose(turned, smooth, rtol=1e-6)


def test_smoothness_takes_the_picture_averaged_over_blocks():
    picture = jnp.zeros((1, 2, 4, 3)).at[:, :, 3].set(0.8)
    smooth = smoothness(jnp.array([[[1.0, 3.0], [1.0, 3.0]]]), jnp.repeat(picture, 2, axis=1))
    np.testing.assert_allclose(smooth, np.exp(-0.4), rtol=1e-6)


def test_likelihood_worked_out_by_hand():
    s = np.log([0.5, 1.0, 4.0])
    result = jax.jit(photometric.laplace_likelihood)(jnp.full(3, 2.0), jnp.float32(s))
    np.testing.assert_allclose(result, [4 + np.log(0.5), 2, 0.5 + np.log(4)], rtol=1e-6)


@pytest.mark.parametrize("error", [0.0, 1e-3, 80.0])
def test_likelihood_is_finite_and_leads_back_from_everywhere(error):
    s = jnp.array([-1e4, -200, -21, -20, 20, 200, 1e4])
    both = jax.jit(jax.vmap(jax.value_and_grad(photometric.laplace_likelihood, argnums=1)))
    value, slope = both(jnp.full_like(s, error), s)
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(slope))
    assert np.all(slope[:4] < 0)
    assert np.all(slope[4:] > 0)
