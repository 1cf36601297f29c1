import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grumo_jax
from grumo_jax.training import Jitter, TrainingBatch, augment, geometry
from grumo_jax.training.augment import change_colors, mirror, zoom_and_rotate

KEY = jax.random.key(0)
SIZE, HEIGHT, WIDTH = 6, 12, 20


def draw(seed=0, views=("previous", "following", "stereo")):
    rng = np.random.default_rng(seed)
    pictures = {
        name: jnp.float32(rng.random((SIZE, HEIGHT, WIDTH, 3))) for name in ("image", *views)
    }
    intrinsics = np.array([[15.0, 0, 8], [0, 16, 5], [0, 0, 1]])
    return TrainingBatch(
        **pictures,
        intrinsics=jnp.float32(np.repeat(intrinsics[None], SIZE, axis=0)),
        stereo_offset=jnp.float32(rng.uniform(-1, 1, SIZE)),
        depth=jnp.float32(rng.uniform(1, 9, (SIZE, HEIGHT, WIDTH))),
    )


BATCH = draw()
ALL = jnp.ones(SIZE, bool)


mirrored = jax.jit(mirror)


@jax.jit
def views_of(batch, motion):
    """What the views look like from the image's camera: by motion, and by stereo."""
    stereo = geometry.stereo_motion(batch.stereo_offset)
    return tuple(
        geometry.warp(view, batch.depth, batch.intrinsics, transform)
        for view, transform in ((batch.following, motion), (batch.stereo, stereo))
    )


def test_mirrored_batches_keep_their_geometry():
    poses = jnp.float32(np.random.default_rng(1).normal(0, 0.1, (SIZE, 6)))
    motion = geometry.transform_matrix(poses[:, :3], poses[:, 3:])
    sides = jnp.diag(jnp.array([-1.0, 1, 1, 1]))[None]
    seen = views_of(mirrored(BATCH, ALL), sides @ motion @ sides)
    for result, expected in zip(seen, views_of(BATCH, motion), strict=True):
        np.testing.assert_allclose(result[:, :, ::-1], expected, atol=1e-4)


def test_mirroring_worked_out_by_hand():
    twice = mirrored(mirrored(BATCH, ALL), ALL)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), twice, BATCH)
    once = mirrored(BATCH, ALL)
    np.testing.assert_array_equal(once.intrinsics[:, 0, 2], WIDTH - 1 - 8)
    np.testing.assert_array_equal(once.stereo_offset, -BATCH.stereo_offset)
    np.testing.assert_array_equal(once.depth, BATCH.depth[:, :, ::-1])
    assert mirror(TrainingBatch(BATCH.image), ALL).depth is None


def test_each_image_is_flipped_for_itself_with_all_that_belongs_to_it():
    many = jax.tree.map(lambda x: jnp.tile(x, (20, *(1,) * (x.ndim - 1))), BATCH)
    plain = jax.jit(lambda b, k: augment(b, k, jitter=None))(many, KEY).plain
    other_way = mirrored(many, jnp.ones(20 * SIZE, bool))
    flipped = np.asarray(plain.stereo_offset == other_way.stereo_offset)
    assert 0.35 < flipped.mean() < 0.65
    for name in ("image", "previous", "following", "stereo", "depth", "intrinsics"):
        found, *sources = (np.asarray(getattr(b, name)) for b in (plain, many, other_way))
        for i, is_flipped in enumerate(flipped):
            np.testing.assert_array_equal(found[i], sources[int(is_flipped)][i])


def test_nothing_asked_for_changes_nothing():
    same = jax.jit(lambda b, k: augment(b, k, flip=0.0, jitter=None))(BATCH, KEY)
    jax.tree.map(np.testing.assert_array_equal, same.plain, BATCH)
    jax.tree.map(np.testing.assert_array_equal, same.inputs, BATCH.pictures)
    still = Jitter(1.0, 0, 0, 0, 0)
    unchanged = jax.jit(lambda b, k: augment(b, k, flip=0.0, jitter=still))(BATCH, KEY)
    for name, picture in BATCH.pictures.items():
        np.testing.assert_allclose(unchanged.inputs[name], picture, atol=1e-6)


def test_colours_change_alike_in_all_views_and_only_for_the_network():
    batch = BATCH.replace(previous=BATCH.image)
    results = jax.jit(lambda b, k: augment(b, k, flip=0.0))(batch, KEY)
    jax.tree.map(np.testing.assert_array_equal, results.plain, batch)
    np.testing.assert_array_equal(results.inputs["previous"], results.inputs["image"])
    changed = np.any(results.inputs["image"] != batch.image, axis=(1, 2, 3))
    assert 0 < changed.sum() < SIZE
    np.testing.assert_array_equal(
        np.any(results.inputs["stereo"] != batch.stereo, (1, 2, 3)), changed
    )
    assert all(x.min() >= 0 and x.max() <= 1 for x in results.inputs.values())


def colors(**changes):
    neutral = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    options = {name: jnp.full(SIZE, v, jnp.float32) for name, v in {**neutral, **changes}.items()}
    return np.asarray(jax.jit(change_colors)(BATCH.image, **options))


