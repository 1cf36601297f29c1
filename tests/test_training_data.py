"""What a training is fed with, and what it is watched by."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from training_runs import (
    SETTINGS,
    TINY,
    Fake,
    Small,
    begin,
)

from grumo_jax.data import at_most
from grumo_jax.errors import DataError
from grumo_jax.training.feeding import Fit, feed, resize_intrinsics
from grumo_jax.training.settings import Settings
from grumo_jax.training.validation import Validation

pytestmark = pytest.mark.usefixtures("small_networks")


# Data


def number_of(sample):
    return {"id": np.int64(sample.id.split()[1])}


def test_the_order_depends_on_the_seed_and_can_be_taken_up():
    def ids(seed, start=0, damaged=(), told=None):
        report = (lambda s: None) if told is None else told.append
        options = {"seed": seed, "start": start, "workers": 0, "report": report}
        fed = feed(Fake(damaged=damaged), number_of, 4, **options)
        return [(batch.arrays["id"].tolist(), batch.position) for batch in itertools.islice(fed, 6)]

    whole = ids(3)
    assert whole == ids(3)
    assert whole != ids(4)
    assert ids(3, start=whole[1][1])[:4] == whole[2:]
    assert sorted([i for batch, _ in whole for i in batch][:10]) == list(range(10))
    told = []
    damaged = ids(3, damaged=(0, 7), told=told)
    assert {0, 7}.isdisjoint([i for batch, _ in damaged for i in batch])
    assert sorted(told) == ["frame 0: damaged", "frame 7: damaged"]
    assert ids(3, start=damaged[1][1], damaged=(0, 7))[:4] == damaged[2:]


def test_sources_of_no_use_are_refused():
    settings = Settings("depth", **TINY)
    with pytest.raises(DataError, match=r"frame \d: has no depth, which this training needs"):
        next(feed(Fake(has_depth=False), Fit.of(settings), 4, seed=0, workers=0))
    with pytest.raises(DataError, match="no samples to train on"):
        next(feed(Fake(0), Fit.of(settings), 4, seed=0, workers=0))
    # Where all are of no use, one sentence is enough, and soon.
    told: list[str] = []
    with pytest.raises(DataError, match="not one of 100 samples can be used; frame"):
        next(
            feed(
                Fake(3000, has_depth=False),
                Fit.of(settings),
                4,
                seed=0,
                workers=0,
                report=told.append,
            )
        )
    assert told == []


def test_samples_are_fitted_to_the_network():
    sample = Fake()[0]
    arrays = Fit((64, 32), ("previous", "stereo"))(sample)
    assert {k: (v.shape, v.dtype.name) for k, v in arrays.items()} == {
        "image": ((64, 32, 3), "uint8"),
        "previous": ((64, 32, 3), "uint8"),
        "stereo": ((64, 32, 3), "uint8"),
        "intrinsics": ((3, 3), "float32"),
        "stereo_offset": ((), "float32"),
    }
    np.testing.assert_allclose(
        arrays["intrinsics"], [[20, 0, 15.5], [0, 80, 31.5], [0, 0, 1]], rtol=1e-6
    )
    same = Fit((32, 64), depth=True)(sample)
    assert same["image"] is sample.image
    np.testing.assert_array_equal(same["depth"], sample.depth)
    limit = np.float32(np.median(sample.depth))
    near = Fit((32, 64), depth=True, farthest=float(limit))(sample)["depth"]
    np.testing.assert_array_equal(near > 0, sample.depth <= limit)


def test_resized_cameras_see_the_same_points():
    camera = np.array([[40, 0, 20], [0, 50, 10], [0, 0, 1]], np.float32)
    resized = resize_intrinsics(camera, (32, 64), (48, 32))
    point = np.array([0.3, -0.2, 1])
    (x, y, _), (new_x, new_y, _) = camera @ point, resized @ point
    # Positions from the picture's corner scale with the picture.
    np.testing.assert_allclose(
        [(new_x + 0.5) / 32, (new_y + 0.5) / 48], [(x + 0.5) / 64, (y + 0.5) / 32]
    )


def test_chosen_samples_are_spread():
    chosen = at_most(Fake(10), 4)
    assert chosen.ids == ("frame 0", "frame 2", "frame 5", "frame 7")
    assert chosen[2].id == "frame 5"
    assert len(at_most(Fake(2), 4)) == 2


# Validation


def test_validation_scales_as_the_supervision_asks_for():
    settings = Settings("stereo", **TINY)
    state = begin(settings)
    measured = {
        supervision: Validation(settings.replace({"supervision": supervision}), Fake(4)).measure(
            state
        )
        for supervision in ("stereo", "mono")
    }
    images = jnp.stack([jnp.asarray(Fake()[i].image, jnp.float32) / 255 for i in range(4)])
    truth = jnp.stack([jnp.asarray(Fake()[i].depth) for i in range(4)])
    depth = Small(output="disparity").apply(state.variables, images).depth
    medians = jnp.median(truth, axis=(1, 2)) / jnp.median(depth, axis=(1, 2))
    for supervision, scale in (("stereo", 5.4), ("mono", medians[:, None, None])):
        error = jnp.mean(jnp.abs(depth * scale - truth) / truth)
        np.testing.assert_allclose(measured[supervision]["abs_rel"], error, rtol=1e-4)


def test_validation_leaves_out_images_without_valid_depth():
    class Partly(Fake):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return dataclasses.replace(sample, depth=sample.depth * (index != 1))

    state = begin(SETTINGS)
    expected = Validation(SETTINGS, Fake(4, damaged=(1,))).measure(state)
    assert Validation(SETTINGS, Partly(4)).measure(state) == expected
    with pytest.raises(DataError, match="nothing to validate on; no image has valid depth"):
        Validation(SETTINGS, Fake(4, depth=0.0)).check(state)


def test_without_ground_truth_the_loss_is_measured():
    settings = SETTINGS.replace({"base_model": "self"})
    state, teacher = begin(settings), Small()
    labels = begin(SETTINGS).variables
    measured = Validation(settings, Fake(6, has_depth=False), teacher).measure(state, labels)
    assert set(measured) == {"loss", "likelihood"}
    # The last batch is filled up.
    assert measured["loss"] == pytest.approx(measured["likelihood"])


def test_pictures_show_uncertainty_if_there_is_one():
    settings = Settings("depth", "log", **TINY)
    assert Validation(settings, Fake(2)).draw(begin(settings)).shape == (2 * 32, 3 * 64, 3)
