"""KITTI: calibration, laser scans, layout, splits."""

import pickle
import shutil

import numpy as np
import pytest
from helpers import need_shared
from layouts import CENTER, DAY, FOCAL, OFFSET, SIZE, write_calibration, write_drive
from PIL import Image

import grumo_jax
from grumo_jax.data import KittiRaw, read_depth, velodyne_depth, write_depth_png
from grumo_jax.data.kitti import eigen_test, read_calibration, read_scan, read_split_file
from grumo_jax.data.kitti.splits import KittiFrame
from grumo_jax.data.survey import survey
from grumo_jax.errors import DataError

DRIVE = f"{DAY}/{DAY}_drive_0009_sync"


def only(source):
    """The numbers of a source's frames."""
    return [int(key.split()[1]) for key in source.ids]


@pytest.fixture
def calibration(tmp_path):
    write_calibration(tmp_path / DAY)
    return read_calibration(tmp_path / DAY)


def test_projection_by_hand(calibration):
    # A point x ahead, y to the left, z up lands at column 40 − 40·y/x, row 12 − 40·z/x, less one.
    points = np.array(
        [
            [10, 0, 0, 0.5],  # the centre
            [5, 0, 0, 0.5],  # the same pixel, nearer
            [20, 0, 0, 0.5],  # the same pixel, farther
            [10, 2, 0, 0.5],  # column 32
            [8, 0, 1, 0.5],  # row 7
            [10, 2.1, -1.1, 0.5],  # column 31.6, row 16.4: rounded
            [-5, 1, 0, 0.5],  # behind the scanner
            [0, 1, 0, 0.5],  # in the camera's plane
            [1, 5, 0, 0.5],  # outside
            [10, 9.75, 0, 0.5],  # column 1, the first
            [10, 10, 0, 0.5],  # column 0, outside after − 1
        ],
        np.float32,
    )
    expected = np.zeros(SIZE, np.float32)
    expected[11, 39], expected[11, 31], expected[6, 39], expected[15, 31] = 5, 10, 8, 10
    expected[11, 0] = 10
    np.testing.assert_array_equal(velodyne_depth(points, calibration), expected)


def test_the_right_camera_sees_things_farther_left(calibration):
    depth = velodyne_depth(np.array([[10.0, 0, 0, 0]]), calibration, camera=3)
    assert np.argwhere(depth).tolist() == [[11, 39 - FOCAL * OFFSET / 10]]
    assert calibration.stereo_offset(2) == OFFSET
    assert calibration.stereo_offset(3) == -OFFSET


def test_depth_is_the_distance_from_the_scanner_and_no_sight_goes_backwards(tmp_path):
    write_calibration(tmp_path)
    file = tmp_path / "calib_velo_to_cam.txt"
    file.write_text(file.read_text().rsplit("T:", 1)[0] + "T: 0 0 -2\n")  # scanner 2 m behind
    calibration = read_calibration(tmp_path)
    points = np.array([[12.0, 0, 0, 0], [1.0, 0, 0, 0], [2.0, 0, 0, 0]])
    depth = velodyne_depth(points, calibration)
    assert depth[depth > 0].tolist() == [12]


def test_real_scan_against_a_plain_loop():
    day = need_shared("real", "kitti_raw", DAY)
    calibration = read_calibration(day)
    scan = read_scan(day / f"{DAY}_drive_0009_sync/velodyne_points/data/0000000016.bin")
    scan = scan[::7]
    rows = {}
    for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
        for line in (day / name).read_text().splitlines():
            key, _, values = line.partition(":")
            if key != "calib_time":
                rows[key] = [float(value) for value in values.split()]
    rotation, shift = np.reshape(rows["R"], (3, 3)), np.array(rows["T"])
    expected = {}
    for x, y, z, _ in scan.astype(np.float64):
        if x < 0:
            continue
        seen = np.reshape(rows["R_rect_00"], (3, 3)) @ (rotation @ [x, y, z] + shift)
        u, v, w = np.reshape(rows["P_rect_02"], (3, 4)) @ [*seen, 1]
        if w <= 0:
            continue
        pixel = (round(v / w) - 1, round(u / w) - 1)
        if 0 <= pixel[0] < 375 and 0 <= pixel[1] < 1242:
            expected[pixel] = min(x, expected.get(pixel, np.inf))
    depth = velodyne_depth(scan, calibration)
    assert depth.shape == (375, 1242)
    assert len(expected) > 2000
    found = {tuple(map(int, pixel)): depth[tuple(pixel)] for pixel in np.argwhere(depth)}
    assert found == {pixel: np.float32(value) for pixel, value in expected.items()}


