"""The synthetic half of the demo, with a small network."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import grumo_jax
from grumo_jax.cli import showcase
from grumo_jax.data.sample import REGIONS
from grumo_jax.estimators import named_estimator
from grumo_jax.report.summary import FEWEST


@pytest.fixture
def scenes(small, monkeypatch):
    monkeypatch.setitem(showcase.SIZES, "street", (32, 64))
    network, variables = small
    estimator = named_estimator("post", network)
    return showcase.drive(grumo_jax.Predictor(estimator, variables), 2)


def test_a_drive_is_filmed_drawn_and_animated(scenes):
    first, second = scenes
    assert not np.array_equal(first.image, second.image)
    for scene in scenes:
        assert scene.image.dtype == np.uint8
        assert {a.shape for a in (scene.depth, scene.uncertainty, scene.moving)} == {(32, 64)}
        assert np.isfinite(scene.error).all()
    # The camera of this clip follows a car.
    assert first.moving.any()
    nothing_moves = showcase.DriveFrame(
        second.image, second.depth, second.uncertainty, second.error, np.zeros_like(second.moving)
    )
    figure = showcase.draw_drive([first, nothing_moves], "disparity")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert len(figure.axes) >= 8
    with Image.open(io.BytesIO(showcase.animate(scenes))) as animation:
        assert animation.n_frames == 2
        assert animation.size == (128, 128)


@pytest.mark.slow
def test_scores_are_those_of_held_out_streets(tiny, monkeypatch):
    monkeypatch.setitem(showcase.SIZES, "street", (32, 64))
    monkeypatch.setattr(showcase, "ESTIMATORS", ("post",))
    model, variables = tiny
    done = []
    table = showcase.score(model, variables, 2, lambda: done.append(1))
    assert len(done) == 2
    assert "abs_rel of 2 held-out streets" in table.title
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == ["post", "depth", "row"]
    assert all(ause >= 0 for ause, *_ in rows.values())


def test_small_regions_do_not_count():
    def of(pixels, aurg):
        part = SimpleNamespace(pixels=pixels, aurg={"abs_rel": aurg})
        whole = SimpleNamespace(ause={"abs_rel": 0.5}, aurg={"abs_rel": 0.25})
        regions = {name: (None, part) for name in REGIONS}
        return SimpleNamespace(sparsification=whole, regions=regions)

    large, small = of(FEWEST, 0.125), of(FEWEST - 1, 9.0)
    assert showcase._means([large, small]) == [0.5, 0.25, 0.125, 0.125, 0.125]
    assert np.isnan(showcase._means([small])[2:]).all()
