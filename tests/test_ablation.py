"""Ablation of settings: each is what its estimator gives alone, for a fraction of the work."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ablation_grids import grid_of, settings_of
from flax import linen as nn
from helpers import draw_variables

from grumo_jax import estimate_together
from grumo_jax.ablation import Grid, Signal, Site, ablate_settings
from grumo_jax.ablation.sweep import distinct_terms
from grumo_jax.errors import GrumoError, LayerError
from grumo_jax.references import FeatureNoise, Flip, Gray, GroundTruth, Noise


def as_is(depth, uncertainty):
    return uncertainty


def worst(depth, references):
    """A loss of one's own, two values for an image."""
    difference = jnp.abs(depth[:, None] - references)
    return jnp.stack([difference.max(axis=(1, 2, 3)), difference.mean(axis=(1, 2, 3))], axis=1)


# --- the numbers


SIGNALS = (
    Signal("flip", (Flip(),)),
    Signal("noise twice", (Noise(), Noise()), space="log_depth"),
    Signal("flip, σ", (Flip(),), uncertainty_weight=2.0),
    Signal("variance, σ", (Flip(), Noise()), loss="variance", uncertainty_weight=0.5),
    Signal("σ alone", (), loss="uncertainty", uncertainty_weight=2.0),
    Signal("features", (FeatureNoise(),), space="disparity"),
    Signal("truth", (GroundTruth(), Flip())),
    Signal("own loss", (Flip(), Gray()), loss=worst),
)


def test_each_setting_is_its_estimator(small, images):
    network, variables = small
    grid, key = grid_of(*SIGNALS), jax.random.key(3)
    truth = jax.random.uniform(jax.random.key(4), images.shape[:3]) + 0.5
    maps = jax.jit(
        lambda variables, images: ablate_settings(
            grid, network, variables, images, as_is, key, ground_truth=truth
        )
    )(variables, images)
    assert maps.shape == (*grid.shape, *images.shape[:3])
    # Every signal, at one site or another: all of them would take a minute to compile.
    some = dict(itertools.islice(settings_of(grid, network), 0, None, 9))
    assert len({place[0] for place in some}) == len(SIGNALS)
    estimates = estimate_together(some, variables, images, key, ground_truth=truth)
    maps = np.asarray(maps)
    for place, estimate in estimates.items():
        message = str(some[place])
        np.testing.assert_allclose(maps[place], estimate.uncertainty, atol=1e-4, err_msg=message)


def test_without_weight_log_sigma_does_not_matter(small, images):
    """Even where it is so large that its square is infinite."""
    network, variables = small
    large = dataclasses.replace(network, log_sigma=lambda out: out["log_sigma"] + 50)
    signals = Signal("flip", Flip()), Signal("with", Flip(), uncertainty_weight=2)

    @jax.jit
    def run(variables, images):
        found = ablate_settings(grid_of(*signals), large, variables, images, as_is)
        alone = ablate_settings(grid_of(signals[0]), network, variables, images, as_is)
        return found, alone[0]

    (without, weighted), alone = run(variables, images)
    np.testing.assert_allclose(without, alone, atol=1e-5)
    assert np.isnan(weighted).any()


def mean_and_depth(depth, uncertainty):
    return {"mean": jnp.mean(uncertainty, axis=(1, 2)), "depth": depth[:, 0, 0]}


@pytest.fixture
def run(small):
    network, variables = small
    grid = grid_of(SIGNALS[0], reductions=("norm",))
    return lambda images: ablate_settings(grid, network, variables, images, mean_and_depth)


def test_in_vmap(run, images):
    compiled, mapped = jax.jit(lambda images: (run(images), jax.vmap(run)(images[:, None])))(images)
    assert set(compiled) == {"mean", "depth"}
    for name, values in compiled.items():
        assert values.shape == (1, 5, 1, 3)
        of_each = np.moveaxis(np.asarray(mapped[name])[..., 0], 0, -1)
        np.testing.assert_allclose(of_each, values, atol=1e-5)


@pytest.mark.slow
def test_without_jit(run, images):
    compiled = jax.jit(run)(images)
    for name, values in run(images).items():
        np.testing.assert_allclose(compiled[name], values, atol=1e-5)


class Deep(nn.Module):
    """Layers that cost more than what is made of their gradients."""

    @nn.compact
    def __call__(self, x):
        for name in ("a", "b", "c", "d"):
            x = nn.tanh(nn.Conv(32, (3, 3), name=name)(x))
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(x))


