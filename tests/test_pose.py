import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_variables

import grumo_jax
from grumo_jax.training.pose import PoseNetwork

MODEL = PoseNetwork(encoder_widths=(4, 4, 4, 8, 8), width=6)


@pytest.fixture(scope="module")
def variables(images):
    class OfTwoFrames:
        def init(self, key, images):
            return MODEL.init(key, images, images)

    return draw_variables(OfTwoFrames(), images)


def test_layers_are_those_of_the_paper(variables):
    params = variables["params"]
    assert params["encoder"]["conv1"]["kernel"].shape == (7, 7, 6, 4)
    shapes = {name: params[name]["kernel"].shape for name in params if name != "encoder"}
    assert shapes == {
        "squeeze": (1, 1, 8, 6),
        "conv1": (3, 3, 6, 6),
        "conv2": (3, 3, 6, 6),
        "pose": (1, 1, 6, 12),
    }


def test_poses_are_small_and_depend_on_the_order_of_time(variables, images):
    apply = jax.jit(MODEL.apply)
    poses = apply(variables, images, images[::-1])
    assert poses.shape == (3, 6)
    assert poses.dtype == jnp.float32
    assert 0 < np.abs(poses).max() < 0.5
    assert not np.allclose(poses, apply(variables, images[::-1], images), atol=1e-4)
    np.testing.assert_allclose(poses[1], apply(variables, images, images)[1], atol=1e-6)


def test_the_head_is_averaged_and_made_small(variables, images):
    head = {"kernel": jnp.zeros((1, 1, 6, 12)), "bias": jnp.arange(12.0)}
    changed = {**variables, "params": {**variables["params"], "pose": head}}
    poses = jax.jit(MODEL.apply)(changed, images, images)
    np.testing.assert_allclose(poses, [0.01 * np.arange(6)] * 3, rtol=1e-6)


def test_training_updates_statistics(variables, images):
    _, changed = jax.eval_shape(
        lambda v: MODEL.apply(v, images, images, train=True, mutable=["batch_stats"]), variables
    )
    assert set(changed) == {"batch_stats"}


def test_bfloat16_inside_gives_float32(variables, images):
    model = MODEL.clone(dtype=jnp.bfloat16)
    assert jax.eval_shape(model.apply, variables, images, images).dtype == jnp.float32


def test_frames_must_fit_together(variables, images):
    with pytest.raises(grumo_jax.GrumoError, match=r"shapes \(3, 32, 64, 3\) and \(2, 32, 64, 3\)"):
        MODEL.apply(variables, images, images[:2])
    with pytest.raises(grumo_jax.GrumoError, match="divide uint8 by 255"):
        MODEL.apply(variables, images.astype(jnp.uint8), images)
