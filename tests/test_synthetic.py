"""The synthetic world: depth and shadows worked out by hand, and that frames are reproducible."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grumo_jax
from grumo_jax import synthetic
from grumo_jax.synthetic.render import NOTHING
from grumo_jax.synthetic.scene import solids

SIZE = (33, 65)
"""Odd: the middle pixel looks exactly along the optical axis."""
MIDDLE = (16, 32)
HEIGHT = 1.5
GROUND = 3
"""Index of the ground in `one_of_each`, which has three solids."""

render = partial(synthetic.render, size=SIZE)


@pytest.fixture(scope="module")
def one_of_each():
    """Function: a scene with at most one box, one cylinder, one ellipsoid, and the ground."""
    nothing = solids(0.0, 0.0, 0.0, (1.0, 1.0, 1.0), colour=jnp.full((1, 3), 0.5), active=False)
    street = synthetic.random_scene(jax.random.key(0))
    light = street.light.replace(
        position=jnp.array([0.0, -1e4, 0.0]), colour=jnp.ones(3), ambient=jnp.full(3, 0.2)
    )
    light = light.replace(exposure=jnp.ones(3), haze=jnp.float32(0))

    def make(ground=True, light=light, **groups):
        shapes = {"boxes": nothing, "cylinders": nothing, "ellipsoids": nothing} | groups
        plane = street.ground.replace(active=jnp.bool_(ground))
        return street.replace(ground=plane, light=light, **shapes)

    return make


def solid(x, bottom, z, size, **options):
    return solids(x, bottom, z, size, colour=jnp.full((1, 3), 0.5), **options)


def slopes(camera):
    """x/z and y/z of the pixels' rays in the camera's own axes, in float64."""
    height, width = SIZE
    focal = np.asarray(camera.focal, np.float64)
    x = ((np.arange(width) + 0.5) / width - 0.5) / focal[0]
    y = ((np.arange(height) + 0.5) / height - 0.5) / focal[1]
    return np.meshgrid(x, y)


@pytest.mark.slow
def test_ground_plane(one_of_each):
    camera = synthetic.make_camera(height=HEIGHT)
    frame = render(one_of_each(), camera)
    _, y = slopes(camera)
    below = np.arange(SIZE[0]) > MIDDLE[0]
    np.testing.assert_allclose(frame.depth[below], HEIGHT / y[below], rtol=1e-5)
    assert (frame.depth[~below] == 0).all()
    assert (frame.instance[below] == GROUND).all()
    assert (frame.instance[~below] == NOTHING).all()


def test_depth_is_along_the_optical_axis(one_of_each):
    camera = synthetic.make_camera(height=HEIGHT, pitch=-np.pi / 2)
    np.testing.assert_allclose(render(one_of_each(), camera).depth, HEIGHT, rtol=1e-5)


def test_sphere(one_of_each):
    camera = synthetic.make_camera(height=HEIGHT)
    ball = solid(0.0, HEIGHT - 2, 10.0, (4.0, 4.0, 4.0))
    frame = render(one_of_each(ground=False, ellipsoids=ball), camera)
    x, y = slopes(camera)
    # t·(x, y, 1) lies on the sphere of radius 2 around (0, 0, 10).
    a = x**2 + y**2 + 1
    square = 100 - a * 96
    truth = np.where(square > 0, (10 - np.sqrt(np.maximum(square, 0))) / a, 0)
    sure = np.abs(square) > 1e-2
    np.testing.assert_allclose(frame.depth[sure], truth[sure], rtol=1e-4)
    np.testing.assert_allclose(frame.depth[MIDDLE], 8, rtol=1e-6)
    assert frame.instance[MIDDLE] == 2


def test_box_and_cylinder(one_of_each):
    camera = synthetic.make_camera(height=HEIGHT)
    box = solid(0.0, 0.0, 10.0, (2.0, 3.0, 4.0))
    frame = render(one_of_each(ground=False, boxes=box), camera)
    x, y = slopes(camera)
    front = (np.abs(8 * x) < 0.99) & (np.abs(8 * y) < 1.49)
    outside = (np.abs(8 * x) > 1.01) | (np.abs(8 * y) > 1.51)
    assert front.sum() > 20
    np.testing.assert_allclose(frame.depth[front], 8, rtol=1e-6)
    assert (frame.depth[outside] == 0).all()

    turned = box.replace(yaw=jnp.full(1, np.pi / 2, jnp.float32))
    frame = render(one_of_each(ground=False, boxes=turned), camera)
    np.testing.assert_allclose(frame.depth[MIDDLE], 9, rtol=1e-6)

    post = solid(0.0, 0.0, 5.0, (1.0, 3.0, 1.0))
    frame = render(one_of_each(boxes=box, cylinders=post), camera)
    np.testing.assert_allclose(frame.depth[MIDDLE], 4.5, rtol=1e-6)
    assert frame.instance[MIDDLE] == 1


def test_walls_from_inside(one_of_each):
    camera = synthetic.make_camera(height=HEIGHT)
    room = solid(0.0, 0.0, 1.0, (6.0, 2.5, 8.0))
    frame = render(one_of_each(ground=False, boxes=room), camera)
    x, y = slopes(camera)
    with np.errstate(divide="ignore"):
        walls = np.minimum(5, 3 / np.abs(x))
        truth = np.minimum(walls, np.where(y > 0, HEIGHT, 2.5 - HEIGHT) / np.abs(y))
    np.testing.assert_allclose(frame.depth, truth, rtol=1e-5)


def test_shadow_of_a_slab_under_a_high_sun(one_of_each):
    # From 5 m up, straight down: the slab at 2 m casts a shadow of its own size on the ground.
    camera = synthetic.make_camera(height=5.0, pitch=-np.pi / 2, focal=(1.0, 2.0))
    light = one_of_each().light
    slanted = light.replace(position=jnp.array([1e4, -1e4, 0.0]))
    slab = solid(0.0, 2.0, 0.0, (1.0, 0.1, 1.0))
    x, y = slopes(camera)
    for lamp, shift in ((light, 0.0), (slanted, -2.05)):
        frame = render(one_of_each(boxes=slab, light=lamp), camera)
        ground = np.asarray(frame.instance == GROUND)
        away = np.maximum(np.abs(5 * x - shift), np.abs(5 * y))
        np.testing.assert_array_equal(frame.shadow[ground & (away < 0.4)], True)
        np.testing.assert_array_equal(frame.shadow[ground & (away > 0.6)], False)
        assert not frame.shadow[MIDDLE]
    dark, bright = (frame.image[ground & part].mean() for part in (away < 0.4, away > 0.6))
    assert dark < 0.7 * bright


def test_inactive_solids_are_not_seen(one_of_each):
    camera = synthetic.make_camera()
    ball = solid(0.0, 0.0, 5.0, (2.0, 2.0, 2.0), active=False)
    there, not_there = (render(one_of_each(**g), camera) for g in ({"ellipsoids": ball}, {}))
    jax.tree.map(np.testing.assert_array_equal, there, not_there)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["street", "room"])
def test_random_frames(kind):
    frames = [
        synthetic.random_frame(jax.random.key(s), kind=kind, size=(32, 64)) for s in (1, 1, 2)
    ]
    jax.tree.map(np.testing.assert_array_equal, frames[0], frames[1])
    assert not np.array_equal(frames[0].image, frames[2].image)
    for frame in frames[1:]:
        image, depth = np.asarray(frame.image), np.asarray(frame.depth)
        assert image.shape == (32, 64, 3)
        assert image.dtype == depth.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        assert image.std() > 0.03
        assert np.isfinite(depth).all()
        np.testing.assert_array_equal(depth > 0, np.asarray(frame.instance) != NOTHING)
        assert not frame.shadow[depth == 0].any()
        assert 1 < np.median(depth[depth > 0]) < (10 if kind == "room" else 80)
        if kind == "room":
            assert (depth > 0).all()


def test_an_unknown_kind_is_named():
    with pytest.raises(grumo_jax.GrumoError, match=r"kind is 'forest'.* 'street', 'room'"):
        synthetic.random_scene(jax.random.key(0), "forest")


@pytest.mark.slow
def test_vmap_changes_nothing(one_of_each):
    camera = synthetic.make_camera(height=HEIGHT, pitch=-0.1)
    ball = solid(-1.0, 0.0, 6.0, (2.0, 3.0, 2.0), yaw=0.5, grain=0.3)
    scenes = [one_of_each(boxes=solid(x, 0.5, 7.0, (1.0, 1.0, 1.0), yaw=x)) for x in (0.4, 1.0)]
    scenes = [scene.replace(ellipsoids=ball) for scene in scenes]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *scenes)
    mapped = jax.vmap(render, in_axes=(0, None))(stacked, camera)
    for i, scene in enumerate(scenes):
        alone, other = render(scene, camera), jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        np.testing.assert_allclose(other.depth, alone.depth, rtol=1e-5)
        np.testing.assert_array_equal(other.instance, alone.instance)
        # Rounding may move the edges of shadows and patterns by a pixel.
        assert (np.abs(other.image - alone.image).max(axis=-1) > 1e-3).mean() < 0.01
