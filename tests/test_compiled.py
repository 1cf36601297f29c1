"""Compiled programs kept between starts, in processes of their own."""

import os
import subprocess
import sys

import pytest

from grumo_jax.cli.compiled import _forget_oldest

PROGRAM = """
from grumo_jax.cli.compiled import keep_compiled
keep_compiled()
import jax
jax.jit(lambda x: x + 1)(1.0)
print(jax.config.jax_compilation_cache_dir)
"""


def start(**variables):
    """Run the program; where it keeps what it compiles."""
    kept = {"JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}
    environment = {k: v for k, v in os.environ.items() if k not in kept} | variables
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return run.stdout.strip()


@pytest.mark.slow
def test_the_second_start_compiles_nothing(tmp_path):
    folder = start(XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "grumo_jax" / "compiled-"))
    kept = {name: os.stat(f"{folder}/{name}").st_mtime_ns for name in os.listdir(folder)}
    assert any(name.startswith("jit__lambda") for name in kept)
    assert start(XDG_CACHE_HOME=str(tmp_path)) == folder
    assert kept == {name: os.stat(f"{folder}/{name}").st_mtime_ns for name in os.listdir(folder)}
    assert start(HOME=str(tmp_path)).startswith(str(tmp_path / ".cache" / "grumo_jax"))


@pytest.mark.slow
def test_jax_is_obeyed(tmp_path):
    own = tmp_path / "own"
    assert start(HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(own)) == str(own)
    assert start(HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false") == "None"
    (tmp_path / "file").write_text("")
    nowhere = {"HOME": str(tmp_path / "file"), "MPLCONFIGDIR": str(tmp_path)}
    assert start(**nowhere) == "None", "nowhere to write to"
    assert not (tmp_path / ".cache" / "grumo_jax").exists()


def test_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr("grumo_jax.cli.compiled.LARGEST", 25)
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (100 - age, 100 - age))
    _forget_oldest(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("size", [0, 2])
def test_few_are_all_kept(tmp_path, size):
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(size))
    _forget_oldest(tmp_path)
    assert len(os.listdir(tmp_path)) == 2