def test_real_frame():
    root = need_shared("real", "kitti_raw")
    source = KittiRaw(root)
    assert only(source) == [0, 16, 32, 48]
    assert len(source.missing) == 693
    assert source.crop == "eigen"
    sample = source[1]
    assert sample.id == f"{DRIVE} 16 l"
    assert sample.image.shape == (375, 1242, 3)
    assert sample.depth.shape == (375, 1242)
    assert 0.03 < np.mean(sample.depth > 0) < 0.06
    np.testing.assert_allclose(
        sample.intrinsics, [[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]]
    )
    assert KittiRaw(root, "velodyne").ids[4] == sample.id
    assert read_calibration(root / DAY).stereo_offset(2) == pytest.approx(0.5327, abs=1e-4)


def test_eigen_list():
    frames = list(eigen_test())
    assert len(set(frames)) == 697
    drives = {frame.drive for frame in frames}
    assert len(drives) == 28
    for drive in drives:
        numbers = [frame.number for frame in frames if frame.drive == drive]
        assert len(numbers) == (22 if "26_drive_0048" in drive else 25)
        steps = np.diff(numbers)
        assert np.all(steps > 0)
        assert np.mean(steps == np.median(steps)) > 0.7  # evenly spaced, with gaps
    plain = [f for f, improved in eigen_test().items() if not improved]
    assert len(plain) == 45
    assert KittiFrame(DRIVE, 0) in plain


def test_samples_hold_what_the_files_hold(tmp_path):
    folder = write_drive(tmp_path, range(0, 33, 16), scans=[0, 16], improved=[16, 32])
    eigen, benchmark = KittiRaw(tmp_path), KittiRaw(tmp_path, "eigen_benchmark")
    assert only(eigen) == [0, 16]
    assert only(benchmark) == [16, 32]
    assert benchmark.crop is None
    assert len(benchmark.missing) == 650
    assert eigen.gaps[f"{DRIVE} 32 l"] == "scan"
    sample = benchmark[0]
    np.testing.assert_array_equal(
        sample.image, np.asarray(Image.open(folder / "image_02/data/0000000016.png"))
    )
    stored = np.asarray(Image.open(folder / "proj_depth/groundtruth/image_02/0000000016.png"))
    np.testing.assert_array_equal(sample.depth, stored.astype(np.float32) / 256)
    assert sample.depth.dtype == np.float32
    np.testing.assert_array_equal(
        sample.intrinsics, np.array([[40, 0, CENTER[0]], [0, 40, CENTER[1]], [0, 0, 1]], np.float32)
    )
    assert sample.stereo is None
    copy = pickle.loads(pickle.dumps(eigen))
    np.testing.assert_array_equal(copy[1].depth, eigen[1].depth)
    assert copy.fingerprint == eigen.fingerprint != benchmark.fingerprint


@pytest.mark.parametrize(
    "place", ["train", "val", "data_depth_annotated", "data_depth_annotated/val"]
)
def test_improved_ground_truth_where_its_archive_unpacks_it(tmp_path, place):
    folder = write_drive(tmp_path, [16], improved=[16])
    target = tmp_path / place / folder.name
    target.mkdir(parents=True)
    (folder / "proj_depth").rename(target / "proj_depth")
    assert only(KittiRaw(tmp_path, "eigen_benchmark")) == [16]


