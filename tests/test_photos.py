"""Files on disk, the predictor and the pictures."""

import dataclasses
import io
import warnings
from typing import Any

import numpy as np
import pytest
from helpers import SmallNet
from matplotlib.figure import Figure
from PIL import Image

import grumo_jax
from grumo_jax import images as files
from grumo_jax import plots
from grumo_jax.predictor import to_photo_size


@pytest.fixture(scope="module")
def photo():
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8))
    return np.asarray(small.resize((90, 50), Image.Resampling.BICUBIC))


def test_photos_are_read_as_rgb_and_upright(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(grumo_jax.read_image(tmp_path / "rgb.png"), photo)
    Image.fromarray(photo).convert("LA").save(tmp_path / "gray.png")
    assert grumo_jax.read_image(tmp_path / "gray.png").shape == (50, 90, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned to the right
    Image.fromarray(photo).save(tmp_path / "turned.jpg", exif=exif)
    assert grumo_jax.read_image(tmp_path / "turned.jpg").shape == (90, 50, 3)


def test_16_bit_and_transparent_photos(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(
        grumo_jax.read_image(tmp_path / "deep.png")[0, :, 0], ramp[0] >> 8
    )
    half = np.zeros((1, 2, 4), np.uint8)
    half[0, :, 0], half[0, 1, 3] = 255, 255
    Image.fromarray(half).save(tmp_path / "clear.png")
    pixels = grumo_jax.read_image(tmp_path / "clear.png")[0]
    np.testing.assert_array_equal(pixels, [[255, 255, 255], [255, 0, 0]])
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(grumo_jax.GrumoError, match=r"float\.tiff: pixels of kind F are no photo"):
        grumo_jax.read_image(tmp_path / "float.tiff")


def test_photos_damaged_anywhere_raise_only_our_error(tmp_path, photo):
    rng, refused = np.random.default_rng(0), 0
    for kind in ("png", "jpeg", "tiff", "webp", "bmp"):
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, format=kind, exif=Image.Exif())
        for _ in range(40):
            content = bytearray(buffer.getvalue())
            for position in rng.integers(0, min(len(content), 400), 3):
                content[position] = rng.integers(256)
            (tmp_path / "photo").write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    grumo_jax.read_image(tmp_path / "photo")
                except grumo_jax.GrumoError:
                    refused += 1
    assert 0 < refused < 200


def test_unreadable_photos_are_named(tmp_path, photo):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="PNG")
    for name, content in {"cut.png": buffer.getvalue()[:900], "text.jpg": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(grumo_jax.GrumoError, match=f"{name}: damaged or no image"):
            grumo_jax.read_image(tmp_path / name)
    with pytest.raises(grumo_jax.GrumoError, match=r"no\.png: no such file"):
        grumo_jax.read_image(tmp_path / "no.png")


def test_finding_photos(tmp_path):
    (tmp_path / "b" / "folder.png").mkdir(parents=True)
    names = ("b/x.JPG", "b/c/y.png", "b/notes.txt", "x.png", "b/._x.jpg", "b/out/x_panel.png")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(files.find_images([tmp_path / "b"], leave_out=tmp_path / "b" / "out")) == [
        "c/y",
        "x",
    ]
    with pytest.raises(grumo_jax.GrumoError, match="would both be called 'x'; rename"):
        files.find_images([tmp_path / "b", tmp_path / "x.png"])
    with pytest.raises(grumo_jax.GrumoError, match="nowhere: no such file or folder"):
        files.find_images([tmp_path / "nowhere"])
    (tmp_path / "none").mkdir()
    with pytest.raises(grumo_jax.GrumoError, match="none: no images in this folder"):
        files.find_images([tmp_path / "none"])


def test_16_bit_png_is_exact(tmp_path):
    depth = np.array([[0.5, 80.25, 1000.0, np.nan]])
    files.write_png16(tmp_path / "depth.png", depth, files.DEPTH_PNG_SCALE)
    stored = np.asarray(Image.open(tmp_path / "depth.png"))
    np.testing.assert_array_equal(stored, [[128, 20544, 65535, 0]])


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def fail(stream):
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(tmp_path / "map.npz", fail)
    assert list(tmp_path.iterdir()) == []


def test_predictor_gives_maps_at_the_photos_size(small, photo):
    model, variables = small
    predictor = grumo_jax.Predictor(grumo_jax.PostProcessing(model), variables, (32, 64), 2)
    wide = np.concatenate([photo, photo], axis=1)
    results = list(predictor.predict([photo, wide, photo]))
    assert [r.depth.shape for r in results] == [(50, 90), (50, 180), (50, 90)]
    np.testing.assert_allclose(results[0].depth, results[2].depth, rtol=1e-5)
    alone = predictor(photo)
    np.testing.assert_allclose(alone.uncertainty, results[0].uncertainty, atol=1e-5)


@pytest.mark.parametrize(
    ("predicts", "expected"),
    [
        ("depth", [1, 1.75, 3.25, 4]),
        ("disparity", [1, 1 / 0.8125, 1 / 0.4375, 4]),
    ],
)
def test_what_the_network_predicts_is_what_is_interpolated(predicts, expected):
    maps = np.array([[[1, 4]]], np.float32)
    estimate = grumo_jax.estimators.Estimate(maps, maps, maps)
    network = grumo_jax.DepthNetwork(None, predicts=predicts)
    found = to_photo_size(network, estimate, 0, (1, 4))
    np.testing.assert_allclose(found.depth[0], expected, rtol=1e-6)


def test_predictor_without_input_size_takes_the_nearest_multiple_of_32(small, photo):
    model, variables = small
    predictor = grumo_jax.Predictor(grumo_jax.PostProcessing(model), variables, batch_size=3)
    assert predictor._network_size(photo) == (64, 96)
    results = list(predictor.predict([photo, photo[:30], photo]))
    assert [r.raw.shape for r in results] == [(50, 90), (30, 90), (50, 90)]


class SaysItsSize(SmallNet):
    input_size: Any = None


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ((32, 64), (32, 64)),
        ([32, 64], (32, 64)),
        *((other, None) for other in (224, (3, 32, 64), (32.0, 64.0), (-1, -1), "ab")),
    ],
)
def test_a_modules_input_size_counts_if_it_is_one(photo, said, size):
    network = grumo_jax.wrap(SaysItsSize(input_size=said))
    assert network.input_size == size
    predictor = grumo_jax.Predictor(grumo_jax.PostProcessing(network), {})
    assert predictor._network_size(photo) == (size or (64, 96))


