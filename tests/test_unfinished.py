"""What a full disk and a kill do to files: one sentence, and nothing left that counts."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

import grumo_jax
from grumo_jax._internal.atomic_writes import (
    disk_problem,
    noticing_disk_problems,
    remove_unfinished,
    unfinished,
    write_atomically,
)
from grumo_jax.cli.options import check_out
from grumo_jax.errors import CheckpointError, DataError, GrumoError
from grumo_jax.networks import checkpoint


def killed(script, *arguments):
    """Run a script that kills itself."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


WRITE = """
    import os, signal, sys
    from grumo_jax._internal.atomic_writes import write_atomically

    def write(stream):
        stream.write(b"half of it")
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    write_atomically(sys.argv[1], write)
"""


@pytest.fixture(scope="module")
def half_written(tmp_path_factory):
    """A folder in which a kill interrupted a write."""
    folder = tmp_path_factory.mktemp("killed")
    killed(WRITE, folder / "map.npz")
    return folder


def test_the_next_write_takes_the_place_of_what_a_kill_left(half_written, tmp_path):
    shutil.copytree(half_written, tmp_path, dirs_exist_ok=True)
    assert list(tmp_path.iterdir()) == [unfinished(tmp_path / "map.npz")]
    write_atomically(tmp_path / "map.npz", lambda stream: stream.write(b"all"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"map.npz": b"all"}


def test_the_next_command_removes_what_a_kill_left_and_nothing_else(half_written, tmp_path):
    shutil.copytree(half_written, tmp_path, dirs_exist_ok=True)
    for name in (".grumorc", ".hidden", "grumo.npz"):
        (tmp_path / name).write_text("precious")
    (tmp_path / ".grumo.folder").mkdir()

    def write(stream):
        stream.write(b"being ")
        stream.flush()
        check_out(tmp_path)
        stream.write(b"written")

    write_atomically(tmp_path / "other", write)
    assert (tmp_path / "other").read_bytes() == b"being written"
    names = {".grumorc", ".hidden", "grumo.npz", ".grumo.folder", "other"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_two_may_write_the_same_file(tmp_path):
    def write(stream):
        write_atomically(tmp_path / "file", lambda other: other.write(b"second"))
        assert (tmp_path / "file").read_bytes() == b"second"
        stream.write(b"first")

    write_atomically(tmp_path / "file", write)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"file": b"first"}


def test_names_may_be_as_long_as_any_can_be(tmp_path):
    for name in ("a" * 255, "𝄞" * 63):
        write_atomically(tmp_path / name, lambda stream: stream.write(b"all"))
        assert (tmp_path / name).read_bytes() == b"all"


def test_a_folder_that_is_not_there_has_nothing_to_remove(tmp_path):
    remove_unfinished(tmp_path / "nowhere")


SAVE = """
    import os, signal, sys
    from pathlib import Path
    import grumo_jax
    from grumo_jax.networks import checkpoint

    place, where = sys.argv[2].split()
    end = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    loaded = grumo_jax.load_checkpoint(sys.argv[1])
    if where == "renaming":
        rename = Path.rename
        Path.rename = lambda old, new: end() if old.name == "new" else rename(old, new)
    else:
        setattr(checkpoint, where, end)
    grumo_jax.save_checkpoint(Path(sys.argv[1]).parent / place, *loaded, overwrite=True)
"""


@pytest.mark.parametrize(
    "where",
    [
        "network renaming",
        pytest.param("network _write_card", marks=pytest.mark.slow),
        pytest.param("other _write_card", marks=pytest.mark.slow),
    ],
)
def test_the_next_save_removes_what_a_kill_left(tiny, tmp_path, where):
    model, variables = tiny
    grumo_jax.save_checkpoint(tmp_path / "network", model, variables)
    killed(SAVE, tmp_path / "network", where)
    place = tmp_path / where.split()[0]
    assert (unfinished(place) / "new").is_dir(), "a copy of the weights"
    assert place.exists() == (where == "network _write_card")
    grumo_jax.save_checkpoint(place, model, variables, overwrite=True)
    grumo_jax.load_checkpoint(place)
    assert {file.name for file in tmp_path.iterdir()} == {"network", place.name}


def test_what_a_living_process_is_saving_is_left_alone(tiny, tmp_path, monkeypatch):
    save = checkpoint._save_alone

    def save_twice(*arguments):
        save(*arguments)
        with pytest.raises(CheckpointError, match="another process is saving there"):
            grumo_jax.save_checkpoint(tmp_path / "network", *tiny)

    monkeypatch.setattr(checkpoint, "_save_alone", save_twice)
    grumo_jax.save_checkpoint(tmp_path / "network", *tiny)
    grumo_jax.load_checkpoint(tmp_path / "network")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("write() failed: No space left on device; writing x"), "No space left on de"),
        (ValueError("RESOURCE_EXHAUSTED: Disk quota exceeded [OS error 122]"), "Disk quota exceed"),
        (ExceptionGroup("saving", [OSError(30, "Read-only file system")]), "Read-only file system"),
        (RuntimeError("a mistake of the program"), None),
    ],
    ids=str,
)
def test_errors_of_other_libraries_about_disks_are_one_sentence(error, said):
    wrapped = KeyError("first")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        problem = disk_problem(one)
        assert problem == said if said is None else problem.startswith(said)
    expected, message = (
        (DataError, "data: cannot be written .") if said else (RuntimeError, "a mis")
    )
    with pytest.raises(expected, match=message), noticing_disk_problems("data", DataError):
        raise error


@pytest.mark.parametrize("size", [100, 2**20])
def test_the_file_that_does_not_fit_is_named(tmp_path, size):
    """However late the system says so: as it is written, or as the last of it is."""
    file, before = tmp_path / "file", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as found:
            write_atomically(file, lambda stream: stream.write(bytes(size)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found.value.filename == str(file)
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_cannot_write_a_file_is_said_with_its_name(tmp_path):
    def write(stream):
        raise RuntimeError("write() failed: No space left on device")

    with pytest.raises(GrumoError, match=r"file: cannot be written \(No space left on device\)"):
        write_atomically(tmp_path / "file", write)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_standard_output_on_a_full_disk():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "grumo", "layers", "checkpoints/synthetic"]
        folder = os.path.dirname(os.path.dirname(__file__))
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=folder, check=False
        )
    assert (ended.returncode, ended.stderr) == (2, "grumo: output: No space left on device\n")


def test_a_checkpoint_on_a_full_disk(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    for place in ("posix_fallocate", "fsync"):
        if not hasattr(os, place):
            continue
        monkeypatch.setattr(os, place, full)
    with pytest.raises(CheckpointError, match=r"network: cannot be written \(No space left on dev"):
        grumo_jax.save_checkpoint(tmp_path / "network", *tiny)
    assert list(tmp_path.iterdir()) == []
