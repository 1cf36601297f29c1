"""Evaluation within regions: from masks of samples to rows, means and tables."""

import dataclasses

import numpy as np
import pytest

import grumo_jax
from grumo_jax.data import Sample
from grumo_jax.evaluation import Protocol, evaluate
from grumo_jax.report import summarize
from grumo_jax.report.summary import FEWEST
from grumo_jax.report.tables import make_tables

# Not scaled by the median, which is of all pixels.
METRES = Protocol("test", scale=2.0, limit_truth=True, crop=None, bands=(0.0, 10.0, 40.0))


@pytest.mark.slow
def test_a_region_is_evaluated_as_if_nothing_else_were_known(small, images, tmp_path):
    network, variables = small
    rng = np.random.default_rng(3)
    shape = images.shape[1:3]
    depth = rng.uniform(2, 40, shape).astype(np.float32)
    inside = rng.random(shape) < 0.3
    few = np.arange(inside.size).reshape(shape) < FEWEST - 1
    regions = {"moving": inside, "nowhere": np.zeros(shape, bool), "few": few}
    sample = Sample("a", np.uint8(255 * np.asarray(images[0])), depth, regions=regions)
    estimators = {"post": grumo_jax.PostProcessing(network)}

    def row(sample):
        results = evaluate(
            estimators,
            variables,
            Listed([sample]),
            tmp_path / f"{sample.id}.jsonl",
            protocol=METRES,
            size=shape,
        )
        return next(iter(results.rows()))["estimators"]["post"]

    found = row(sample)["regions"]
    alone = row(dataclasses.replace(sample, id="b", depth=np.where(inside, depth, 0), regions=None))
    assert "regions" not in alone
    assert found["moving"]["pixels"] == alone["pixels"] > 100
    for kind in ("errors", "ause", "aurg"):
        for metric, value in found["moving"][kind].items():
            assert value == pytest.approx(alone[kind][metric], rel=1e-4)
    assert found["nowhere"]["pixels"] == 0
    means = summarize(tmp_path / "a.jsonl").estimators["post"]
    # Rows have regions of any size, means do not.
    assert found["few"]["pixels"] == FEWEST - 1
    counted = {name: part.images for name, part in means.regions.items()}
    assert counted == {"moving": 1, "nowhere": 0, "few": 0}
    moving = means.regions["moving"].means["ause.rmse"]
    assert moving == pytest.approx(alone["ause"]["rmse"], rel=1e-4)
    tables = {table.name: table for table in make_tables([summarize(tmp_path / "a.jsonl")])}
    header, line = tables["regions_rmse"].to_csv().splitlines()[:2]
    cells = dict(zip(header.split(","), line.split(","), strict=True))
    assert float(cells["ause.rmse@moving"]) == moving


class Listed:
    """Samples that are in memory already."""

    name, missing, fingerprint, crop, has_depth = "listed", (), "0", None, True

    def __init__(self, samples):
        self._samples = samples

    @property
    def ids(self):
        return tuple(sample.id for sample in self._samples)

    def __len__(self):
        return len(self._samples)

    def __getitem__(self, index):
        return self._samples[index]