def test_work_is_shared(images):
    """All layers and reductions for one reference cost little more than the coarsest alone."""
    variables = draw_variables(Deep(), images)
    flip = {"flip": Flip()}

    def flops(**options):
        options = {
            "references": flip,
            "losses": ["squared"],
            "uncertainty_weights": [0.0],
            **options,
        }
        grid = Grid.of(Deep(), variables, images, **options)

        def run(variables, images):
            return ablate_settings(grid, Deep(), variables, images, lambda _, u: jnp.sum(u))

        return jax.jit(run).lower(variables, images).compile().cost_analysis()["flops"]

    one = flops(layers=["a"], reductions=["max"])
    assert flops(layers=["a", "b", "c", "d", "head"]) < 1.5 * one


def test_weights_share_one_backward_pass(small, images):
    weights = dict.fromkeys(range(5), Flip())
    signals = [Signal(str(w), (r,), uncertainty_weight=w) for w, r in weights.items()]
    assert len(distinct_terms(signals)) == 2


# --- grids


def test_a_site_has_a_layer_once():
    with pytest.raises(GrumoError, match="the site 'both' has a layer twice: up1, up1"):
        Site("both", ("up1", "up1"))


def test_a_grid_of_options(small, images):
    grid = Grid.of(
        *small,
        images,
        layers=["heads", "1"],
        combinations=["std"],
        reductions=["max"],
        references={"a": Flip(), "b": Gray()},
        losses=["squared", "variance", "uncertainty"],
        spaces=["depth", "log_depth"],
        uncertainty_weights=[0, 2],
    )
    assert grid.shape == (13, 3, 1)
    assert grid.signals[-1] == Signal("uncertainty", (), "uncertainty", uncertainty_weight=2)
    assert [site.name for site in grid.sites] == ["heads", "1 up1", "together, std"]
    names = [signal.name for signal in grid.signals]
    assert names[:4] == [
        "a, depth, w = 0",
        "b, depth, w = 0",
        "variance, depth, w = 0",
        "a, depth, w = 2",
    ]
    assert "b, log depth, w = 2" in names
    papers = Grid.of(*small, images)
    assert [s.name for s in papers.signals] == ["flip", "gray", "noise", "rotate", "variance"]
    assert {s.uncertainty_weight for s in papers.signals} == {2.0}
    assert papers.shape == (5, 3, 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": ["7"]}, r"there is no decoder layer 7; the decoder's layers are 0 … 2"),
        ({"layers": ["head"]}, r"there is no layer 'head'; did you mean 'heads'\?"),
        ({"layers": []}, "the grid has no sites; give at least one"),
        ({"layers": ["up1", "heads"], "combinations": ["sum"]}, "combine is 'sum'"),
        ({"layers": ["up1", "heads", 1]}, "the layer 'up1' is named twice"),
        ({"combinations": ["std", "std"]}, "the grid's sites name together, std twice"),
        ({"reductions": ["median"]}, "reduction is 'median'; it must be one of 'max'"),
        ({"references": {}}, "the signal 'variance' has no reference; give it at least one"),
        ({"references": {"x": 3}}, "3 is no reference"),
        ({"losses": ["l1"]}, "loss is 'l1'; it must be one of"),
        ({"references": Flip()}, r"references is Flip\(\); expected them by name, such as"),
        ({"references": {"variance": Flip()}}, "the grid's signals name variance twice"),
        ({"losses": "squared"}, r"losses is 'squared'; expected a list, such as \['squared'\]"),
        ({"losses": [worst]}, "is no name of a loss; for a function of your own make a Grid of"),
        ({"uncertainty_weights": 2.0}, r"uncertainty_weights is 2.0; expected a list"),
        ({"uncertainty_weights": [1.0, 1.0]}, "name .* twice"),
        ({"layers": ["dense"]}, "there is no layer 'dense'"),
        ({"spaces": ["metres"]}, "space is 'metres'; it must be one of"),
    ],
)
def test_mistakes_are_said(small, images, options, said):
    with pytest.raises(GrumoError, match=said):
        Grid.of(*small, images, **options)


def test_more_mistakes_are_said(small, images):
    network, variables = small
    without = dataclasses.replace(network, log_sigma=None)
    for options in ({"uncertainty_weights": [1.0]}, {"losses": ["uncertainty"]}):
        with pytest.raises(
            GrumoError, match="predicts no log σ; leave out its weights and the loss"
        ):
            Grid.of(without, variables, images, **options)
    with pytest.raises(GrumoError, match="draws random numbers: pass a key"):
        ablate_settings(grid_of(Signal("noise", (Noise(),))), *small, images, as_is)
    with pytest.raises(GrumoError, match=r"images have shape \(32, 64, 3\)"):
        ablate_settings(grid_of(SIGNALS[0]), *small, images[0], as_is)
    grid = Grid(SIGNALS[:1], (Site("up9", ("up9",)),))
    with pytest.raises(LayerError, match="there is no layer 'up9'"):
        ablate_settings(grid, *small, images, as_is)
    with pytest.raises(GrumoError, match="the site 'none' has no layer"):
        Site("none", ())