def test_brightness_contrast_and_saturation_worked_out_by_hand():
    image = np.asarray(BATCH.image)
    gray = (image * [0.2989, 0.587, 0.114]).sum(-1, keepdims=True)
    np.testing.assert_allclose(colors(brightness=1.2), np.clip(1.2 * image, 0, 1), atol=1e-6)
    mean = gray.mean((1, 2), keepdims=True)
    expected = np.clip(mean + 0.8 * (image - mean), 0, 1)
    np.testing.assert_allclose(colors(contrast=0.8), expected, atol=1e-6)
    expected = np.clip(gray + 1.2 * (image - gray), 0, 1)
    np.testing.assert_allclose(colors(saturation=1.2), expected, atol=1e-6)
    np.testing.assert_allclose(colors(saturation=0.0), np.repeat(gray, 3, -1), atol=1e-6)


@pytest.mark.parametrize("hue", [-0.1, 0.07, 0.5])
def test_hue_turns_as_in_the_standard_library(hue):
    def turn(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + hue) % 1, s, v)

    expected = np.apply_along_axis(turn, -1, np.asarray(BATCH.image[:2], float))
    np.testing.assert_allclose(colors(hue=hue)[:2], expected, atol=2e-6)


def test_gray_has_no_hue():
    gray = jnp.full((1, 2, 2, 3), 0.4)
    one = jnp.ones(1)
    turned = jax.jit(change_colors)(
        gray, brightness=one, contrast=one, saturation=one, hue=0.3 * one
    )
    np.testing.assert_allclose(turned, gray, atol=1e-6)


def test_zoomed_batches_are_the_same_scene_made_smaller():
    zoomed = jax.jit(lambda b, k: augment(b, k, flip=0.0, jitter=None, zoom=(2, 2)).plain)(
        BATCH, KEY
    )
    np.testing.assert_allclose(zoomed.stereo_offset, BATCH.stereo_offset / 2)
    np.testing.assert_allclose(zoomed.intrinsics[0, :2, :2], [[30, 0], [0, 32]])
    np.testing.assert_allclose(zoomed.intrinsics[0, :2, 2], [9.5 + 2 * (8 - 9.5), 5.5 - 2 * 0.5])
    # A point keeps its direction; its distance is halved.
    x, y = 3, 7
    from_x, from_y = 9.5 + (x - 9.5) / 2, 5.5 + (y - 5.5) / 2
    points = jax.jit(geometry.back_project)(zoomed.depth, zoomed.intrinsics)[0, y, x]
    ray = np.array([(from_x - 8) / 15, (from_y - 5) / 16, 1])
    depth = BATCH.depth[0, int(np.floor(from_y + 0.5)), int(np.floor(from_x + 0.5))] / 2
    np.testing.assert_allclose(points, ray * depth, rtol=1e-4)
    part = np.asarray(BATCH.image)[0, 6:8, 6:8] * np.outer([0.75, 0.25], [0.75, 0.25])[..., None]
    assert (from_x, from_y) == (6.25, 6.25)
    np.testing.assert_allclose(zoomed.image[0, y, x], part.sum((0, 1)), atol=1e-5)


def test_quarter_turn_is_numpys():
    square = TrainingBatch(BATCH.image[:, :, :HEIGHT], depth=BATCH.depth[:, :, :HEIGHT])
    turned = jax.jit(zoom_and_rotate)(
        square, jnp.ones(SIZE), jnp.full(SIZE, np.pi / 2, jnp.float32)
    )
    np.testing.assert_allclose(turned.image, np.rot90(square.image, axes=(1, 2)), atol=1e-5)
    np.testing.assert_array_equal(turned.depth, np.rot90(square.depth, axes=(1, 2)))


def test_rotated_depth_is_read_not_mixed_and_empty_outside():
    supervised = draw(views=()).replace(stereo_offset=None)
    turn = jax.jit(
        lambda b, k: augment(b, k, flip=0.0, jitter=None, zoom=(1, 1.2), rotation_degrees=30.0)
    )
    result = turn(supervised, KEY).plain
    known = np.asarray(result.depth > 0)
    assert 0.7 < known.mean() < 1
    assert np.all(np.asarray(result.image)[~known] == 0)
    for before, after, k, mask in zip(
        supervised.depth, result.depth, result.intrinsics[:, 0, 0] / 15, known, strict=True
    ):
        distance = np.abs(np.asarray(before).reshape(-1, 1) - np.asarray(after[mask] * k)[None])
        assert distance.min(axis=0).max() < 1e-5
    assert len(np.unique(result.intrinsics[:, 0, 0])) == SIZE
    other = turn(supervised, jax.random.key(1)).plain
    assert np.any(other.image != result.image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 1.5}, "flip is 1.5; it must lie between 0 and 1"),
        ({"zoom": (0.5, 1.0)}, r"zoom is \(0.5, 1.0\); expected \(smallest, largest\)"),
        ({"zoom": (1.5, 1.2)}, "both at least 1"),
        ({"rotation_degrees": -5.0}, "rotation_degrees is -5.0; it must lie between 0 and 180"),
        ({"rotation_degrees": 5.0}, "the batch has previous, following, stereo: rotation is for"),
    ],
)
def test_errors_name_the_option(options, message):
    with pytest.raises(grumo_jax.GrumoError, match=message):
        augment(BATCH, KEY, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": -1}, "probability is -1; it must lie between 0 and 1"),
        ({"contrast": 2.0}, "contrast is 2.0"),
        ({"hue": 0.6}, "hue is 0.6; it must lie between 0 and 0.5"),
    ],
)
def test_jitter_checks_its_amounts(options, message):
    with pytest.raises(grumo_jax.GrumoError, match=message):
        Jitter(**options)
