"""Clips of the synthetic world: motion, stereo, reflections, and the data set made of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from grumo_jax import synthetic
from grumo_jax.data import open_source, prepare
from grumo_jax.errors import DataError
from grumo_jax.synthetic import source as world
from grumo_jax.synthetic.scene import groups, solids
from grumo_jax.synthetic.source import SyntheticWorld, intrinsics, regions
from grumo_jax.synthetic.take import BASELINE, INTERVAL, beside
from grumo_jax.training.geometry import back_project, project, warp

SIZE = (48, 160)
EVENLY = {"noise": jnp.float32(0), "drift": jnp.float32(0), "flicker": jnp.float32(0)}
"""A sensor that adds nothing."""
shoot = partial(synthetic.shoot, size=SIZE)


@pytest.fixture(scope="module")
def take():
    """A street without sensor noise in which nothing moves and nothing is mirrored."""
    taken = SyntheticWorld("street/train").take(4)
    scene = taken.scene

    def dull(group):
        return group.replace(gloss=0 * group.gloss, velocity=0 * group.velocity)

    boxes, cylinders, ellipsoids = map(dull, groups(scene))
    scene = scene.replace(
        boxes=boxes,
        cylinders=cylinders,
        ellipsoids=ellipsoids,
        ground=scene.ground.replace(wetness=jnp.float32(0)),
    )
    return taken.replace(scene=scene, sensor=synthetic.Sensor(**EVENLY))


def matrix(take):
    return jnp.asarray(intrinsics(take.camera, SIZE))[None]


def seen_by_both(target, source, take, motion):
    """Pixels whose point the source sees as well, by comparing its depth there."""
    points = back_project(target.depth[None], matrix(take))
    there = project(points, matrix(take), motion[None])[0]
    height, width = SIZE
    inside = (there >= 1).all(-1) & (there[..., 0] < width - 2) & (there[..., 1] < height - 2)
    x, y = (np.clip(np.rint(np.asarray(there[..., i])), 0, n - 1) for i, n in enumerate(SIZE[::-1]))
    found = np.asarray(source.depth)[y.astype(int), x.astype(int)]
    moved = points[0] @ motion[:3, :3].T + motion[None, None, :3, 3]
    near = np.abs(found / np.maximum(np.asarray(moved[..., 2]), 0.1) - 1) < 0.05
    return np.asarray(inside & (target.depth > 0) & (target.depth < 60)) & near


@pytest.mark.parametrize("other", ["previous", "following", "stereo"])
@pytest.mark.slow
def test_true_depth_and_motion_reproduce_the_target(take, other):
    here = synthetic.camera_at(take, 0.0)
    time = {"previous": -0.1, "following": 0.1, "stereo": 0.0}[other]
    offset = 0.54 if other == "stereo" else 0.0
    there = beside(synthetic.camera_at(take, time), offset)
    target, source = shoot(take, 0.0), shoot(take, time, offset=offset)
    motion = synthetic.motion(here, there)
    both = seen_by_both(target, source, take, motion)
    assert both.mean() > 0.3

    def error(motion):
        warped = warp(source.image[None], target.depth[None], matrix(take), motion[None])[0]
        return float(jnp.abs(warped - target.image)[both].mean())

    still = float(jnp.abs(source.image - target.image)[both].mean())
    wrong = motion.at[:3, 3].multiply(-1)
    # What is left is the texture that is finer than the pixels.
    assert error(motion) < 0.02
    assert error(motion) < 0.5 * still
    assert error(motion) < 0.4 * error(wrong)


def test_motion_to_the_right_and_ahead():
    ahead = synthetic.make_camera().replace(position=jnp.array([2.0, -1.5, 3.0]))
    motion = synthetic.motion(synthetic.make_camera(height=1.5), ahead)
    np.testing.assert_allclose(motion[:3, 3], [-2, 0, -3], atol=1e-6)
    right = beside(synthetic.make_camera(yaw=0.3), 0.54)
    motion = synthetic.motion(synthetic.make_camera(yaw=0.3), right)
    np.testing.assert_allclose(motion[:3, 3], [-0.54, 0, 0], atol=1e-6)
    np.testing.assert_allclose(motion[:3, :3], np.eye(3), atol=1e-6)


def only(one, group):
    """A group of the same size with only one solid; what is as large is compiled only once."""

    def put(many, one):
        many = np.array(many)
        many[:1] = one
        return many

    return jax.tree.map(put, group.replace(active=np.zeros_like(group.active)), one)


def nothing(group):
    return group.replace(active=np.zeros_like(group.active))


def standing(take):
    """The camera does not move, and neither sways."""
    trip = take.trip.replace(velocity=jnp.zeros(3), sway=jnp.zeros((2, 3)))
    return take.replace(trip=trip)


def test_solids_move_with_their_velocity(take):
    ball = solids(
        0.5, 1.0, 10.0, (2.0, 2.0, 2.0), colour=jnp.full((1, 3), 0.5), velocity=[[1.0, 0.0, 5.0]]
    )
    scene = take.scene.replace(
        boxes=nothing(take.scene.boxes),
        cylinders=nothing(take.scene.cylinders),
        ellipsoids=only(ball, take.scene.ellipsoids),
    )
    take = standing(take).replace(scene=scene, camera=synthetic.make_camera(height=2.0))
    for time in (0.0, 0.4):
        frame = shoot(take, time)
        # The ball is at the camera's height: its nearest point is a radius before its middle.
        nearest = frame.depth[frame.moving].min()
        np.testing.assert_allclose(nearest, 9 + 5 * time, rtol=5e-3)
        columns = np.flatnonzero(np.asarray(frame.moving).any(axis=0))
        middle = (columns.mean() + 0.5) / SIZE[1] - 0.5
        np.testing.assert_allclose(middle, 0.58 * (0.5 + time) / (10 + 5 * time), atol=6e-3)
    # The ground does not move, nor does the sky.
    assert not frame.moving[0].any()
    assert not frame.moving[-1].any()


def mirror_scene(take, gloss):
    """A wall of 2 m × 2 m, 6 m ahead, before and above an empty floor."""
    wall = solids(
        0.0, 0.0, 6.5, (2.0, 2.0, 1.0), colour=jnp.full((1, 3), 0.1), gloss=gloss, contrast=0.0
    )
    scene = take.scene.replace(
        boxes=only(wall, take.scene.boxes),
        cylinders=nothing(take.scene.cylinders),
        ellipsoids=nothing(take.scene.ellipsoids),
    )
    light = scene.light.replace(
        colour=jnp.zeros(3),
        haze=jnp.float32(0),
        clouds=jnp.float32(0),
        exposure=jnp.full(3, 0.5, jnp.float32),
    )
    return scene.replace(
        light=light.replace(sky=jnp.ones((2, 3)), gamma=jnp.float32(1), tone=jnp.float32(0))
    )


@pytest.mark.slow
def test_a_mirror_shows_what_is_behind_the_camera(take):
    take = standing(take).replace(camera=synthetic.make_camera(height=1.0))
    scenes = [mirror_scene(take, gloss) for gloss in (0.0, 5.0)]
    plain, mirror = (shoot(take.replace(scene=scene), 0.0) for scene in scenes)
    wall = np.asarray(mirror.instance) == 0
    assert wall.sum() > 50
    assert not np.asarray(plain.reflection).any()
    np.testing.assert_array_equal(plain.depth, mirror.depth)
    np.testing.assert_array_equal(plain.image[~wall], mirror.image[~wall])
    # At a gloss of 5 a mirror that is looked at head-on reflects 60 % (5 · 0.12): above the
    # horizon that of a white sky, at half the exposure.
    row, column = 22, SIZE[1] // 2
    assert wall[row, column]
    expected = 0.4 * plain.image[row, column] + 0.6 * 0.5
    np.testing.assert_allclose(mirror.image[row, column], expected, rtol=0.01)
    assert mirror.reflection[row, column]


def untoned(take):
    light = take.scene.light.replace(tone=jnp.float32(0))
    return take.replace(scene=take.scene.replace(light=light))


@pytest.mark.slow
def test_sensor(take):
    first = shoot(take, 0.0)
    noisy = take.replace(sensor=synthetic.Sensor(**{**EVENLY, "noise": jnp.float32(0.02)}))
    again, other = shoot(noisy, 0.0), shoot(noisy, 0.1)
    np.testing.assert_array_equal(again.image, shoot(noisy, 0.0).image)
    grains = np.asarray(again.image - first.image)
    middle = (np.asarray(first.image) > 0.3) & (np.asarray(first.image) < 0.8)
    assert 0.005 < grains[middle].std() < 0.02
    # Another moment and the other camera have other grains, and the pair the same exposure.
    later = np.asarray(other.image - shoot(take, 0.1).image)
    right = np.asarray(shoot(noisy, 0.0, offset=0.54).image - shoot(take, 0.0, offset=0.54).image)
    assert abs(np.corrcoef(grains[middle], later[middle])[0, 1]) < 0.1
    assert abs(np.corrcoef(grains[middle], right[middle])[0, 1]) < 0.1
    flickering = take.replace(sensor=synthetic.Sensor(**{**EVENLY, "flicker": jnp.float32(0.3)}))
    changes = [
        np.median(
            shoot(untoned(flickering), 0.1, offset=o).image
            / shoot(untoned(take), 0.1, offset=o).image
        )
        for o in (0.0, 0.54)
    ]
    assert abs(changes[0] - 1) > 0.01
    assert changes[1] == pytest.approx(changes[0], rel=0.02)
    # One stop per second, half of one after half a second: light doubles with each.
    drifting = take.replace(sensor=synthetic.Sensor(**{**EVENLY, "drift": jnp.float32(-1)}))
    before, after = (np.asarray(shoot(untoned(take), 0.5).image) for take in (take, drifting))
    dim = (before > 0.1) & (before < 0.9)
    np.testing.assert_allclose((after / before)[dim], 2 ** (-0.5 / 2.2), rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["street", "room"])
def test_samples(kind):
    source = SyntheticWorld(f"{kind}/val", size=(32, 64), number=2)
    sample = source[1]
    assert sample.id == f"{kind}_val_000001"
    for name in ("image", "previous", "following", "stereo"):
        picture = getattr(sample, name)
        assert picture.shape == (32, 64, 3)
        assert picture.dtype == np.uint8
    assert sample.depth.dtype == np.float32
    assert sample.stereo_offset == np.float32(BASELINE[kind])
    assert {mask.shape for mask in sample.regions.values()} == {(32, 64)}
    step = np.linalg.norm(sample.motions["following"][:3, 3]) / INTERVAL[kind]
    assert 0.02 < step < (14 if kind == "street" else 1)
    assert not np.array_equal(sample.image, source[0].image)
    np.testing.assert_array_equal(source[-1].depth, sample.depth)
    same = SyntheticWorld(f"{kind}/val", size=(32, 64), number=2)
    assert source.fingerprint == same.fingerprint
    assert source.fingerprint != SyntheticWorld(f"{kind}/val", number=2).fingerprint
    np.testing.assert_array_equal(same[1].following, sample.following)


def test_splits_share_no_scene():
    seeds = {
        (kind, int(SyntheticWorld(f"{kind}/{part}").take(i).scene.seed))
        for kind in ("street", "room")
        for part in ("train", "val", "test")
        for i in range(3)
    }
    assert len(seeds) == 18


@pytest.mark.slow
def test_streets_have_about_the_contrast_of_photos():
    """Below 0.02 the photometric error hardly tells good depth from bad (docs/training.md)."""
    source = SyntheticWorld("street/val", size=(64, 224), number=8)
    grey = np.stack([source[i].image for i in range(8)]).mean(axis=-1) / 255
    local = np.lib.stride_tricks.sliding_window_view(grey, (3, 3), axis=(1, 2)).std(axis=(-1, -2))
    # Photos of KITTI at this size: 0.036 to 0.042.
    assert 0.02 < np.median(local) < 0.045


@pytest.mark.slow
def test_the_world_is_the_one_of_its_version():
    """If this fails after a change of the renderer, raise `grumo_jax.synthetic.source.WORLD`."""
    means = []
    for kind in ("street", "room"):
        sample = SyntheticWorld(f"{kind}/test", number=1)[0]
        depth = np.minimum(sample.depth, 80)
        means.append([sample.image.mean(), depth.mean(), sample.regions["shadow"].mean()])
    assert world.WORLD == 4
    expected = [[164.89, 15.106, 0.0518], [139.40, 3.777, 0.0221]]
    np.testing.assert_allclose(means, expected, rtol=0.02)


@pytest.mark.slow
def test_prepared_clips_equal_rendered_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(world, "NUMBERS", {"train": 2, "val": 1, "test": 1})
    monkeypatch.setattr(world, "SIZES", {"street": SIZE, "room": SIZE})
    rendered = open_source("synthetic", tmp_path, "street/train")
    assert isinstance(rendered, SyntheticWorld)
    outcome = prepare("synthetic", "street", tmp_path, tmp_path)
    assert outcome.counts == {"train": 2, "val": 1, "test": 1}
    stored = open_source("synthetic", tmp_path, "street/train")
    assert not isinstance(stored, SyntheticWorld)
    assert stored.fingerprint == rendered.fingerprint
    a, b = stored[1], rendered[1]
    for name in ("image", "previous", "following", "stereo", "depth", "intrinsics"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.stereo_offset == b.stereo_offset
    for group in ("motions", "regions"):
        jax.tree.map(np.testing.assert_array_equal, getattr(a, group), dict(getattr(b, group)))
    monkeypatch.setattr(world, "WORLD", 0)
    with pytest.raises(DataError, match="rendered by another version of grumo_jax; render"):
        open_source("synthetic", tmp_path, "street/train")


def test_errors():
    with pytest.raises(DataError, match="no split 'forest/val'; there are: street/train"):
        SyntheticWorld("forest/val")
    with pytest.raises(DataError, match="0 clips of room/val; expected 1 or more"):
        SyntheticWorld("room/val", number=0)


def test_regions_have_the_names_that_samples_use(take):
    from grumo_jax.data.sample import REGIONS

    assert tuple(regions(shoot(take, 0.0))) == REGIONS
