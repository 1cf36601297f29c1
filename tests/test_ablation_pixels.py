"""Gradients of single pixels' losses: they add up to what Grad reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import grumo_jax
from grumo_jax.ablation import pixel_gradients
from grumo_jax.errors import GrumoError
from grumo_jax.references import Flip, Gray, Noise

ALL = np.stack(np.meshgrid(np.arange(16), np.arange(32), indexing="ij"), -1).reshape(-1, 2)
"""The pixels of images of 16×32."""


@pytest.mark.parametrize(
    "options",
    [
        {"layers": ("up2", "up1"), "references": (Flip(), Gray()), "uncertainty_weight": 2.0},
        {"loss": "variance", "references": (Flip(), Noise()), "space": "log_depth"},
        pytest.param({"loss": "uncertainty", "uncertainty_weight": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_they_add_up_to_the_gradient_of_the_mean_loss(small, images, options):
    network, variables = small
    estimator, key = grumo_jax.GradientUncertainty(network, **options), jax.random.key(2)
    images = images[:2, ::2, ::2]
    parts = jax.jit(lambda v, x: pixel_gradients(estimator, v, x, ALL, key))(variables, images)
    estimate = estimator(variables, images, key)
    assert set(parts) == set(estimate.layer_scores)
    for name, gradients in parts.items():
        assert gradients.shape[:3] == (len(ALL), estimate.loss.shape[1], 2)
        mean = np.mean(gradients, axis=0)
        expected = estimate.layer_scores[name]
        np.testing.assert_allclose(mean.max(axis=-1), expected, rtol=2e-3, atol=1e-7)


def test_worked_out_by_hand():
    """Depth is a 3×3 sum of the activation: a pixel draws from its neighbours alone."""

    class Sum(nn.Module):
        @nn.compact
        def __call__(self, x):
            a = nn.Conv(1, (1, 1), use_bias=False, kernel_init=nn.initializers.ones, name="a")(x)
            ones = nn.initializers.ones
            return nn.Conv(1, (3, 3), use_bias=False, kernel_init=ones, name="b")(a)[..., 0]

    estimator = grumo_jax.GradientUncertainty(Sum(), layers=("a", "b"))

    @jax.jit
    def look(images):
        variables = Sum().init(jax.random.key(0), images)
        parts = pixel_gradients(estimator, variables, images, np.array([[2, 3], [0, 7]]))
        depth, flipped = (Sum().apply(variables, x) for x in (images, images[:, :, ::-1]))
        return parts, depth[0] - flipped[0, :, ::-1]

    parts, error = look(jax.random.uniform(jax.random.key(0), (1, 6, 8, 3)))
    expected = np.zeros((2, 6, 8))
    expected[0, 1:4, 2:5] = 2 * error[2, 3]
    expected[1, 0:2, 6:8] = 2 * error[0, 7]
    np.testing.assert_allclose(parts["a"][:, 0, 0, ..., 0], expected, atol=1e-5)
    expected = np.zeros((2, 6, 8))
    expected[0, 2, 3], expected[1, 0, 7] = 2 * error[2, 3], 2 * error[0, 7]
    np.testing.assert_allclose(parts["b"][:, 0, 0, ..., 0], expected, atol=1e-5)


def test_reductions_chunks_and_transforms(small, images):
    network, variables = small
    estimator = grumo_jax.GradientUncertainty(network, layers="up2", references=(Flip(), Gray()))
    pixels = ALL[3::125]

    def run(images, **options):
        return pixel_gradients(estimator, variables, images, pixels, **options)["up2"]

    @jax.jit
    def look(images):
        return {
            "plain": run(images),
            "norm": run(images, reduction="norm", memory=1),
            "in chunks": run(images, memory=400_000),
            "mapped": jax.vmap(lambda x: run(x[None]))(images),
        }

    found = jax.tree.map(np.asarray, look(images))
    plain, tolerance = found["plain"], {"rtol": 1e-3, "atol": 1e-6}
    np.testing.assert_allclose(found["norm"], np.linalg.norm(plain, axis=-1), **tolerance)
    np.testing.assert_allclose(found["in chunks"], plain, **tolerance)
    mapped = np.moveaxis(found["mapped"][:, :, :, 0], 0, 2)
    np.testing.assert_allclose(mapped, plain, **tolerance)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pixels": jnp.zeros((2, 2))}, r"pixels are float32 \(2, 2\); expected integers \(K, 2\)"),
        ({"pixels": ALL[0]}, r"pixels are int32 \(2,\); expected integers"),
        ({"pixels": [[3, 5], [32, 5]]}, r"pixel \(32, 5\) lies outside the output of 32×64 pixels"),
        ({"pixels": [[-1, 5]]}, r"pixel \(-1, 5\) lies outside the output"),
        ({"reduction": "median"}, "reduction is 'median'; it must be one of 'max'"),
        ({"loss": lambda d, r: d[:, 0]}, "need not be a mean over pixels"),
        ({"layers": "up9"}, "there is no layer 'up9'"),
        ({"references": Noise()}, "draws random numbers: pass a key"),
    ],
)
def test_mistakes_are_said(small, images, options, said):
    network, variables = small
    call = {k: options[k] for k in ("pixels", "reduction") if k in options}
    own = {k: v for k, v in options.items() if k not in call}
    estimator = grumo_jax.GradientUncertainty(network, **own)
    with pytest.raises(GrumoError, match=said):
        pixel_gradients(estimator, variables, images, **{"pixels": ALL[:2], **call})


def test_other_estimators_and_traced_pixels_outside(small, images):
    network, variables = small
    with pytest.raises(GrumoError, match="takes Grad apart, a GradientUncertainty; this is a Post"):
        pixel_gradients(grumo_jax.PostProcessing(network), variables, images, ALL[:1])
    grad = grumo_jax.GradientUncertainty(network, layers="up2")
    run = jax.jit(lambda pixels: pixel_gradients(grad, variables, images, pixels)["up2"])
    found = run(jnp.array([[3, 5], [-1, 5], [3, 64]]))
    finite = np.isfinite(found).all(axis=tuple(range(1, found.ndim)))
    np.testing.assert_array_equal(finite, [True, False, False])
