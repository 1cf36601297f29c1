"""Preparing data: equality with the originals, interruption, damage, the command."""

import dataclasses
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import need_shared
from layouts import DAY, write_drive, write_nyu

from grumo_jax import cli
from grumo_jax.data import KittiRaw, load, open_prepared, open_source, prepare
from grumo_jax.data.prepared import PreparedSource, open_raw
from grumo_jax.errors import DataError

pytest.importorskip("array_record", reason="array_record is not installed (extra: data)")
tfds = pytest.importorskip("tensorflow_datasets", reason="TFDS is not installed (extra: data)")
GRUMO = Path(sys.executable).with_name("grumo")
DRIVE = f"{DAY}/{DAY}_drive_0009_sync"


def assert_same(prepared, raw):
    """Every sample, value for value, in the same order, and what is known of the split."""
    assert isinstance(prepared, PreparedSource)
    for name in ("name", "ids", "missing", "fingerprint", "crop", "has_depth"):
        assert getattr(prepared, name) == getattr(raw, name)
    for ours, theirs in zip(prepared, raw, strict=True):
        for field in dataclasses.fields(theirs):
            a, b = getattr(ours, field.name), getattr(theirs, field.name)
            np.testing.assert_array_equal(a, b)
            assert getattr(a, "dtype", type(a)) == getattr(b, "dtype", type(b))


def files_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.fixture
def kitti(tmp_path):
    frames = range(0, 65, 16)
    write_drive(tmp_path / "kitti", frames, scans=frames, improved=frames)
    return tmp_path / "kitti"


def grumo(monkeypatch, capsys, *arguments):
    """Run the command in this process: (status, output, errors)."""
    monkeypatch.setattr(sys, "argv", ["grumo", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    status = stopped.value.code
    return status or 0, out, err


@pytest.mark.parametrize("split", ["eigen", "eigen_benchmark", "velodyne"])
def test_kitti_is_the_same(kitti, split):
    outcome = prepare("kitti", split, kitti, kitti / "prepared")
    raw = open_source("kitti", kitti, split, raw=True)
    assert outcome.counts == {"test": len(raw)}
    assert_same(open_source("kitti", kitti, split), raw)
    assert_same(open_prepared("kitti", kitti / "prepared", split), raw)


def test_training_split_is_the_same(tmp_path):
    write_drive(tmp_path, range(110), "drive_0001")
    assert prepare("kitti", "moving", tmp_path, tmp_path / "p").counts == {"train": 88, "val": 16}
    for part in ("moving/train", "moving/val"):
        assert_same(open_prepared("kitti", tmp_path / "p", part), KittiRaw(tmp_path, part))


def test_a_part_without_frames_is_left_out(tmp_path):
    write_drive(tmp_path, range(4), "drive_0001")
    assert prepare("kitti", "moving", tmp_path, tmp_path / "p").counts == {"train": 2}
    with pytest.raises(DataError, match="the split moving/val of kitti is not prepared"):
        open_prepared("kitti", tmp_path / "p", "moving/val")


def test_nyu_is_the_same(tmp_path):
    names = ["val/official/00001", "val/official/00009", "train/a/00001", "train/a/00002"]
    write_nyu(tmp_path, names)
    for config in ("val", "train"):
        prepare("nyu", config, tmp_path, tmp_path / "prepared")
    for split in ("val", "train", "held_out"):
        assert_same(open_source("nyu", tmp_path, split), open_raw("nyu", tmp_path, split))


def test_real_frames_are_the_same(tmp_path):
    root = need_shared("real", "kitti_raw")
    prepare("kitti", "eigen", root, tmp_path)
    prepared, raw = open_prepared("kitti", tmp_path, "eigen"), KittiRaw(root)
    assert_same(prepared, raw)
    loaded = list(load(pickle.loads(pickle.dumps(prepared)), lambda sample: sample.depth.sum()))
    assert [item.value for item in loaded] == [sample.depth.sum() for sample in raw]


def test_tfds_reads_and_builds_it_by_its_own_means(kitti, tmp_path):
    from grumo_jax.data.prepared import builders

    prepare("kitti", "eigen", kitti, tmp_path / "ours")
    folder = tmp_path / "ours" / "grumo_kitti" / "eigen" / "1.0.0"
    half = tfds.builder_from_directory(folder).as_data_source("test[:50%]")
    raw = KittiRaw(kitti)
    assert [example["id"].decode() for example in half] == list(raw.ids[: len(half)])
    np.testing.assert_array_equal(half[1]["image"], raw[1].image)
    np.testing.assert_array_equal(half[1]["depth"], raw[1].depth)
    builder = builders.GrumoKitti(
        config="eigen", data_dir=tmp_path / "theirs", file_format="array_record"
    )
    tfds.disable_progress_bar()
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=kitti))
    assert_same(open_prepared("kitti", tmp_path / "theirs", "eigen"), raw)


