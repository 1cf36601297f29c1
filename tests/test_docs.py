"""The Python of README and docs runs as it stands; links, paths and commands lead somewhere."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import typer

from grumo_jax.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / folder / "README.md" for folder in ("benchmarks", "checkpoints", "experiments")),
        ROOT / "grumo_jax/_internal/README.md",
    ]
)
LINK = re.compile(r"\]\((?!http)([^)#]+)")
FILE = re.compile(r"\b(?:grumo_jax|tests|experiments|benchmarks|docs)/[\w/]+\.\w+")
CODE = re.compile(r"```sh\n(.*?)```|`(grumo [^`]*)`", re.DOTALL)


def pages_with(text):
    return [page for page in PAGES if re.search(text, page.read_text())]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("```python"), ids=lambda page: page.name)
def test_python_blocks_run(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    namespace = {"__name__": page.stem}
    for block in blocks:
        exec(compile(block, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", pages_with(LINK), ids=lambda page: page.name)
def test_links_exist(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", pages_with(FILE), ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    names = (name for name in FILE.findall(page.read_text()) if "NAME" not in name)
    assert not [name for name in names if not (ROOT / name).is_file()]


@functools.cache
def known_options():
    """{command of the program: its options}, from the program itself."""
    commands = typer.main.get_command(app).commands
    return {
        name: {"--help", *(option for p in command.params for option in p.opts)}
        for name, command in commands.items()
    }


def commands_of(page):
    """Every command on a page that begins with `grumo`, as words."""
    for block, inline in CODE.findall(page.read_text()):
        for line in (block or inline).replace("\\\n", " ").splitlines():
            if " grumo " in f" {line}":
                yield shlex.split(line.partition("grumo ")[2].replace("'", ""), comments=True)


@pytest.mark.parametrize("page", pages_with(CODE), ids=lambda page: page.name)
def test_commands_exist_with_their_options(page):
    for name, *words in commands_of(page):
        if name in known_options():
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert options <= known_options()[name], f"grumo {name}"
        else:
            assert name == "--version" or "|" in name, f"grumo {name}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
