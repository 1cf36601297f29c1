"""Generated data in the real layouts, read back by the readers of the real data."""

import json
import sys

import numpy as np
import pytest
from layouts import DAY

from grumo_jax import cli, read_image
from grumo_jax.data import KittiRaw, NyuFastDepth
from grumo_jax.data.encoding import to_uint8
from grumo_jax.data.kitti import read_scan
from grumo_jax.data.kitti.splits import eigen_test
from grumo_jax.errors import DataError
from grumo_jax.synthetic import layouts, sensors
from grumo_jax.synthetic.layouts import MARK, write_kitti, write_nyu
from grumo_jax.synthetic.sensors import kitti_camera, kitti_views, nyu_view
from grumo_jax.synthetic.source import intrinsics

SIZE = (96, 320)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    folder, frames = tmp_path_factory.mktemp("kitti"), []
    write_kitti(folder, drives=2, frames=1, size=SIZE, advance=lambda: frames.append(0))
    assert len(frames) == 2
    return folder


@pytest.fixture(scope="module")
def nyu(tmp_path_factory):
    pytest.importorskip("h5py", reason="h5py is not installed (extra: data)")
    folder = tmp_path_factory.mktemp("nyu")
    write_nyu(folder, val=1, train=2)
    return folder


def views(source, index):
    frame = next(f for f in eigen_test() if f.id == source.ids[index])
    return kitti_views(frame, SIZE)


@pytest.mark.parametrize("split", ["eigen", "eigen_benchmark", "velodyne"])
def test_depth_read_back_is_the_renderers(kitti, split):
    source = KittiRaw(kitti, split)
    assert source.ids == (f"{DAY}/{DAY}_drive_0002_sync 6 l", f"{DAY}/{DAY}_drive_0009_sync 16 l")
    for index in range(2):
        sample, exact = source[index], np.asarray(views(source, index)[0].depth)
        known = sample.depth > 0
        # As many points as KITTI's scans have, in proportion to the picture's size.
        assert 0.02 < known.mean() < 0.6
        assert known[-10:].any()
        assert not known[:20].any()
        np.testing.assert_allclose(sample.depth[known], exact[known], atol=0.003)


def test_pictures_and_cameras_fit_the_depth(kitti):
    source = KittiRaw(kitti, "velodyne")
    sample, (left, right) = source[0], views(source, 0)
    np.testing.assert_array_equal(sample.image, to_uint8(left.image))
    focal, center = kitti_camera(SIZE)
    expected = [[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]]
    np.testing.assert_allclose(sample.intrinsics, expected, rtol=1e-6)
    stereo = kitti / DAY / f"{DAY}_drive_0002_sync" / "image_03" / "data" / "0000000006.png"
    np.testing.assert_array_equal(read_image(stereo), to_uint8(right.image))
    # What the left camera sees at column u and depth z, the right one sees at u − f·b/z.
    depth, other = np.asarray(left.depth), np.asarray(right.depth)
    rows, columns = np.nonzero((depth > 0) & (depth < 40))
    z = depth[rows, columns]
    shifted = np.rint(columns - focal * 0.54 / z).astype(int)
    there = shifted >= 0
    same = np.abs(other[rows[there], shifted[there]] / z[there] - 1) < 0.05
    assert same.mean() > 0.9


def test_generated_scans_are_whole_and_their_parts_are_not(kitti, tmp_path):
    whole = next(kitti.rglob("velodyne_points/data/*.bin")).read_bytes()
    scan = tmp_path / "scan.bin"
    scan.write_bytes(whole)
    assert len(read_scan(scan)) == len(whole) // 16
    scan.write_bytes(whole[: int(0.9 * len(whole)) // 16 * 16])
    with pytest.raises(DataError, match="incomplete scan"):
        read_scan(scan)


@pytest.mark.slow
def test_nyu_reads_back(nyu):
    sample = NyuFastDepth(nyu, "val")[0]
    view = nyu_view("val/official/00001")
    np.testing.assert_array_equal(sample.image, to_uint8(view.image))
    np.testing.assert_array_equal(sample.depth, view.depth)
    assert 0.3 < np.median(sample.depth) < 10
    held_out, train = NyuFastDepth(nyu, "held_out"), NyuFastDepth(nyu, "train")
    assert held_out.ids == ("train/generated_0001/00001",)
    assert train.ids == ("train/generated_0001/00006",)
    assert not np.array_equal(held_out[0].image, train[0].image)


def test_a_call_is_continued_and_nothing_else_is_touched(kitti, tmp_path, monkeypatch):
    files = sorted(path for path in kitti.rglob("*") if path.is_file())
    times = {path: path.stat().st_mtime_ns for path in files if path.suffix != ".txt"}
    missing = next(path for path in files if "groundtruth" in path.parts)
    content = missing.read_bytes()
    missing.unlink()
    write_kitti(kitti, drives=2, frames=1, size=SIZE)
    assert missing.read_bytes() == content
    drive = missing.parents[3]
    assert all(
        path.stat().st_mtime_ns == t for path, t in times.items() if drive not in path.parents
    )
    with pytest.raises(DataError, match="generated with other options"):
        write_kitti(kitti, drives=1, frames=1, size=SIZE)
    monkeypatch.setattr(layouts, "WORLD", 0)
    with pytest.raises(DataError, match="or by another version"):
        write_kitti(kitti, drives=2, frames=1, size=SIZE)
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="holds other files"):
        write_kitti(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    assert json.loads((kitti / MARK).read_text())["drives"] == 2


@pytest.mark.slow
def test_drives_for_training(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "FIRST_FRAME", 77)
    monkeypatch.setattr(layouts, "DRIVE_FRAMES", 7)
    write_kitti(tmp_path, drives=1, frames=1, train=1, size=SIZE)
    train, val = (KittiRaw(tmp_path, f"moving/{part}") for part in ("train", "val"))
    assert [key.split(" ", 1)[1] for key in train.ids] == ["78 l", "79 l"]
    assert [key.split(" ", 1)[1] for key in val.ids] == ["82 l"]
    sample, after = train[0], train[1]
    np.testing.assert_array_equal(sample.following, after.image)
    np.testing.assert_array_equal(sample.image, after.previous)
    assert not np.array_equal(sample.stereo, sample.image)
    assert sample.stereo_offset == pytest.approx(0.54, abs=1e-4)


def test_drives_are_filmed_by_the_camera_that_their_calibration_names(monkeypatch):
    cameras = []
    monkeypatch.setattr(sensors, "shoot", lambda take, *_, **__: cameras.append(take.camera))
    sensors.drive_views(0, 0.0, SIZE)
    focal, center = kitti_camera(SIZE)
    expected = [[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]]
    np.testing.assert_allclose(intrinsics(cameras[0], SIZE), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kitti", "new", "--drives", "29"), "29 drives; the Eigen test split has 1 to 28"),
        (("kitti", "new", "--drives", "0"), "0 drives; the Eigen test split has 1 to 28"),
        (("kitti", "new", "--drives", "1", "--frames", "22"), "ask for 1 to 21"),
        (("nyu", "new", "--drives", "2"), "--drives is for kitti; nyu has --frames and --train"),
        (("nyu", "new", "--frames", "0"), "0 test and 0 training frames; expected at least one"),
        (("kitti", "file"), "file: a file; expected a folder for the data"),
        (("nyu", "full"), "full: holds other files; generated data need a folder of their own"),
    ],
)
def test_mistakes_end_in_a_sentence(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    monkeypatch.setattr(sys, "argv", ["grumo", "generate", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("grumo: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()
