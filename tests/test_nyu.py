"""NYU Depth V2 in FastDepth's packing."""

import numpy as np
import pytest
from layouts import write_nyu
from PIL import Image

from grumo_jax.data import NyuFastDepth, center_crop, half_size
from grumo_jax.errors import DataError

h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra: data)")
NAMES = (
    "val/official/00001",
    "val/official/00009",
    "train/attic_0001/00001",
    "train/attic_0001/00006",
    "train/study_0002/00201",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu")
    write_nyu(folder, NAMES)
    return folder


def test_splits(root):
    ids = {split: NyuFastDepth(root, split).ids for split in ("val", "train", "held_out")}
    assert ids == {"val": NAMES[:2], "train": NAMES[3:4], "held_out": (NAMES[2], NAMES[4])}


def test_samples_hold_what_the_files_hold(root):
    source = NyuFastDepth(root, "val")
    sample = source[1]
    with h5py.File(root / "val/official/00009.h5") as content:
        np.testing.assert_array_equal(sample.image, np.transpose(content["rgb"][:], (1, 2, 0)))
        np.testing.assert_array_equal(sample.depth, content["depth"][:])
    assert sample.depth.dtype == np.float32
    assert sample.intrinsics[0].tolist() == np.float32([518.8579, 0, 325.5824]).tolist()
    np.testing.assert_array_equal(source.encoded(1).decode().image, sample.image)


def test_fingerprint_notices_a_changed_file(tmp_path):
    write_nyu(tmp_path, NAMES[:2])
    source = NyuFastDepth(tmp_path)
    before = source.fingerprint
    assert NyuFastDepth(tmp_path).fingerprint == before
    with (tmp_path / f"{NAMES[1]}.h5").open("ab") as file:
        file.write(b"0")
    assert NyuFastDepth(tmp_path).fingerprint != before
    assert source.has_depth


def test_half_size_is_nearest_neighbour(root):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (480, 640, 3), np.uint8)
    resized = Image.fromarray(image).resize((320, 240), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(half_size(image), np.asarray(resized))
    depth = rng.uniform(size=(480, 640)).astype(np.float32)
    resized = Image.fromarray(depth).resize((320, 240), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(half_size(depth), np.asarray(resized))


def test_center_crop():
    rows, columns = np.indices((240, 320))
    cropped = center_crop(np.stack([rows, columns], -1))
    assert cropped.shape == (224, 288, 2)
    assert cropped[0, 0].tolist() == [8, 16]
    assert cropped[-1, -1].tolist() == [231, 303]
    with pytest.raises(DataError, match="320×200 pixels cannot be cropped to 288×224"):
        center_crop(np.zeros((200, 320)))


def test_damage_is_named(tmp_path):
    write_nyu(tmp_path, [f"val/official/{n:05}" for n in range(5)])
    source = NyuFastDepth(tmp_path)
    folder = tmp_path / "val" / "official"
    (folder / "00001.h5").write_bytes((folder / "00001.h5").read_bytes()[:5000])
    (folder / "00002.h5").unlink()
    with h5py.File(folder / "00003.h5", "w") as content:
        content["rgb"] = np.zeros((3, 4, 5), np.uint8)
        content["depth"] = np.zeros((4, 5))
    with h5py.File(folder / "00004.h5", "w") as content:
        content["image"] = np.zeros(3)
    assert source[0].image.shape == (480, 640, 3)
    for index, message in (
        (1, r"00001.h5: damaged or no HDF5 file"),
        (2, r"00002.h5: no such file"),
        (
            3,
            r"00003.h5: rgb is uint8 \(3, 4, 5\) and depth \(4, 5\); expected uint8",
        ),
        (4, r"00004.h5: not FastDepth's packing; expected data sets rgb, depth"),
    ):
        with pytest.raises(DataError, match=message):
            source[index]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such folder; expected FastDepth's packing"):
        NyuFastDepth(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"no frames for the split train; .* train/<scene>/00001.h5"
    ):
        NyuFastDepth(tmp_path, "train")
    with pytest.raises(DataError, match="no split 'test'; there are: val, train, held_out"):
        NyuFastDepth(tmp_path, "test")