def test_nothing_is_done_twice_unless_the_data_change(kitti, tmp_path):
    def run(**options):
        return prepare("kitti", "eigen", kitti, tmp_path / "out", **options).reused

    assert not run()
    before = files_of(tmp_path / "out")
    assert run()
    assert files_of(tmp_path / "out") == before
    assert not run(overwrite=True)
    write_drive(kitti, [80], scans=[80])
    assert not run()
    assert len(open_prepared("kitti", tmp_path / "out", "eigen")) == 6
    next((tmp_path / "out").rglob("*.array_record*")).unlink()
    assert not run()
    (tmp_path / "out/grumo_kitti/eigen/1.0.0/metadata.json").write_text("{")
    assert not run()
    assert run()


def test_stale_prepared_data_are_refused(kitti, tmp_path, monkeypatch, capsys):
    prepare("kitti", "eigen", kitti, kitti / "prepared")
    fresh = open_source("kitti", kitti).fingerprint
    file = kitti / DRIVE / "velodyne_points" / "data" / "0000000032.bin"
    file.write_bytes(file.read_bytes()[:-16])
    with pytest.raises(DataError, match="prepared from other files than those in") as error:
        open_source("kitti", kitti)
    assert len(open_source("kitti", kitti, raw=True)) == 5
    # Without the originals prepared data are all there is.
    shutil.copytree(kitti / "prepared", tmp_path / "elsewhere" / "prepared")
    assert open_source("kitti", tmp_path / "elsewhere").fingerprint == fresh
    command = str(error.value).split("`")[1]
    assert grumo(monkeypatch, capsys, *command.split()[1:])[0] == 0
    assert_same(open_source("kitti", kitti), KittiRaw(kitti))


def test_killed_between_two_renames(kitti, tmp_path):
    """What was there has been moved aside, and what replaces it is not in its place yet."""
    out = tmp_path / "out"
    place = prepare("kitti", "eigen", kitti, out).folder
    before = files_of(out)
    aside = out / ".partial" / "replaced" / place.relative_to(out)
    aside.parent.mkdir(parents=True)
    place.rename(aside)
    prepare("kitti", "velodyne", kitti, out)  # another one must not remove it either
    assert files_of(place) == {
        name.removeprefix(f"{place.relative_to(out).as_posix()}/"): data
        for name, data in before.items()
    }
    assert prepare("kitti", "eigen", kitti, out).reused


def test_damage_is_named_and_left_out(kitti, monkeypatch, capsys):
    file = kitti / DRIVE / "image_02" / "data" / "0000000032.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:60])
    command = ("prepare", "kitti", "--data-dir", kitti, "--split", "eigen")
    status, out, err = grumo(monkeypatch, capsys, *command)
    assert status == 1
    assert "eigen: 5 of 697 frames" in out
    assert "eigen: prepared (4 in test)" in out
    assert err.splitlines() == [
        f"grumo: left out {file}: damaged or no image; copy it again",
        "grumo: 1 damaged frame left out",
    ]
    prepared = open_source("kitti", kitti)
    assert [key.split()[1] for key in prepared.ids] == ["0", "16", "48", "64"]
    assert f"{DRIVE} 32 l" in prepared.missing
    assert prepared[2].id == f"{DRIVE} 48 l"
    status, out, err = grumo(monkeypatch, capsys, *command)
    assert (status, "already prepared (4 in test)" in out) == (1, True)
    assert err.splitlines()[0] == f"grumo: left out earlier: {DRIVE} 32 l"
    file.write_bytes(whole)
    status, out, err = grumo(monkeypatch, capsys, *command)
    assert (status, err) == (0, "")
    assert_same(open_source("kitti", kitti), KittiRaw(kitti))


def test_all_damaged(kitti):
    for file in (kitti / DRIVE / "image_02" / "data").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="every frame is damaged"):
        prepare("kitti", "eigen", kitti, kitti / "prepared")
    assert not list((kitti / "prepared").glob("*"))[1:]


