"""Laser scans: whole ones are read, and nothing else."""

import numpy as np
import pytest
from helpers import need_shared
from layouts import DAY, write_calibration, write_drive

from grumo_jax.data.kitti import KittiRaw, read_calibration, read_scan
from grumo_jax.errors import DataError, GrumoWarning


def turn(beams=64):
    """A whole turn of the scanner over flat ground, 1.73 m below: float32 (N, 4)."""
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(2, -24.5, beams)), np.radians(np.arange(0, 360, 2)), indexing="ij"
    )
    distance = np.minimum(60, 1.73 / np.maximum(np.sin(-elevation), 1e-3))
    flat = distance * np.cos(elevation)
    points = [flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)]
    return np.stack([*points, np.full_like(flat, 0.3)], -1).reshape(-1, 4).astype("<f4")


@pytest.fixture
def read(tmp_path):
    def read(points):
        content = points if isinstance(points, bytes) else np.ascontiguousarray(points).tobytes()
        (tmp_path / "scan.bin").write_bytes(content)
        return read_scan(tmp_path / "scan.bin")

    return read


def test_a_whole_scan_is_read(read):
    np.testing.assert_array_equal(read(turn()), turn())
    ahead = turn()[turn()[:, 0] > 1]
    np.testing.assert_array_equal(read(ahead), ahead)


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.75, 0.9])
def test_a_cut_scan_is_noticed(read, share):
    data = turn().tobytes()
    with pytest.raises(
        DataError, match=r"scan.bin: incomplete scan: its rays, .* those of a whole"
    ):
        read(data[: int(len(data) * share) // 16 * 16])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.astype("<f8"), "not finite|coordinates up to|reflectance from"),
        (lambda p: p[:, :3], "reflectance from .* lies in .0, 1.; expected KITTI's float32 x, y"),
        (lambda p: np.hstack([p, p[:, 3:]]), "reflectance from"),
        (lambda p: p.astype(">f4"), "not finite|coordinates up to"),
        (lambda p: p.astype("<f2"), "not finite|coordinates up to|reflectance from"),
        (lambda p: (p * 1000).astype("<i4"), "not finite|coordinates up to"),
        (lambda p: p * np.float32([1, 1, 1, 255]), "reflectance from 76.5 to 76.5"),
        (lambda p: p * np.float32([1000, 1000, 1000, 1]), r"coordinates up to 6e\+04 m"),
        (lambda p: np.where(np.arange(len(p))[:, None] == 5, np.float32(np.nan), p), "4 numbers"),
        (lambda p: np.where(np.arange(len(p))[:, None] == 5, np.float32(np.inf), p), "4 numbers"),
        (lambda p: np.where(np.arange(len(p))[:, None] // 256 == 3, np.float32(0), p), "256 point"),
        (lambda p: p[:0], "0 bytes are no whole number of points"),
    ],
)
def test_other_content_is_noticed(read, change, message):
    with pytest.raises(DataError, match=message):
        read(change(turn()))


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "scan.bin").open("wb") as stream:
        stream.truncate(3 * 2**30)
    with pytest.raises(
        DataError, match=r"scan.bin: 3,072 MB; a file of this kind has 16 MB at mos"
    ):
        read_scan(tmp_path / "scan.bin")


def test_real_scans_are_whole_and_their_parts_are_not(read):
    files = sorted(need_shared("real", "kitti_raw").rglob("velodyne_points/data/*.bin"))
    assert files
    for file in files:
        assert len(read_scan(file)) > 100_000
        data = file.read_bytes()
        for share in (0.25, 0.5, 0.75, 0.97):
            with pytest.raises(DataError, match="incomplete scan"):
                read(data[: int(len(data) * share) // 4096 * 4096])


@pytest.mark.parametrize(
    ("file", "name", "values", "message"),
    [
        ("calib_cam_to_cam.txt", "R_rect_00", "1 0 0 0 1 0 0 0 10", "R_rect_00 is no rotation"),
        ("calib_cam_to_cam.txt", "R_rect_00", "1 0 0 0 1 0 0 0 -1", "R_rect_00 is no rotation"),
        ("calib_velo_to_cam.txt", "R", "1e300 0 0 0 1 0 0 0 1", "R is no rotation"),
        ("calib_velo_to_cam.txt", "T", "0 0 1e5", "T is no place on a car"),
        ("calib_cam_to_cam.txt", "P_rect_03", "1e-320" + " 0" * 11, "P_rect_03 has no focal len"),
    ],
)
def test_senseless_calibration_is_refused(tmp_path, file, name, values, message):
    write_calibration(tmp_path)
    lines = (tmp_path / file).read_text().splitlines()
    lines = [f"{name}: {values}" if line.startswith(f"{name}:") else line for line in lines]
    (tmp_path / file).write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"{file}: {message}"):
        read_calibration(tmp_path)


def test_real_calibration_has_sense():
    assert read_calibration(need_shared("real", "kitti_raw", DAY)).scanner_to_camera is not None


def test_a_damaged_record_of_speed_costs_its_frame_alone(tmp_path):
    folder = write_drive(tmp_path, range(6), "drive_0001", speeds={2: 9.0, 3: 9.0})
    (folder / "oxts/data/0000000002.txt").write_text("fast")
    with pytest.warns(GrumoWarning, match=r"0002.txt: no OXTS record .*; its frame is left out"):
        source = KittiRaw(tmp_path, "moving/train")
    assert [int(key.split()[1]) for key in source.ids] == [1, 3, 4]


@pytest.mark.parametrize("size", ["1e9 1e9", "0 375", "-4 375", "1e300 2", "1242 0.5"])
def test_pictures_of_senseless_size_are_refused(tmp_path, size):
    write_calibration(tmp_path)
    file = tmp_path / "calib_cam_to_cam.txt"
    lines = [
        f"S_rect_02: {size}" if line.startswith("S_rect_02") else line
        for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"S_rect_02 says .* pixels; expected KITTI's 1242×375"):
        read_calibration(tmp_path)
    file.write_bytes(b"\0" * (2**20 + 1))
    with pytest.raises(
        DataError, match=r"calib_cam_to_cam.txt: 1 MB; a file of this kind has 1 MB"
    ):
        read_calibration(tmp_path)
