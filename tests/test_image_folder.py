"""Plain folders of photos and depth maps."""

import numpy as np
import pytest
from helpers import need_shared
from layouts import draw_depth, draw_image
from PIL import Image

from grumo_jax.data import ImageFolder, open_source, read_depth, write_depth_png
from grumo_jax.errors import DataError

SIZE = (16, 24)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "more/c.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_image(rng, SIZE)).save(file)
    return tmp_path / "photos"


def test_photos_alone(photos):
    source = ImageFolder(photos, intrinsics=np.eye(3))
    assert source.ids == ("a", "b", "more/c")
    assert source.name == "folder/photos"
    assert source[2].image.shape == (*SIZE, 3)
    assert source[2].depth is None
    assert source[2].intrinsics.dtype == np.float32
    assert len(open_source("folder", photos)) == 3


def test_depth_of_every_kind(photos, tmp_path):
    depths = [draw_depth(np.random.default_rng(n), SIZE) for n in range(3)]
    (tmp_path / "depth" / "more").mkdir(parents=True)
    write_depth_png(tmp_path / "depth" / "a.png", depths[0])
    broken = depths[1].astype(np.float64)
    broken[0, :4] = np.nan, np.inf, -1, -np.inf
    np.save(tmp_path / "depth" / "b.npy", broken)
    np.savez(tmp_path / "depth" / "more" / "c.npz", depth=depths[2], other=depths[0])
    source = ImageFolder(photos, tmp_path / "depth")
    depths[1][0, :4] = 0
    for sample, depth in zip(source, depths, strict=True):
        np.testing.assert_array_equal(sample.depth, depth)
        assert sample.depth.dtype == np.float32


def test_photos_without_depth_are_missing(photos, tmp_path):
    write_depth_png(tmp_path / "depth" / "b.png", np.ones(SIZE), scale=1000)
    source = ImageFolder(photos, tmp_path / "depth", depth_scale=1000)
    assert source.ids == ("b",)
    assert source.missing == ("a", "more/c")
    assert np.all(source[0].depth == 1)


def test_fingerprint_covers_files_and_how_depth_is_read(photos, tmp_path):
    def scan(**options):
        return ImageFolder(photos, tmp_path / "depth", **options).fingerprint

    for name in "abc":
        write_depth_png(
            tmp_path / "depth" / ("more" * (name == "c")) / f"{name}.png", np.ones(SIZE)
        )
    alone, before = ImageFolder(photos), scan()
    assert scan() == before
    prints = {alone.fingerprint, before, scan(depth_scale=1000), scan(pair="order")}
    write_depth_png(tmp_path / "depth" / "a.png", draw_depth(np.random.default_rng(0), SIZE))
    prints.add(scan())
    Image.fromarray(draw_image(np.random.default_rng(9), (32, 24))).save(photos / "a.png")
    prints.add(ImageFolder(photos).fingerprint)
    assert len(prints) == 6
    assert (alone.has_depth, ImageFolder(photos, tmp_path / "depth").has_depth) == (False, True)


def test_depth_inside_the_photos_folder_is_no_photo(photos):
    write_depth_png(photos / "depth" / "a.png", np.ones(SIZE))
    assert ImageFolder(photos, photos / "depth").ids == ("a",)


def test_real_pairs():
    nyu = ImageFolder(
        need_shared("real", "nyu_pairs", "rgb"),
        need_shared("real", "nyu_pairs", "depth"),
        depth_scale=1000,
        pair="order",
    )
    assert nyu.ids == ("rgb_00000", "rgb_00050", "rgb_00100")
    for sample in nyu:
        assert sample.image.shape == (480, 640, 3)
        assert 0.5 < np.median(sample.depth[sample.depth > 0]) < 10
    kitti = ImageFolder(
        need_shared("real", "kitti_improved", "rgb"), need_shared("real", "kitti_improved", "depth")
    )
    assert len(kitti) == 3
    sample = kitti[0]
    assert sample.depth.shape == sample.image.shape[:2]
    assert 0.1 < np.mean(sample.depth > 0) < 0.4
    assert 60 < sample.depth.max() < 90