def test_the_command_lists_what_is_there(kitti, monkeypatch, capsys):
    shutil.rmtree(kitti / DRIVE / "proj_depth")
    status, out, err = grumo(monkeypatch, capsys, "prepare", "kitti", "--data-dir", kitti)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "2011_09_26: 1 drive, calibrated; 5 left and 5 right frames, 5 scans, 0 improved ground "
        "truth"
    )
    assert lines[1] == "eigen: 5 of 697 frames"
    assert "692 lack the picture" in lines[2]
    assert "2011_09_26_drive_0020_sync and 24 more; get it from KITTI's page" in lines[2]
    assert lines[3] == "eigen_benchmark: 0 of 652 frames"
    assert "4 lack the improved ground truth" in lines[5]
    assert "annotated depth maps" in lines[5]
    assert lines[-1].startswith("eigen: prepared (5 in test) in ")
    assert len(lines) == 7
    write_nyu(kitti, ["val/official/00001"])
    status, out, err = grumo(monkeypatch, capsys, "prepare", "nyu", "--data-dir", kitti)
    assert (status, err) == (0, "")
    assert "val: 1 of 654 frames" in out
    assert "nyudepthv2.tar.gz" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nyu", "--data-dir", "{kitti}"), "nothing of FastDepth's packing of NYU Depth V2"),
        (("kitti", "--data-dir", "{kitti}/none"), "none: no such folder"),
        (("kitti", "--data-dir", "{kitti}/2011_09_26"), "folder of a day; give the one above"),
        (("kitti", "--data-dir", "{kitti}/../empty"), "nothing of KITTI's raw data is there"),
        (("kitti", "--data-dir", "{kitti}", "--split", "test"), "no split 'test' to prepare"),
        (("kitti", "--data-dir", "{kitti}", "--split", "eigen_zhou"), "needs a folder with train_"),
        (
            ("kitti", "--data-dir", "{kitti}", "--split", "moving"),
            "no frames for the split moving/train",
        ),
    ],
)
def test_mistakes_end_in_one_sentence(kitti, monkeypatch, capsys, arguments, message):
    (kitti / "../empty").mkdir(exist_ok=True)
    filled = [argument.format(kitti=kitti) for argument in arguments]
    status, _, err = grumo(monkeypatch, capsys, "prepare", *filled)
    assert status == 2
    assert message in err
    assert err.startswith("grumo: ")
    assert len(err.splitlines()) == 1
    assert not (kitti / "prepared").exists()


@pytest.mark.parametrize("replacing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_killed_at_any_time(tmp_path, replacing):
    """SIGKILL while it writes: what was there stays, nothing half-written, then it works."""
    frames, out = range(0, 500, 16), tmp_path / "out"
    write_drive(tmp_path, frames, scans=frames, size=(240, 640))
    if replacing:
        prepare("kitti", "velodyne", tmp_path, out)
        write_drive(tmp_path, [500], scans=[500], size=(240, 640))
    before = files_of(out) if replacing else {}
    command = [GRUMO, "prepare", "kitti", "--data-dir", tmp_path, "--split", "velodyne"]
    process = subprocess.Popen(
        [*command, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not (out / ".partial").exists() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    assert (out / ".partial").exists()
    left = {name: data for name, data in files_of(out).items() if not name.startswith(".partial")}
    assert left == before
    prepare("kitti", "velodyne", tmp_path, out)
    assert not (out / ".partial").exists()
    assert_same(open_prepared("kitti", out, "velodyne"), KittiRaw(tmp_path, "velodyne"))


def test_a_second_process_is_sent_away(kitti, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is preparing data there"):
            prepare("kitti", "eigen", kitti, tmp_path / "out")


def test_damaged_prepared_data_are_noticed(kitti, tmp_path):
    prepare("kitti", "eigen", kitti, tmp_path)
    file = next(tmp_path.rglob("*.array_record*"))
    whole = file.read_bytes()

    def problem():
        with pytest.raises(
            DataError, match=r"damaged .*prepare it again with --overwrite"
        ) as error:
            list(open_prepared("kitti", tmp_path, "eigen"))
        return str(error.value)

    middle = len(whole) // 2
    file.write_bytes(whole[:middle])
    problem()
    flipped = bytes([whole[middle] ^ 255])
    file.write_bytes(whole[:middle] + flipped + whole[middle + 1 :])
    problem()
    file.write_bytes(b"")
    problem()
    file.unlink()
    problem()
    os.unlink(file.with_name("features.json"))
    assert "grumo_kitti" in problem()


def test_order_is_kept_across_files(tmp_path, monkeypatch):
    from grumo_jax.data.prepared import write

    monkeypatch.setattr(write, "_FRAMES_PER_FILE", 3)
    monkeypatch.setattr(write, "_FRAMES_AT_ONCE", 2)
    write_drive(tmp_path, range(20), scans=range(0, 20, 2))
    prepare("kitti", "velodyne", tmp_path, tmp_path / "out")
    assert len(list(tmp_path.rglob("*.array_record*"))) > 1
    prepared = open_prepared("kitti", tmp_path / "out", "velodyne")
    assert_same(prepared, KittiRaw(tmp_path, "velodyne"))
    assert prepared[-1].id == prepared.ids[-1]
    assert list(itertools.islice((s.id for s in prepared), 2)) == list(prepared.ids[:2])
