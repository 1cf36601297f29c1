"""Data files that lie about their size, show other files, or name code."""

import io
import json
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
from layouts import DAY, write_drive, write_nyu
from PIL import Image

from grumo_jax.data import KittiRaw, NyuFastDepth, open_prepared, open_source, prepare, read_depth
from grumo_jax.data.prepared.read import unpack
from grumo_jax.data.survey import survey
from grumo_jax.errors import DataError

h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra: data)")
pytest.importorskip("tensorflow_datasets", reason="not installed (extra: data)")
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }"


def npy(header, version=1):
    text = header.encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + b"\0" * 64


def npz(**changes):
    stream = io.BytesIO()
    np.savez_compressed(stream, depth=np.random.default_rng(0).random((40, 60), np.float32))
    return stream.getvalue()


def bomb(shape, declared=None):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        content = npy(HEADER.replace("(4, 4)", str(declared or shape))) + bytes(4 * np.prod(shape))
        archive.writestr("depth.npy", content)
    return stream.getvalue()


WHOLE = npz()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("flipped.npz", WHOLE[:70] + b"\xff" * 4 + WHOLE[74:], "damaged or no numpy file; copy it"),
        ("cut.npz", WHOLE[: len(WHOLE) // 2], "damaged or no numpy file; copy it again"),
        ("bracket.npy", npy(HEADER.replace("}", "[")), "damaged or no numpy file"),
        ("nested.npy", npy("(" * 117), "damaged or no numpy file"),
        ("shape.npy", npy(HEADER.replace("(4, 4)", "(1.5, 2)")), "damaged or no numpy file"),
        ("negative.npy", npy(HEADER.replace("(4, 4)", "(-4, -4)")), r"\(-4, -4\) is no depth map"),
        ("empty.npy", npy(HEADER.replace("(4, 4)", "(0, 4)")), r"\(0, 4\) is no depth map"),
        ("long.npy", npy(HEADER.replace("(4, 4)", f"({'9' * 30}, 2)")), "declares 2×9+ pixels"),
        ("large.npy", npy(HEADER.replace("(4, 4)", "(1000000, 1000000)")), "declares 1000000×1000"),
        ("short.npy", npy(HEADER.replace("(4, 4)", "(400, 4)")), "64 bytes of 6400 are there"),
        ("object.npy", npy(HEADER.replace("<f4", "|O")), "object .* is no depth map"),
        ("text.npy", npy(HEADER.replace("<f4", "<U4")), "is no depth map"),
        ("complex.npy", npy(HEADER.replace("<f4", "<c8")), "is no depth map"),
        ("bomb.npz", bomb((500, 500), (60_000, 60_000)), "declares 60000×60000 pixels"),
        ("zero.npy", b"", "empty; copy it again"),
        ("cut.png", b"\x89PNG\r\n\x1a\n", "damaged or no PNG"),
    ],
)
def test_odd_depth_files_are_one_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*{message}|{name}: {message}"):
        read_depth(tmp_path / name)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "<u2", ">i4"])
def test_whole_numpy_files_are_read(tmp_path, kind, order):
    values = np.arange(1, 13).reshape(3, 4).astype(kind)
    np.save(tmp_path / "a.npy", np.asarray(values, order=order))
    np.savez_compressed(tmp_path / "a.npz", np.asarray(values, order=order))
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read_depth(tmp_path / name), values.astype(np.float32))


def test_depth_larger_than_its_photo_is_not_unpacked(tmp_path):
    (tmp_path / "rgb").mkdir()
    (tmp_path / "depth").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "rgb/a.png")
    (tmp_path / "depth/a.npz").write_bytes(bomb((3000, 3000)))
    with pytest.raises(DataError, match=r"a.npz: unpacks to 34 MB, more than a depth map of 2,400"):
        open_source("folder", tmp_path / "rgb", depth=tmp_path / "depth")[0]


def write_h5(file, fill):
    with h5py.File(file, "w") as content:
        if "depth" not in (fill(content) or ()):
            content["depth"] = np.ones((480, 640), np.float32)


def external(content, folder):
    (folder / "secret").write_bytes(bytes(3 * 480 * 640))
    place = [(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)]
    content.create_dataset("rgb", (3, 480, 640), "u1", external=place)


def virtual(content, folder):
    layout = h5py.VirtualLayout((3, 480, 640), "u1")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "rgb", (3, 480, 640))
    content.create_virtual_dataset("rgb", layout)


def through_a_group(content, folder):
    content["away"] = h5py.ExternalLink("other.h5", "/")
    content["rgb"] = h5py.SoftLink("/away/rgb")


def packed_too_well(content, folder):
    shape = (3, 480, 640)
    array = content.create_dataset("rgb", shape, "u1", chunks=shape, compression="gzip")
    array.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(30_000_000)))


def large_parts(content, folder):
    content.create_dataset(
        "rgb", (3, 480, 640), "u1", maxshape=(None,) * 3, chunks=(300, 1000, 1000)
    )