def test_png_is_preferred_to_jpeg(tmp_path):
    folder = write_drive(tmp_path, [0, 16], scans=[0, 16]) / "image_02" / "data"
    Image.open(folder / "0000000016.png").save(folder / "0000000016.jpg")
    Image.open(folder / "0000000000.png").save(folder / "0000000000.jpg")
    (folder / "0000000000.png").unlink()
    files = KittiRaw(tmp_path).files
    assert [part["image"].suffix for part in files.values()] == [".jpg", ".png"]


def test_zhou_needs_split_files_and_gives_neighbours(tmp_path):
    folder = write_drive(tmp_path / "raw", range(3))
    lists = tmp_path / "lists"
    lists.mkdir()
    lines = f"{DRIVE} 0000000001 r\n\n  {DRIVE} 1 l\n{DRIVE} 2 l\n"
    (lists / "train_files.txt").write_text(lines)
    (lists / "val_files.txt").write_text(f"{DRIVE} 1 l\n{DRIVE} one l\n")
    source = KittiRaw(tmp_path / "raw", "eigen_zhou/train", split_files=lists)
    assert source.ids == (f"{DRIVE} 1 r", f"{DRIVE} 1 l")
    assert source.gaps == {f"{DRIVE} 2 l": "following"}
    right, left = source[0], source[1]
    for sample, own, other in ((left, 2, 3), (right, 3, 2)):
        pictures = [(own, 1), (own, 0), (own, 2), (other, 1)]
        for name, (camera, frame) in zip(
            ("image", "previous", "following", "stereo"), pictures, strict=True
        ):
            file = folder / f"image_0{camera}" / "data" / f"{frame:010d}.png"
            np.testing.assert_array_equal(getattr(sample, name), np.asarray(Image.open(file)))
        assert sample.depth is None
    assert (left.stereo_offset, right.stereo_offset) == (OFFSET, -OFFSET)
    with pytest.raises(DataError, match=r"val_files.txt, line 2: .* is no frame; expected day/dri"):
        KittiRaw(tmp_path / "raw", "eigen_zhou/val", split_files=lists)
    with pytest.raises(DataError, match="needs a folder with train_files"):
        KittiRaw(tmp_path / "raw", "eigen_zhou/train")
    (lists / "val_files.txt").write_text("\n\n")
    with pytest.raises(DataError, match="no frames in it"):
        read_split_file(lists / "val_files.txt")


def test_moving_split(tmp_path):
    write_drive(tmp_path, range(3), "drive_0009")  # holds test frames
    standing = dict.fromkeys(range(40, 51), 0.3)
    folder = write_drive(tmp_path, range(110), "drive_0001", speeds={3: 9.0} | standing)
    (folder / "image_03" / "data" / "0000000020.png").unlink()
    train, val = KittiRaw(tmp_path, "moving/train"), KittiRaw(tmp_path, "moving/val")
    expected = [n for n in (*range(1, 80), *range(100, 109)) if n not in standing and n != 20]
    assert only(train) == expected
    assert only(val) == list(range(82, 98))
    seen = {n + d for n in only(train) for d in (-1, 0, 1)}
    assert not seen & {n + d for n in only(val) for d in (-1, 0, 1)}
    assert train[0].following is not None


