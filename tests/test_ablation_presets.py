"""The papers' tables as grids: the settings are theirs, and so are the numbers."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grumo_jax
from grumo_jax.ablation import PRESETS, ablate, preset_grid
from grumo_jax.activations import choose_layers
from grumo_jax.errors import GrumoError, LayerError
from grumo_jax.evaluation import Protocol, evaluate
from grumo_jax.references import NAMED_REFERENCES, PAPER_REFERENCES

SIZE = (32, 64)
IMAGES = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
LOSSES = {
    "squared, depth": {},
    "squared, log depth": {"space": "log_depth"},
    "squared, disparity": {"space": "disparity"},
    "variance": {"loss": "variance", "references": PAPER_REFERENCES},
}
SETS = {"4, 6, 8": (4, 6, 8), "5 to 7": (5, 6, 7), "3 to 9": range(3, 10), "all": range(11)}


def papers_settings(table, model, variables):
    """{(signal, site, reduction): estimator} of a table, each made by itself."""
    decoder = choose_layers(model, variables, IMAGES, "decoder")
    (chosen,) = choose_layers(model, variables, IMAGES, "gradient")
    here = f"{decoder.index(chosen)} {chosen}"
    without = {"uncertainty_weight": 0.0}
    options = {
        "layers": {
            ("flip", f"{i} {layer}", "max"): {"layers": layer} for i, layer in enumerate(decoder)
        },
        "reductions": {
            ("flip", here, by): {"reduction": by} for by in ("max", "sum", "mean", "norm")
        },
        "references": {
            (name, here, "max"): {"references": reference}
            for name, reference in {**NAMED_REFERENCES, "first four": PAPER_REFERENCES}.items()
        },
        "losses": {
            **{(name, here, "max"): loss for name, loss in LOSSES.items()},
            **{(f"{name}, w = 0", here, "max"): loss | without for name, loss in LOSSES.items()},
            ("σ² alone", here, "max"): {"loss": "uncertainty"},
        },
        "multi-layer": {
            ("flip", here, "max"): {},
            **{
                ("flip", f"{name}, {by}", "max"): {
                    "layers": [decoder[i] for i in numbers if i < len(decoder)],
                    "combine": by,
                }
                for name, numbers in SETS.items()
                for by in ("std", "max", "mean")
            },
        },
    }[table]
    return {
        setting: grumo_jax.GradientUncertainty.paper(model, **{"layers": chosen, **changes})
        for setting, changes in options.items()
    }


def names_of(grid):
    return list(itertools.product(*grid.axes().values()))


def told(estimator, variables):
    """What an estimator does, however it was written down."""
    layers = estimator.layer_names(variables, IMAGES)
    return (
        layers,
        estimator.used_references,
        estimator.loss,
        estimator.space,
        estimator.reduction,
        estimator.combine if len(layers) > 1 else None,
        estimator.uncertainty_weight,
    )


@pytest.mark.parametrize("table", PRESETS)
def test_the_settings_are_the_papers(tiny, table):
    model, variables = tiny
    grid = preset_grid(table, model, variables, IMAGES)
    found = dict(zip(names_of(grid), grid.estimators(model), strict=True))
    expected = papers_settings(table, model, variables)
    assert list(found) == list(expected)
    for setting, estimator in found.items():
        assert told(estimator, variables) == told(expected[setting], variables), setting


@pytest.mark.parametrize(
    "table",
    [
        "layers",
        *(pytest.param(t, marks=pytest.mark.slow) for t in ("reductions", "references", "losses")),
    ],
)
def test_the_numbers_are_those_of_the_estimators(small, sparse_photos, tmp_path, table):
    network, variables = small
    options = {
        "protocol": Protocol("test", limit_truth=True, crop=None, size=SIZE),
        "devices": jax.devices()[:1],
    }
    grid = preset_grid(table, network, variables, IMAGES)
    ablated = ablate(grid, network, variables, sparse_photos, tmp_path / "a.jsonl", **options)
    estimators = {str(k): e for k, e in papers_settings(table, network, variables).items()}
    evaluated = evaluate(estimators, variables, sparse_photos, tmp_path / "e.jsonl", **options)
    rows = list(zip(ablated.rows(), evaluated.rows(), strict=True))
    assert len(rows) == len(sparse_photos)
    for row, other in rows:
        for area, metric in itertools.product(("ause", "aurg"), ("abs_rel", "rmse", "a1")):
            found = np.ravel(row[area][metric])
            expected = [
                other["estimators"][str(setting)][area][metric] for setting in names_of(grid)
            ]
            np.testing.assert_allclose(found, expected, atol=2e-4, rtol=2e-4)


def test_mistakes_are_named(small):
    network, variables = small
    with pytest.raises(GrumoError, match="preset is 'table'; it must be one of 'layers', 'reduct"):
        preset_grid("table", network, variables, IMAGES)
    with pytest.raises(LayerError, match="there is no decoder layer 4; the decoder's layers are 0"):
        preset_grid("multi-layer", network, variables, IMAGES)


def test_without_log_sigma_there_is_no_weight_to_choose(small):
    network = dataclasses.replace(small[0], log_sigma=None)
    grid = preset_grid("losses", network, small[1], IMAGES)
    assert grid.axes()["signals"] == list(LOSSES)
    assert {signal.uncertainty_weight for signal in grid.signals} == {0.0}