def test_real_numpy_depth(tmp_path):
    """FastDepth's published prediction has its published error."""
    rgb, depth, predicted = (
        np.load(need_shared("real", "nyu_fastdepth", f"{name}.npy"))
        for name in ("rgb", "depth", "pred")
    )
    (tmp_path / "rgb").mkdir()
    (tmp_path / "depth").mkdir()
    Image.fromarray((rgb * 255).astype(np.uint8)).save(tmp_path / "rgb" / "frame.png")
    np.save(tmp_path / "depth" / "frame.npy", depth)
    sample = ImageFolder(tmp_path / "rgb", tmp_path / "depth")[0]
    assert sample.image.shape == (224, 224, 3)
    rmse = np.sqrt(np.mean((sample.depth - predicted.squeeze()) ** 2))
    assert rmse == pytest.approx(0.618, abs=1e-3)


def test_mistakes(photos, tmp_path):
    with pytest.raises(DataError, match="no such folder; expected one with photos"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no such folder; expected one with depth maps"):
        ImageFolder(photos, tmp_path / "nowhere")
    depth = tmp_path / "depth"
    depth.mkdir()
    with pytest.raises(DataError, match="no images in this folder"):
        ImageFolder(depth)
    with pytest.raises(DataError, match="no depth maps in this folder"):
        ImageFolder(photos, depth)
    write_depth_png(depth / "x.png", np.ones(SIZE))
    with pytest.raises(DataError, match=r"\(photo 'a', depth 'x'\); rename them, or pair them by"):
        ImageFolder(photos, depth)
    with pytest.raises(DataError, match="1 depth maps for 3 photos"):
        ImageFolder(photos, depth, pair="order")
    np.save(depth / "x.npy", np.ones(SIZE))
    with pytest.raises(DataError, match="have the same name; remove one"):
        ImageFolder(photos, depth)
    with pytest.raises(DataError, match="depth_scale is 0"):
        ImageFolder(photos, depth, depth_scale=0)
    for scale in (np.inf, np.nan):
        with pytest.raises(DataError, match=f"depth_scale is {scale}"):
            ImageFolder(photos, depth, depth_scale=scale)
    with pytest.raises(DataError, match=r"intrinsics are \(2,\)"):
        ImageFolder(photos, intrinsics=np.ones(2))
    with pytest.raises(DataError, match="no data set 'kiti'; there are: kitti, nyu, folder"):
        open_source("kiti", photos)
    with pytest.raises(DataError, match="has no split 'val'"):
        open_source("folder", photos, "val")
    with pytest.raises(DataError, match="kitti takes no depth"):
        open_source("kitti", photos, depth=depth)


def test_damage_is_named(photos, tmp_path):
    for name in ("a.png", "b.png", "more/c.png"):
        write_depth_png(tmp_path / "depth" / name, np.ones((4, 4) if name == "b.png" else SIZE))
    source = ImageFolder(photos, tmp_path / "depth")
    (photos / "a.png").write_bytes(b"")
    (tmp_path / "depth" / "more" / "c.png").write_bytes(b"")
    for index, message in (
        (0, "a.png: damaged or no image"),
        (1, "b.jpg: 24×16 pixels, but its depth has 4×4"),
        (2, "c.png: empty; copy it again"),
    ):
        with pytest.raises(DataError, match=message):
            source[index]


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("d.npy", lambda file: file.write_bytes(b"\x93NUMPY"), "damaged or no numpy file"),
        ("d.npz", lambda file: file.write_bytes(b"PK\x03\x04"), "damaged or no numpy file"),
        ("d.npy", lambda file: np.save(file, np.ones(3)), r"float64 \(3,\) is no depth map"),
        ("d.npy", lambda file: np.save(file, [[True]]), r"bool \(1, 1\) is no depth map"),
        ("d.npz", lambda file: np.savez(file, a=1, b=2), "holds a, b; expected an array called"),
        ("d.txt", lambda file: file.write_text("1 2"), "not a depth file; expected .png, .npy"),
        ("d.png", lambda file: None, "no such file"),
    ],
)
def test_no_depth_map(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_depth(tmp_path / name)
