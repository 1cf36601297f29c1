import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import grumo_jax
from grumo_jax.training import geometry

HEIGHT, WIDTH = 48, 96
INTRINSICS = np.array([[60.0, 0, 47.5], [0, 62.0, 20.0], [0, 0, 1]])
ROTATION, TRANSLATION = np.array([0.01, -0.02, 0.015]), np.array([0.2, 0.05, -0.4])


transform_matrix = jax.jit(geometry.transform_matrix, static_argnames="invert")
back_project, project = jax.jit(geometry.back_project), jax.jit(geometry.project)


def batch_of(array):
    return jnp.asarray(array, jnp.float32)[None]


def motion(rotation=ROTATION, translation=TRANSLATION, **options):
    return transform_matrix(batch_of(rotation), batch_of(translation), **options)


def render(rotation=(0, 0, 0), translation=(0, 0, 0)):
    """A wall at z = 8 and a sloping floor, coloured by place: picture and depth, in closed form.

    The motion leads from the world, which is the target camera's space, to the camera.
    """
    turn = Rotation.from_rotvec(rotation).as_matrix()
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(INTRINSICS).T @ turn
    position = -turn.T @ np.asarray(translation)
    # Planes n·x = c: their distance along a ray whose z is 1 in the camera is the depth.
    depths = []
    for normal, offset in ((np.array([0, 0, 1.0]), 8.0), (np.array([0.1, 1.0, 0.05]), 1.8)):
        along = (offset - position @ normal) / (rays @ normal)
        depths.append(np.where(along > 0, along, np.inf))
    depth = np.minimum(*depths)
    points = position + depth[..., None] * rays
    waves = points @ np.array([[1.1, 0.4, -0.7], [0.3, -0.9, 0.8], [0.5, 0.7, 0.4]])
    return batch_of(0.5 + 0.4 * np.sin(waves)), batch_of(depth)


def test_rotations_are_those_of_scipy():
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    vectors *= np.array([1e-4, 0.05, 0.0999, 0.1001, 1, 3])[:, None]
    matrices = transform_matrix(jnp.asarray(vectors, jnp.float32), jnp.ones((6, 3)))
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(matrices[:, :3, :3], expected, atol=5e-7)
    np.testing.assert_array_equal(matrices[:, :3, 3], 1)
    np.testing.assert_array_equal(matrices[:, 3], [[0, 0, 0, 1]] * 6)
    assert matrices.dtype == jnp.float32