def test_damage_is_named(tmp_path):
    folder = write_drive(tmp_path, range(0, 65, 16), scans=range(0, 65, 16), improved=[16, 32])
    source = KittiRaw(tmp_path)
    pictures = folder / "image_02" / "data"
    whole = (pictures / "0000000016.png").read_bytes()
    (pictures / "0000000016.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "0000000032.png").unlink()
    Image.new("RGB", (40, 12)).save(pictures / "0000000048.png")
    scan = folder / "velodyne_points" / "data" / "0000000064.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    assert source[0].depth is not None
    for index, message in (
        (1, r"0000000016.png: damaged or no image; copy it again"),
        (2, r"0000000032.png: no such file"),
        (3, r"0000000048.png: 40×12 pixels; expected 80×24"),
        (4, r"0000000064.bin: 4797 bytes are no whole number of points of 16 bytes"),
    ):
        with pytest.raises(DataError, match=message):
            source[index]
    improved = folder / "proj_depth" / "groundtruth" / "image_02" / "0000000032.png"
    (pictures / "0000000016.png").write_bytes(whole)
    Image.new("L", (80, 24)).save(improved.with_name("0000000016.png"))
    Image.new("RGB", (80, 24)).save(pictures / "0000000032.png")
    improved.write_bytes(improved.read_bytes()[:100])
    benchmark = KittiRaw(tmp_path, "eigen_benchmark")
    with pytest.raises(DataError, match="a picture of kind L, not a depth map"):
        benchmark[0]
    with pytest.raises(DataError, match=r"groundtruth.*damaged or no PNG"):
        benchmark[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("P_rect_02", "P_rect_92"), "no entry P_rect_02 of 12 numbers"),
        (("P_rect_02: 4.000000e+01", "P_rect_02: forty"), "no entry P_rect_02 of 12 numbers"),
        (("P_rect_02: 4.000000e+01", "P_rect_02: 0"), "P_rect_02 has no focal length"),
        (("R_rect_00: 1.000000e+00", "R_rect_00: nan"), "R_rect_00 is not finite"),
    ],
)
def test_damaged_calibration(tmp_path, change, message):
    write_calibration(tmp_path)
    file = tmp_path / "calib_cam_to_cam.txt"
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(DataError, match=message):
        read_calibration(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such folder; expected KITTI's raw data"):
        KittiRaw(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"none of the 697 frames .* lack the picture"):
        KittiRaw(tmp_path)
    with pytest.raises(DataError, match="no split 'eigne'; there are: eigen, "):
        KittiRaw(tmp_path, "eigne")
    with pytest.raises(DataError, match="no frames for the split moving/val"):
        KittiRaw(tmp_path, "moving/val")
    write_drive(tmp_path, [16])
    with pytest.raises(DataError, match=r"1 lack the improved ground truth .* frame 16 of"):
        KittiRaw(tmp_path, "eigen_benchmark")
    write_drive(tmp_path, [16], scans=[16], improved=[16])
    source = KittiRaw(tmp_path)
    (tmp_path / DAY / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(grumo_jax.GrumoError, match=rf"{DAY}/calib_velo_to_cam.txt: no such file"):
        source[0]
    with pytest.raises(DataError, match=r"1 lack the calibration .*calib_velo_to_cam.txt"):
        KittiRaw(tmp_path)
    assert survey("kitti", tmp_path)[0].startswith(f"{DAY}: 1 drive, NO calibration")
    assert KittiRaw(tmp_path, "eigen_benchmark")[0].depth is not None  # needs no scanner


def test_fingerprint_notices_changed_files_wherever_they_lie(tmp_path):
    folder = write_drive(tmp_path / "a", range(0, 33, 16), scans=[0, 16])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    before = KittiRaw(tmp_path / "a").fingerprint
    assert KittiRaw(tmp_path / "b").fingerprint == before
    calibration = tmp_path / "a" / DAY / "calib_velo_to_cam.txt"
    for file in (folder / "velodyne_points/data/0000000016.bin", calibration):
        whole = file.read_bytes()
        file.write_bytes(whole[:-16])
        assert KittiRaw(tmp_path / "a").fingerprint != before
        file.write_bytes(whole)
    assert KittiRaw(tmp_path / "a").fingerprint == before


def test_training_splits_have_no_depth(tmp_path):
    write_drive(tmp_path, range(5), "drive_0001", scans=range(5))
    assert not KittiRaw(tmp_path, "moving/train").has_depth
    assert KittiRaw(tmp_path, "velodyne").has_depth


def test_depth_png_is_exact(tmp_path):
    every = (np.arange(65536, dtype=np.float32) / 256).reshape(256, 256)
    write_depth_png(tmp_path / "all.png", every)
    np.testing.assert_array_equal(read_depth(tmp_path / "all.png"), every)
    written = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "all.png")), written)
    with pytest.raises(DataError, match=r"300.0 m does not fit in 16 bits at 256 steps"):
        write_depth_png(tmp_path / "far.png", np.full((2, 2), 300.0))
