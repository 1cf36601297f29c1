"""The camera's motion by alignment: what it finds in made-up views, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_runs import ONE, TINY, Fake, rows, run

from grumo_jax.training import alignment
from grumo_jax.training.geometry import back_project, project, sample_bilinear, transform_matrix
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import Networks

SIZE = (48, 96)
align_views = jax.jit(alignment.align_views)
CAMERA = jnp.array([[[60.0, 0, 47.5], [0, 60.0, 20.0], [0, 0, 1]]])
WAY = (0.02, -0.01, -0.5)
TURN = (0.002, 0.008, -0.003)


def texture(seed=0):
    """A picture that is smooth enough for its slopes to hold over a pixel or two."""
    rng = np.random.default_rng(seed)
    coarse = jnp.float32(rng.random((1, *(n // 6 for n in SIZE), 3)))
    return jax.image.resize(coarse, (1, *SIZE, 3), "cubic").clip(0, 1)


def ground():
    """Depth of a plane below the camera, and a wall where it would be too far away."""
    below = (np.arange(SIZE[0], dtype=np.float32) - 20) / 60
    depth = np.minimum(1.65 / np.maximum(below, 1e-3), 15)
    return np.tile(depth[None, :, None], (1, 1, SIZE[1])).astype(np.float32)


def inverted(motion):
    return jnp.linalg.inv(motion)


@jax.jit
def views(depth, motion):
    """Pictures of which the middle one, of that depth, is what the others warp to.

    The others are made by the motion's inverse from a depth that is nearly theirs.
    """
    image = texture()
    pictures = {"image": image}
    for name, there in (("following", motion), ("previous", inverted(motion))):
        # Where each pixel of the other view comes from: iterated, as its depth is not known.
        ideal = project(back_project(jnp.ones((1, *SIZE)), CAMERA), CAMERA, jnp.eye(4)[None])

        def improve(_, found, ideal=ideal, there=there):
            here = sample_bilinear(depth[..., None], found)[..., 0]
            ray = (found - CAMERA[:, None, None, :2, 2]) / 60
            points = jnp.concatenate([ray * here[..., None], here[..., None]], axis=-1)
            return found + ideal - project(points, CAMERA, there)

        pictures[name] = sample_bilinear(image, jax.lax.fori_loop(0, 30, improve, ideal))
    return pictures


@pytest.fixture(scope="module")
def true():
    return jax.jit(transform_matrix)(jnp.array([TURN]), jnp.array([WAY]))


@pytest.fixture(scope="module")
def pictures(true):
    return views(ground(), true)


def angles(motion):
    return np.array([motion[2, 1], motion[0, 2], motion[1, 0]])


def test_motions_of_made_up_views_are_found(pictures, true):
    found = align_views(pictures, ground(), CAMERA, ahead=0.4)
    for name, expected in (("following", true), ("previous", inverted(true))):
        np.testing.assert_allclose(found[name][0, :3, 3], expected[0, :3, 3], atol=0.02)
        np.testing.assert_allclose(angles(found[name][0]), angles(expected[0]), atol=0.0015)
        rotation = found[name][0, :3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)


def test_the_way_is_in_the_unit_of_depth(pictures):
    metres = align_views(pictures, ground(), CAMERA, ahead=0.4)["following"]
    tenths = align_views(pictures, 10 * ground(), CAMERA, ahead=4.0)["following"]
    np.testing.assert_allclose(tenths[0, :3, 3], 10 * metres[0, :3, 3], rtol=0.02, atol=0.01)


def test_changes_of_exposure_are_no_motion(pictures):
    plain = align_views(pictures, ground(), CAMERA, ahead=0.4)["following"]
    darker = {**pictures, "following": 0.8 * pictures["following"] + 0.05}
    found = align_views(darker, ground(), CAMERA, ahead=0.4)["following"]
    np.testing.assert_allclose(found, plain, atol=0.02)


def test_things_that_move_by_themselves_hardly_count(pictures, true):
    other = texture(1)[:, 24:40, 30:50]
    changed = pictures["following"].at[:, 24:40, 30:50].set(other)
    found = align_views({**pictures, "following": changed}, ground(), CAMERA, ahead=0.4)
    assert found["following"][0, 2, 3] == pytest.approx(WAY[2], abs=0.06)


def test_equal_pictures_are_no_motion():
    pictures = dict.fromkeys(("previous", "image", "following"), texture())
    found = align_views(pictures, ground(), CAMERA, ahead=0.0)
    assert set(found) == {"previous", "following"}
    for motion in found.values():
        np.testing.assert_allclose(motion[0], np.eye(4), atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_where_nothing_is_seen_the_first_guess_stays(level):
    pictures = dict.fromkeys(("previous", "image", "following"), jnp.full((1, *SIZE, 3), level))
    found = align_views(pictures, ground(), CAMERA, ahead=0.3)
    np.testing.assert_allclose(found["following"][0, :3, 3], (0, 0, -0.3), atol=1e-4)
    np.testing.assert_allclose(found["previous"][0, :3, 3], (0, 0, 0.3), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_absurd_depth_gives_finite_motions(pictures, scale):
    found = align_views(pictures, scale * ground(), CAMERA, ahead=0.4)
    assert set(found) == {"previous", "following"}
    assert all(np.isfinite(motion).all() for motion in found.values())


def test_motions_are_constants(pictures):
    def way(depth):
        return jnp.sum(align_views(pictures, depth, CAMERA, ahead=0.4)["following"])

    assert not np.any(jax.jit(jax.grad(way))(ground()))


def test_images_of_a_batch_do_not_mix(pictures):
    still = dict.fromkeys(pictures, texture(1))
    both = {name: jnp.concatenate([pictures[name], still[name]]) for name in pictures}
    depth, cameras = np.concatenate([ground()] * 2), jnp.concatenate([CAMERA] * 2)
    alone = align_views(pictures, ground(), CAMERA, ahead=0.4)
    together = align_views(both, depth, cameras, ahead=0.4)
    assert set(together) == {"previous", "following"}
    for name, motion in together.items():
        np.testing.assert_allclose(motion[0], alone[name][0], atol=1e-4)


@pytest.mark.usefixtures("small_networks")
@pytest.mark.slow
def test_a_training_aligns_and_needs_no_pose_network(tmp_path):
    settings = Settings("mono", **TINY, motion="alignment", initial_motion=0.01, steps=2)
    assert Networks.of(settings).pose is None
    source = Fake(has_depth=False)
    run(tmp_path / "run", settings, source, validation=Fake(4, has_depth=False), devices=ONE)
    (measured,) = rows(tmp_path / "run" / "validation.csv")
    assert float(measured["photometric"]) > 0
    losses = [float(row["photometric"]) for row in rows(tmp_path / "run" / "log.csv")]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


def test_settings_say_where_motion_comes_from():
    assert Networks.of(Settings("mono", **TINY)).pose is not None
    assert Networks.of(Settings("mono_stereo", **TINY, motion="alignment")).pose is None