def test_inverse_motion_undoes_the_motion():
    both = np.asarray(motion(invert=True)[0], float) @ np.asarray(motion()[0], float)
    np.testing.assert_allclose(both, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("invert", [False, True])
def test_gradient_without_rotation_is_that_of_a_cross_product(invert):
    def moved(vector):
        matrix = geometry.transform_matrix(vector[None], jnp.zeros((1, 3)), invert=invert)
        return jnp.sum(matrix[0, :3, :3] * point[None], axis=-1)

    point = jnp.array([1.0, 2.0, 3.0])
    slope = jax.jit(jax.jacobian(moved))(jnp.zeros(3))
    cross = np.array([[0, 3, -2], [-3, 0, 1], [2, -1, 0]])
    np.testing.assert_allclose(slope, -cross if invert else cross, atol=1e-6)


def test_gradient_of_rotations_is_right_on_both_sides_of_the_series():
    def entry(size):
        vector = size * jnp.array([[0.6, 0.0, 0.8]])
        return geometry.transform_matrix(vector, jnp.zeros((1, 3)))[0, 0, 1]

    slope = jax.jit(jax.grad(entry))
    for size in (0.0, 0.09, 0.11, 2.0):
        np.testing.assert_allclose(slope(jnp.float32(size)), -0.8 * np.cos(size), rtol=1e-4)


def test_points_worked_out_by_hand():
    intrinsics = batch_of([[2.0, 0, 1], [0, 4.0, 0], [0, 0, 1]])
    points = back_project(batch_of([[2.0, 2, 2], [8, 8, 8]]), intrinsics)
    np.testing.assert_allclose(points[0, 0], [[-1, 0, 2], [0, 0, 2], [1, 0, 2]])
    np.testing.assert_allclose(points[0, 1, 2], [4, 2, 8])
    grid = project(points, intrinsics, motion((0, 0, 0), (0, 0, 0)))
    np.testing.assert_allclose(grid[0, 1], [[0, 1], [1, 1], [2, 1]], atol=1e-6)
    moved = project(points, intrinsics, motion((0, 0, 0), (1, 1, 2)))
    np.testing.assert_allclose(moved[0, 0, 2], [2 * 2 / 4 + 1, 4 * 1 / 4])


def test_points_behind_the_camera_have_finite_coordinates_and_gradients():
    points = jnp.array([[[[1.0, 1, -1], [0, 0, 0], [-5, 2, 1e-9], [1e4, 1, 1e-3]]]])

    def total(points, transform):
        coordinates = geometry.project(points, batch_of(INTRINSICS), transform)
        return jnp.sum(geometry.sample_bilinear(jnp.ones((1, 4, 4, 3)), coordinates)), coordinates

    still = motion((0, 0, 0), (0, 0, 0))
    gradient = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    gradients, coordinates = gradient(points, still)
    assert np.all(np.isfinite(coordinates))
    assert all(np.all(np.isfinite(g)) for g in gradients)
    assert coordinates[0, 0, 0, 0] > WIDTH
    assert coordinates[0, 0, 2, 0] < 0


def sample_in_float64(image, x, y):
    height, width, _ = image.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - u) + image[top, right] * u
    lower = image[low, left] * (1 - u) + image[low, right] * u
    return upper * (1 - v) + lower * v


@pytest.mark.parametrize("size", [(5, 7), (1, 7), (5, 1)])
def test_sampling_is_that_of_an_oracle_in_float64(size):
    rng = np.random.default_rng(1)
    images, places = rng.random((2, *size, 3)), rng.uniform(-3, 9, (2, 4, 6, 2))
    places[0, 0] = [[0, 0], [6, 4], [3, 2], [5.5, 0], [-2, 1.5], [6, 9]]
    result = jax.jit(geometry.sample_bilinear)(
        *(jnp.asarray(a, jnp.float32) for a in (images, places))
    )
    for i in range(2):
        expected = sample_in_float64(images[i], places[i, ..., 0], places[i, ..., 1])
        np.testing.assert_allclose(result[i], expected, atol=2e-6)


def test_gradient_of_sampling_is_the_slope_and_flows_into_coordinates_only():
    rng = np.random.default_rng(2)
    images, weights = rng.random((1, 5, 7, 3)), rng.random((1, 4, 6, 3))
    # Away from whole numbers, where the slope jumps.
    places = rng.integers(-2, 8, (1, 4, 6, 2)) + rng.uniform(0.1, 0.9, (1, 4, 6, 2))

    def total(images, places):
        return jnp.sum(geometry.sample_bilinear(images, places) * jnp.float32(weights))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))
    to_image, to_places = gradient(jnp.float32(images), jnp.float32(places))
    assert np.all(np.asarray(to_image) == 0)
    step = 1e-6
    for axis in range(2):
        values = []
        for sign in (1, -1):
            x, y = np.moveaxis(places[0] + sign * step * np.eye(2)[axis], -1, 0)
            values.append(np.sum(sample_in_float64(images[0], x, y) * weights[0], axis=-1))
        slope = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(to_places[0, ..., axis], slope, atol=1e-5)
        outside = (places[0, ..., axis] < 0) | (places[0, ..., axis] > (6, 4)[axis])
        assert np.all(np.asarray(to_places)[0, ..., axis][outside] == 0)


@jax.jit
def reproject(depth, intrinsics, transform):
    points = geometry.back_project(depth, intrinsics)
    return geometry.project(points, intrinsics, transform)


