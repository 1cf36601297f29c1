"""The page in a real browser, and `grumo report`."""

import html.parser
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from results_files import found, write

from grumo_jax.cli import main
from grumo_jax.report import (
    make_html,
    make_tables,
    summarize,
)


class Page(html.parser.HTMLParser):
    """Checks nesting, and collects what a page refers to and its data."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.addresses, self.scripts, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [given[key] for key in ("src", "href") if key in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


EVIL = "</script><script>alert('x')</script><img src=http://a>"


def evil_report(folder):
    images = {EVIL: {EVIL: found(0.3), "depth": found(0.2)}, "bad": f"{EVIL}: damaged"}
    path = write(folder / "evil.jsonl", images, base_model=EVIL, dataset=EVIL, missing=[EVIL])
    summary = summarize(path)
    return make_html([summary], make_tables([summary]))


def test_page_is_sound_and_self_contained(mixed):
    pictures = mixed.parent / "pictures"
    pictures.mkdir()
    Image.fromarray(np.zeros((20, 60, 3), np.uint8)).save(pictures / "000002.png")
    (pictures / "000000.png").write_bytes(b"damaged")
    summary = summarize(mixed)
    page = Page(make_html([summary], make_tables([summary])))
    assert any(address.startswith("data:image/") for address in page.addresses)
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address[0] == "#"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    (model,) = json.loads(page.scripts[0])
    assert [image[1] for image in model["images"]] == ["a", "c"]
    assert model["scores"]["grad"][1][3] == 0.75
    assert model["scores"]["grad"][1][-1] is None
    assert list(model["pictures"]) == ["2"]


def test_page_escapes_what_comes_from_data(tmp_path):
    text = evil_report(tmp_path)
    page = Page(text)
    assert EVIL not in text
    assert len(page.scripts) == 2
    assert not any(address.startswith("http") for address in page.addresses)
    (model,) = json.loads(page.scripts[0])
    assert (model["label"], model["images"][0][1]) == (EVIL, EVIL)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def browse(address, profile):
    """The page as a browser leaves it once its scripts have run."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --virtual-time-budget=3000"
    )
    result = subprocess.run(
        [CHROMIUM, *options.split(), f"--user-data-dir={profile}", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout


def test_browser_sorts_and_filters(tmp_path):
    images = {
        f"i{n}": {"grad": found(v), "var": found(1 - v)} for n, v in enumerate((0.3, 0.1, 0.2))
    }
    images["other"] = {"grad": found(0.9), "var": found(pixels=0)}
    summary = summarize(write(tmp_path / "r.jsonl", images))
    file = tmp_path / "report.html"
    file.write_text(make_html([summary], make_tables([summary])))
    state = "sort=ause.abs_rel&descending&estimator=var&filter=I"
    text = browse(f"{file.as_uri()}#{state}", tmp_path / "profile")
    body = text.split('<tbody id="images-body">')[1].split("</tbody>")[0]
    assert re.findall(r"<bdi[^>]*>(.*?)</bdi>", body) == ["i1", "i2", "i0"]
    assert "<td>0.900</td>" in body
    assert "3 of 4 images" in text
    assert 'aria-sort="descending"><button type="button" data-key="ause.abs_rel"' in text
    worst = text.split('<ol id="worst">')[1].split("</ol>")[0]
    assert re.findall(r"<li>(\w+)", worst) == ["i1", "i2"]


def test_browser_runs_nothing_of_the_data(tmp_path):
    file = tmp_path / "report.html"
    file.write_text(evil_report(tmp_path))
    text = browse(file.as_uri(), tmp_path / "profile")
    assert text.count("<script") == 2
    assert "src=http" not in text.replace("&lt;img src=http", "").replace("\\u003cimg src=http", "")


def test_command_line(grumo, mixed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, errors = grumo("report", mixed, "--out", "out")
    assert not status, errors
    assert out.startswith("**Depth and uncertainty on street, protocol outdoor**")
    assert out.splitlines()[-1] == f"report: {(tmp_path / 'out' / 'report.html').resolve()}"
    stems = ("curves", "sparsification", "bands")
    tables = ("main", "ranking", "bands_abs_rel", "bands_rmse", "gain")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "report.html",
        "tables.md",
        "tables.tex",
        *(f"{name}.csv" for name in tables),
        *(f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")),
    }
    assert out.splitlines()[0] in (tmp_path / "out" / "tables.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.jsonl",), "nothing.jsonl: no such file or directory"),
        (("no.jsonl",), "no.jsonl: no results file of grumo_jax"),
        (("mixed.jsonl", "rooms.jsonl"), "are of different data sets (street and rooms)"),
        (("mixed.jsonl", "--out", "no.jsonl"), "no.jsonl: a file; --out names the folder"),
    ],
)
def test_command_line_mistakes(mixed, tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "no.jsonl").write_text('{"a": 1}\n')
    write(tmp_path / "rooms.jsonl", {"a": {"grad": found()}}, dataset="rooms")
    monkeypatch.chdir(mixed.parent)
    monkeypatch.setattr(sys, "argv", ["grumo", "report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "report").exists()