def texts(content, folder):
    content["rgb"] = np.zeros((3, 480, 640), np.uint8)
    content.create_dataset("depth", (480, 640), h5py.string_dtype())
    return ["depth"]


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (external, "rgb is kept in other files, which are not read"),
        (virtual, "rgb is kept in other files, which are not read"),
        (lambda c, f: c.update(rgb=h5py.ExternalLink("other.h5", "/rgb")), "rgb is a link, which"),
        (through_a_group, "rgb is a link, which may lead to other files"),
        (packed_too_well, "rgb unpacks to more than it declares, or is damaged"),
        (large_parts, "rgb is in parts of a size that makes no sense"),
        (lambda c, f: c.create_dataset("rgb", (3, 480, 640), "u1") and None, "rgb is incomplete"),
        (lambda c, f: c.create_group("rgb") and None, "expected data sets rgb, depth"),
        (texts, "depth is object; expected numbers"),
        (
            lambda c, f: c.create_dataset("rgb", (3, 48000, 64000), "u1", chunks=True) and None,
            r"rgb is uint8 \(3, 48000, 64000\)",
        ),
    ],
)
def test_hdf5_shows_nothing_but_itself(tmp_path, fill, message):
    write_nyu(tmp_path, ["val/official/00001", "val/official/other"])
    folder = tmp_path / "val/official"
    write_h5(folder / "00001.h5", lambda content: fill(content, folder))
    source = NyuFastDepth(tmp_path)
    with pytest.raises(DataError, match=f"00001.h5: .*{message}|00001.h5: {message}"):
        source[0]
    assert source[1].depth is not None


@pytest.mark.parametrize("packing", [{}, {"compression": "gzip"}, {"compression": "lzf"}])
def test_hdf5_that_is_whole_is_read(tmp_path, packing):
    rgb = np.random.default_rng(0).integers(0, 256, (3, 480, 640), np.uint8)
    (tmp_path / "val/official").mkdir(parents=True)
    write_h5(
        tmp_path / "val/official/00001.h5",
        lambda content: content.create_dataset("rgb", data=rgb, **packing) and None,
    )
    sample = NyuFastDepth(tmp_path)[0]
    np.testing.assert_array_equal(sample.image, np.moveaxis(rgb, 0, 2))


@pytest.fixture
def prepared(tmp_path):
    write_drive(tmp_path / "raw", range(0, 33, 16), scans=range(0, 33, 16))
    return prepare("kitti", "eigen", tmp_path / "raw", tmp_path / "prepared").folder


def edit(file, change):
    file.write_text(change(file.read_text()))


@pytest.mark.parametrize(
    ("key", "place"),
    [("pythonClassName", ()), ("python_class_name", ("featuresDict", "features", "id"))],
)
def test_prepared_data_name_no_code(prepared, tmp_path, monkeypatch, key, place):
    (tmp_path / "evil_module.py").write_text("open('ran', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    file = prepared / "features.json"
    content = json.loads(file.read_text())
    node = content
    for name in place:
        node = node[name]
    node.pop("pythonClassName")
    node[key] = "evil_module.X"
    file.write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"features.json: names code .*, 'evil_module.X'; do not tr"
    ):
        open_prepared("kitti", tmp_path / "prepared", "eigen")
    file.write_text(json.dumps({"type": "evil_module.X", "content": {}}))
    with pytest.raises(DataError, match="names code"):
        open_prepared("kitti", tmp_path / "prepared", "eigen")
    assert "evil_module" not in sys.modules
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["../../../{SPLIT}", "/etc/{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"])
def test_prepared_data_name_no_files_elsewhere(prepared, tmp_path, place):
    usual = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"
    edit(prepared / "dataset_info.json", lambda text: text.replace(usual, place))
    with pytest.raises(DataError, match=r"names a file elsewhere, .*do not trust|damaged \("):
        open_prepared("kitti", tmp_path / "prepared", "eigen")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "not written by `grumo prepare`"),
        ('{"splits": {"test": 3}}', "not written by `grumo prepare`"),
        ('{"splits": {"test": {"ids": [1]}}}', "not written by `grumo prepare`"),
    ],
)
def test_prepared_data_with_odd_facts(prepared, tmp_path, content, message):
    (prepared / "metadata.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_prepared("kitti", tmp_path / "prepared", "eigen")


def test_maps_of_prepared_data_unpack_to_their_size():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    stored = {"shape": np.array([2, 3]), "value": zlib.compress(values.tobytes())}
    np.testing.assert_array_equal(unpack(stored, np.float32), values)
    with pytest.raises(DataError, match="a map of 3×2 pixels does not unpack to as many"):
        unpack(stored | {"value": zlib.compress(bytes(10_000_000))}, np.float32)
    with pytest.raises(DataError, match="a map of 1000000×1000000 pixels; expected 16,000,000"):
        unpack(stored | {"shape": np.array([10**6, 10**6])}, np.float32)


@pytest.mark.parametrize("place", ["", f"{DAY}_drive_0009_sync", f"{DAY}_drive_0009_sync/image_02"])
def test_kitti_one_level_too_deep(tmp_path, place):
    write_drive(tmp_path / "raw", [16], scans=[16])
    given = tmp_path / "raw" / DAY / place
    said = rf"give the (one above|folder that holds it), {tmp_path / 'raw'}$"
    for look in (KittiRaw, lambda root: survey("kitti", root), lambda r: open_source("kitti", r)):
        with pytest.raises(DataError, match=said):
            look(given)


@pytest.mark.parametrize("place", [".", "a"])
def test_kitti_above_its_days(tmp_path, place):
    write_drive(tmp_path / "a" / "raw", [16], scans=[16])
    with pytest.raises(DataError, match=rf"lies above KITTI's days.*, {tmp_path / 'a/raw'}$"):
        KittiRaw(tmp_path / place)


def test_nyu_on_another_level(tmp_path):
    write_nyu(tmp_path / "nyu", ["val/official/00001"])
    for given in (tmp_path / "nyu/val", tmp_path / "nyu/val/official", tmp_path):
        with pytest.raises(DataError, match=rf"val and train; give .*, {tmp_path / 'nyu'}$"):
            NyuFastDepth(given)


def test_within_prepared_data(prepared):
    with pytest.raises(DataError, match="this lies within prepared data"):
        open_source("kitti", prepared)