def near_the_crease(depth):
    """Within two pixels of where wall and floor meet: 1 / depth is linear on each of them."""
    bend = np.abs(np.diff(1 / np.asarray(depth, float), n=2, axis=0, prepend=0, append=0)) > 1e-5
    bend[[0, -1]] = False
    return np.any([np.roll(bend, shift, axis=0) for shift in range(-2, 3)], axis=0)


def test_true_depth_and_motion_give_the_view_and_wrong_ones_do_not():
    target, depth = render()
    source, _ = render(ROTATION, TRANSLATION)
    intrinsics = batch_of(INTRINSICS)
    x, y = np.moveaxis(np.asarray(reproject(depth, intrinsics, motion()))[0], -1, 0)
    visible = (x > 0) & (x < WIDTH - 1) & (y > 0) & (y < HEIGHT - 1) & ~near_the_crease(depth[0])
    assert visible.mean() > 0.7

    def error(depth, transform):
        warped = jax.jit(geometry.warp)(source, depth, intrinsics, transform)
        return np.abs(np.asarray(warped - target))[0][visible]

    right = error(depth, motion())
    assert right.max() < 1e-2
    assert right.mean() < 1e-3
    assert error(depth, motion(invert=True)).mean() > 100 * right.mean()
    assert error(depth, motion(translation=-TRANSLATION)).mean() > 50 * right.mean()
    assert error(1.3 * depth, motion()).mean() > 10 * right.mean()


def test_stereo_camera_to_the_right_sees_things_further_left():
    offset = 0.54
    depth = jnp.full((2, HEIGHT, WIDTH), 10 / geometry.STEREO_SCALE)
    transform = geometry.stereo_motion(jnp.array([offset, -offset]))
    seen = reproject(depth, jnp.repeat(batch_of(INTRINSICS), 2, axis=0), transform)
    shift = 60 * offset / 10
    np.testing.assert_allclose(seen[0, :, :, 0], seen[1, :, :, 0] - 2 * shift, atol=1e-4)
    np.testing.assert_allclose(seen[0, 3, :, 0], np.arange(WIDTH) - shift, atol=1e-4)


def test_motions_lead_from_the_target_to_frames_before_and_after():
    """A camera that drives on along a straight line at one unit a frame."""
    times = {"previous": 0.0, "image": 1.0, "following": 2.0}
    inputs = {name: jnp.full((2, 4, 4, 3), time) for name, time in times.items()}

    def drive(first, second):
        # Points come nearer by what the camera drives.
        passed = jnp.mean(second - first, axis=(1, 2, 3))
        zero = jnp.zeros_like(passed)
        return jnp.stack([zero, zero, zero, zero, zero, -passed], axis=-1)

    motions = geometry.predict_motions(drive, inputs)
    assert set(motions) == {"previous", "following"}
    np.testing.assert_allclose(motions["previous"][:, 2, 3], 1)
    np.testing.assert_allclose(motions["following"][:, 2, 3], -1)
    with pytest.raises(grumo_jax.GrumoError, match="three frames; missing: following"):
        geometry.predict_motions(drive, {"previous": inputs["previous"], "image": inputs["image"]})


def test_images_of_a_batch_do_not_mix():
    rng = np.random.default_rng(3)
    source = jnp.float32(rng.random((2, 6, 8, 3)))
    depth = jnp.float32(rng.uniform(1, 4, (2, 6, 8)))
    intrinsics = jnp.repeat(batch_of([[5.0, 0, 3], [0, 5, 2], [0, 0, 1]]), 2, axis=0)
    poses = jnp.float32(rng.normal(0, 0.1, (2, 6)))
    arguments = source, depth, intrinsics, transform_matrix(poses[:, :3], poses[:, 3:])
    warp = jax.jit(geometry.warp)
    together = warp(*arguments)
    alone = [warp(*(a[i : i + 1] for a in arguments))[0] for i in range(2)]
    mapped = jax.jit(jax.vmap(lambda *a: geometry.warp(*(x[None] for x in a))[0]))(*arguments)
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)
    np.testing.assert_allclose(mapped, np.stack(alone), atol=1e-6)
