"""Photos and their depth maps: which belong together, and how they lie."""

import numpy as np
import pytest
from layouts import write_drive
from PIL import Image

from grumo_jax.data import ImageFolder, KittiRaw, read_depth
from grumo_jax.errors import DataError, GrumoWarning

VALUES = np.arange(1, 49, dtype=np.uint8).reshape(6, 8)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return {"exif": tags} if orientation != 1 else {}


def write(folder, photo=1, depth=1, values=VALUES):
    (folder / "rgb").mkdir(exist_ok=True)
    (folder / "depth").mkdir(exist_ok=True)
    Image.fromarray(np.stack([VALUES] * 3, -1)).save(folder / "rgb/a.png", **exif(photo))
    Image.fromarray(values.astype(np.uint16) * 256).save(folder / "depth/a.png", **exif(depth))
    return ImageFolder(folder / "rgb", folder / "depth")


def number(folder, names):
    """Photos or depth maps of these names, the first of them full of ones, and so on."""
    for value, name in enumerate(names, 1):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if folder.name == "rgb":
            Image.new("RGB", (2, 2), (value,) * 3).save(file.with_name(f"{file.name}.png"))
        else:
            np.save(file.with_name(f"{file.name}.npy"), np.full((2, 2), float(value)))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_turns_photo_and_depth_alike(tmp_path, orientation):
    sample = write(tmp_path, orientation, orientation)[0]
    np.testing.assert_array_equal(sample.image[..., 0], sample.depth)
    assert not np.array_equal(sample.depth, VALUES)


@pytest.mark.parametrize("turns", [(3, 1), (1, 3), (6, 1), (1, 6), (2, 4), (5, 8)])
def test_exif_of_one_alone_is_named(tmp_path, turns):
    said = rf"a.png: its EXIF orientation is {turns[0]}, and that of its depth map .* is {turns[1]}"
    with pytest.raises(DataError, match=said):
        write(tmp_path, *turns)[0]


def test_a_photo_on_its_side_may_have_upright_depth(tmp_path):
    upright = np.rot90(VALUES, -1)  # what orientation 6 asks for
    source = write(tmp_path, 6, 1, upright)
    with pytest.warns(GrumoWarning, match="by their sizes both are upright"):
        sample = source[0]
    np.testing.assert_array_equal(sample.image[..., 0], sample.depth)


def test_pictures_of_data_sets_are_not_turned(tmp_path):
    folder = write_drive(tmp_path, [16], scans=[16], improved=[16])
    depth = folder / "proj_depth/groundtruth/image_02/0000000016.png"
    Image.open(depth).save(depth, **exif(3))
    with pytest.raises(DataError, match=r"EXIF orientation \(3\) turns it, but not its picture"):
        KittiRaw(tmp_path, "eigen_benchmark")[0]
    picture = folder / "image_02/data/0000000016.png"
    Image.open(picture).save(picture, **exif(3))
    with pytest.raises(DataError, match=r"EXIF orientation \(3\) turns it, but not its depth"):
        KittiRaw(tmp_path)[0]


@pytest.mark.parametrize(
    ("photos", "depths"),
    [
        (["1", "2", "10"], ["01", "02", "10"]),
        (["f9", "f10", "f11"], ["d009", "d010", "d011"]),
        (["day2/1", "day10/1"], ["002_1", "010_1"]),
        (["a", "b"], ["x", "y"]),
    ],
)
def test_order_takes_numbers_as_numbers(tmp_path, photos, depths):
    number(tmp_path / "rgb", photos)
    number(tmp_path / "depth", depths)
    source = ImageFolder(tmp_path / "rgb", tmp_path / "depth", pair="order")
    for sample in source:
        assert sample.image[0, 0, 0] == sample.depth[0, 0]


def test_order_is_refused_where_numbers_may_be_decimals(tmp_path):
    number(tmp_path / "rgb", ["1.12", "1.5"])
    number(tmp_path / "depth", ["a", "b"])
    with pytest.raises(DataError, match=r"whether '1.5' or '1.12' comes first; give all numbers"):
        ImageFolder(tmp_path / "rgb", tmp_path / "depth", pair="order")


def test_a_gap_on_either_side_is_said(tmp_path):
    number(tmp_path / "rgb", ["1", "2", "3", "4"])
    number(tmp_path / "depth", ["1", "2", "4", "5"])
    with pytest.warns(GrumoWarning, match="2 of 4 pairs by order .* photo '3' with depth '4'"):
        ImageFolder(tmp_path / "rgb", tmp_path / "depth", pair="order")


def test_depth_of_other_kinds_and_in_linked_folders(tmp_path):
    write(tmp_path)
    (tmp_path / "depth").rename(tmp_path / "maps")
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth/here").symlink_to(tmp_path / "maps")
    (tmp_path / "rgb").rename(tmp_path / "photos")
    (tmp_path / "rgb").mkdir()
    (tmp_path / "rgb/here").symlink_to(tmp_path / "photos")
    (tmp_path / "depth/b.exr").write_bytes(b"x")
    with pytest.warns(GrumoWarning, match=r"1 file of a kind that is not read: .exr; depth is"):
        source = ImageFolder(tmp_path / "rgb", tmp_path / "depth")
    assert source.ids == ("here/a",)
    assert source[0].depth is not None


def test_an_animation_is_no_depth_map(tmp_path):
    frames = [Image.fromarray(np.full((2, 2), n, np.uint16)) for n in (1, 2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="2 pictures in one file"):
        read_depth(tmp_path / "a.png")