def test_predictor_explains_a_photo_of_another_form(small, photo):
    predictor = grumo_jax.Predictor(grumo_jax.PostProcessing(small[0]), small[1])
    with pytest.raises(grumo_jax.GrumoError, match=r"float64 \(50, 90, 3\); expected uint8"):
        predictor(photo / 255)


@pytest.mark.parametrize(("shape", "predicts"), [((40, 60), "depth"), ((40, 130), "disparity")])
def test_panel(shape, predicts):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    depth, uncertainty = rng.uniform(1, 50, shape), rng.uniform(0, 1, shape)
    figure = plots.plot_panel(image, depth, uncertainty, predicts=predicts, title="a place")
    names = ["image", predicts, "uncertainty", "overlay"]
    assert [axes.get_title() for axes in figure.axes] == names
    maps = [axes.images[0] for axes in figure.axes[1:3]]
    colours = {"depth": "magma_r", "disparity": "magma"}[predicts]
    assert [drawn.get_cmap().name for drawn in maps] == [colours, "hot"]
    assert all(drawn.colorbar is not None for drawn in maps)
    figure.savefig(io.BytesIO())


def test_plots_take_axes_and_return_them():
    axes = Figure().subplots()
    figure, drawn = plots.plot_uncertainty(np.zeros((4, 5)), axes=axes)
    assert drawn is axes
    assert figure is axes.figure
    own, _ = plots.plot_depth(np.ones((4, 5)))
    assert isinstance(own, Figure)


def test_overlay_of_a_constant_map_is_the_dark_photo(photo):
    blended = plots.overlay(photo, np.zeros(photo.shape[:2]))
    gray = photo.mean(axis=-1, keepdims=True) / 255
    np.testing.assert_allclose(blended, np.repeat(0.7 * gray, 3, axis=-1))


def test_fewer_photos_than_a_batch_are_not_filled_up(small, photo):
    model, variables = small
    shapes = []

    @dataclasses.dataclass(frozen=True)
    class Watched(grumo_jax.ConstantBaseline):
        def __call__(self, variables, images, key=None):
            shapes.append(images.shape[0])
            return super().__call__(variables, images, key)

    predictor = grumo_jax.Predictor(Watched(model), variables, (32, 64), batch_size=64)
    assert len(list(predictor.predict([photo] * 2))) == 2
    assert len(list(dataclasses.replace(predictor, batch_size=2).predict([photo] * 3))) == 3
    assert shapes == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (0, 100)}, r"size is \(0, 100\); expected \(height, width\), each 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
    ],
)
def test_predictor_refuses_nonsense(small, options, said):
    with pytest.raises(grumo_jax.GrumoError, match=said):
        grumo_jax.Predictor(grumo_jax.PostProcessing(small[0]), small[1], **options)
