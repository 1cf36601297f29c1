"""A network that is not of our making, with real weights, on real KITTI frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from pydnet import NETWORK, load_pydnet

import grumo_jax
from grumo_jax.data.kitti import read_calibration, read_scan, velodyne_depth

FRAMES = (0, 16, 32, 48)


@pytest.fixture(scope="module")
def network():
    return NETWORK


@pytest.fixture(scope="module")
def weights(shared):
    return load_pydnet(shared("real", "pydnet_kitti", "weights.npz"))


@pytest.fixture(scope="module")
def drive(shared):
    return shared("real", "kitti_raw", "2011_09_26")


@pytest.fixture(scope="module")
def photos(drive):
    folder = drive / "2011_09_26_drive_0009_sync" / "image_02" / "data"
    return [grumo_jax.read_image(folder / f"{frame:010d}.jpg") for frame in FRAMES]


@pytest.fixture(scope="module")
def kitti(photos):
    resized = [Image.fromarray(p).resize((640, 192), Image.Resampling.LANCZOS) for p in photos]
    return jnp.asarray(np.stack(resized), jnp.float32) / 255


def scanned_depth(drive, frame):
    file = drive / "2011_09_26_drive_0009_sync" / "velodyne_points" / "data" / f"{frame:010d}.bin"
    return velodyne_depth(read_scan(file), read_calibration(drive))


@pytest.mark.slow
def test_check_value(network, weights, drive, photos):
    predictor = grumo_jax.Predictor(
        grumo_jax.PostProcessing(network), weights, size=(192, 640), batch_size=4
    )
    # Post's depth is blended; its check value is that of the plain network or better.
    errors = []
    for frame, prediction in zip(FRAMES, predictor.predict(photos), strict=True):
        truth = scanned_depth(drive, frame)
        rows, columns = truth.shape
        crop = np.zeros_like(truth, bool)
        crop[
            int(0.40810811 * rows) : int(0.99189189 * rows),
            int(0.03594771 * columns) : int(0.96405229 * columns),
        ] = True
        valid = crop & (truth > 1e-3) & (truth < 80)
        true, predicted = truth[valid], prediction.depth[valid]
        predicted = np.clip(predicted * np.median(true) / np.median(predicted), 1e-3, 80)
        ratio = np.maximum(true / predicted, predicted / true)
        errors.append((np.mean(np.abs(true - predicted) / true), np.mean(ratio < 1.25)))
    abs_rel, a1 = np.mean(errors, axis=0)
    assert abs_rel == pytest.approx(0.14, abs=0.005)
    assert a1 == pytest.approx(0.82, abs=0.015)


@pytest.mark.slow
def test_any_layer_and_any_reference(network, weights, kitti):
    references = (
        grumo_jax.Flip(),
        grumo_jax.Gray(),
        grumo_jax.Noise(),
        grumo_jax.Rotate(),
        grumo_jax.FeatureDropout(),
        grumo_jax.FeatureNoise(),
    )
    estimator = grumo_jax.GradientUncertainty.averaged(network, references=references)
    estimate = estimator(weights, kitti[:1], jax.random.key(0))
    layers = grumo_jax.choose_layers(network, weights, kitti[:1], "decoder")
    assert set(estimate.layer_scores) == set(layers)
    assert "deconv_2#3" in layers
    for scores in estimate.layer_scores.values():
        assert scores.shape[0] == len(references)
        assert np.all(np.isfinite(scores))
        assert np.all(scores.max(axis=(1, 2, 3)) > 0)


@pytest.mark.slow
def test_inference_dropout(network, weights, kitti):
    estimate = grumo_jax.InferenceDropout(network, samples=3)(weights, kitti[:1], jax.random.key(0))
    assert 0 < estimate.uncertainty.mean() < 1


def test_gradient_ranks_errors_better_than_chance(network, weights, drive, kitti, photos):
    """Grad's most uncertain pixels err more than its most certain ones."""
    estimator = grumo_jax.GradientUncertainty(network, reduction="norm")
    truth = scanned_depth(drive, 0)
    predictor = grumo_jax.Predictor(estimator, weights, size=(192, 640))
    prediction = predictor(photos[0])
    valid = (truth > 1e-3) & (truth < 80)
    true, predicted = truth[valid], prediction.depth[valid]
    predicted = predicted * np.median(true) / np.median(predicted)
    error = np.abs(true - predicted) / true
    uncertainty = prediction.uncertainty[valid]
    high = uncertainty > np.median(uncertainty)
    assert error[high].mean() > 1.2 * error[~high].mean()


def test_a_layer_called_several_times_is_explained(network, weights, kitti):
    with pytest.raises(grumo_jax.GrumoError, match="called 5 times; name one call: 'deconv_2#0'"):
        grumo_jax.GradientUncertainty(network, layers="deconv_2")(weights, kitti[:1])
