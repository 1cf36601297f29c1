"""The Python of README and docs runs as it stands, and links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!http)([^)#]+)")


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


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
