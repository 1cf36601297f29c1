"""The wheel: what it carries, and that it works where there is no clone of the repository."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling import build

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return folder / build.build_wheel(str(folder))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel's content, as `pip install` lays it out."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(installed, *arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def test_the_wheel_carries_one_network_and_what_the_program_needs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    networks = {name.split("/")[2] for name in names if name.startswith("grumo_jax/checkpoints/")}
    assert networks == {"README.md", "synthetic"}
    assert {"grumo.py", "grumo_jax/py.typed", "grumo_jax/report/page.css"} <= set(names)
    assert any(name.startswith("grumo_jax/photos/") for name in names)
    assert "grumo_jax/data/kitti/eigen_test.txt" in names
    # None of this repository's own folders lands among the user's packages.
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"grumo.py", "grumo_jax"}
    assert wheel.stat().st_size < 6e6


PROGRAM = """
import grumo_jax
from grumo_jax.cli.demo import _network_of_the_drive
print(grumo_jax.shipped_checkpoint("synthetic"))
print(_network_of_the_drive().name)
try:
    grumo_jax.shipped_checkpoint("synthetic-mono")
except grumo_jax.errors.CheckpointError as error:
    print(error)
"""


def test_without_a_clone_one_network_is_there_and_a_sentence_leads_to_the_others(
    installed, tmp_path
):
    result = run_installed(installed, "-c", PROGRAM, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    place, drive, sentence = result.stdout.splitlines()
    assert Path(place) == installed / "grumo_jax/checkpoints/synthetic"
    assert drive == "synthetic"
    assert sentence == (
        "no checkpoint 'synthetic-mono' comes along; there are: synthetic; the others lie in "
        "checkpoints/ of the repository: clone it and give their path"
    )


@pytest.mark.slow
def test_the_installed_program_predicts_a_shipped_photo(installed, tmp_path):
    package = installed / "grumo_jax"
    command = ("-m", "grumo", "predict", package / "checkpoints/synthetic", package / "photos")
    result = run_installed(installed, *command, "--out", "results", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "results").glob("pagoda*"))


def bounds(lines):
    return {name: version for name, version in (BOUND.match(line).groups() for line in lines)}


BOUND = re.compile(r"([\w-]+)[>=]=([\d.]+)")


def test_the_oldest_versions_that_are_tested_are_those_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = bounds([*project["dependencies"], *extras["train"], *extras["data"]])
    pinned = (ROOT / ".ci/oldest.txt").read_text().splitlines()
    tested = bounds(line for line in pinned if not line.startswith("#"))
    # JAX is pinned with the half of it that is compiled.
    assert tested.pop("jaxlib") == tested["jax"]
    assert {name: padded(v) for name, v in tested.items()} == {
        name: padded(v) for name, v in allowed.items()
    }


def padded(version):
    """1.2 and 1.2.0 are the same version."""
    numbers = tuple(map(int, version.split(".")))
    return (*numbers, 0, 0)[:3]
