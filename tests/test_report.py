"""From results files to tables, pictures and a page: hand-worked files and a real browser."""

import csv
import dataclasses
import html.parser
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grumo_jax.cli import main
from grumo_jax.errors import ResultsError
from grumo_jax.evaluation.results import ResultsWriter
from grumo_jax.report import (
    Cell,
    Column,
    Table,
    compare,
    gain_table,
    make_html,
    make_tables,
    summarize,
)
from grumo_jax.report.curves import (
    plot_all_bands,
    plot_all_sparsification_errors,
    plot_bands,
    plot_sparsification_error,
    plot_sparsification_grid,
)
from grumo_jax.report.gain import scene
from grumo_jax.report.html_table import html_table
from grumo_jax.report.marking import mark_column
from grumo_jax.report.pages import error_over_photo, plot_case
from grumo_jax.report.tables import labels

METRICS = ("abs_rel", "rmse", "a1")
PROTOCOL = {"name": "outdoor", "max_depth": 80.0, "bands": [0, 10, 80]}


def found(ause=0.25, *, pixels=100, detection=0.75, bands=(60, 40), **changes):
    """What a row says of an estimator; `ause` of all metrics, AURG 1 − ause."""
    areas = {name: [ause, 2 * ause] for name in METRICS}
    return {
        "scale": 1.0,
        "pixels": pixels,
        "errors": dict.fromkeys(("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3"), 0.5),
        "ause": dict.fromkeys(METRICS, ause),
        "aurg": dict.fromkeys(METRICS, 1 - ause),
        "normalized_ause": dict.fromkeys(METRICS, 2 * ause),
        "spearman": 0.5,
        "detection": detection and {"auroc": detection, "aupr": 0.5, "fpr95": 0.25, "wrong": 0.125},
        "curves": {name: [1.0, ause + 0.5, 0.0] for name in METRICS},
        "oracle": {name: [1.0, 0.5, 0.0] for name in METRICS},
        "bands": bands and {"pixels": bands, "errors": areas, "ause": areas, "aurg": areas},
        **changes,
    }


def write(path, images, *, expected=None, **configuration):
    """A results file: {id: {estimator: found(...)} or a problem's sentence}."""
    names = [name for row in images.values() if isinstance(row, dict) for name in row]
    header = {
        "checkpoint": "net (sha256 0123)",
        "base_model": "Mono",
        "dataset": "street",
        "fingerprint": "f",
        "images": len(images) if expected is None else expected,
        "missing": [],
        "protocol": PROTOCOL,
        "estimators": dict.fromkeys(names, "?"),
        **configuration,
    }
    with ResultsWriter(path, header) as writer:
        for index, (name, row) in enumerate(images.items()):
            kind = "estimators" if isinstance(row, dict) else "problem"
            writer.append([{"index": index, "id": name, kind: row}])
    return path


@pytest.fixture
def mixed(tmp_path):
    """Two good images, a damaged one, an empty one, nulls, and one missing frame."""
    images = {
        "a": {"grad": found(0.25), "depth": found(0.5)},
        "b": "b: damaged or no image",
        "c": {"grad": found(0.75, detection=None, bands=(100, 0)), "depth": found(0.5)},
        "d": {"grad": found(9.0, pixels=0), "depth": found(9.0, pixels=0)},
    }
    return write(tmp_path / "mixed.jsonl", images, missing=["e"])


def test_means_count_images_with_pixels_only(mixed):
    summary = summarize(mixed)
    grad = summary.estimators["grad"]
    assert (grad.images, grad.means["ause.rmse"], grad.means["aurg.a1"]) == (2, 0.5, 0.5)
    assert (grad.means["detection.auroc"], grad.counts["detection.auroc"]) == (0.75, 1)
    np.testing.assert_array_equal(grad.curves["a1"], [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(grad.oracle["a1"], [1.0, 0.5, 0.0])
    # Image c has no pixels in the second band: 2 · 0.25 of image a alone.
    np.testing.assert_array_equal(grad.bands["ause.abs_rel"], [0.5, 0.5])
    np.testing.assert_array_equal(grad.band_images, [2, 1])
    assert [image.id for image in summary.images] == ["a", "c"]
    assert summary.problems == (("b", "b: damaged or no image"),)
    assert summary.empty == ("d",)
    assert summary.coverage == (
        "means over 2 of 4 images; 1 damaged or failed; 1 without valid pixels; "
        "1 of the data set missing on disk"
    )


def test_what_no_image_defines_is_nan_and_bands_may_be_missing(tmp_path):
    images = {"a": {"grad": found(detection=None, bands=None, spearman=None)}}
    summary = summarize(write(tmp_path / "r.jsonl", images))
    means = summary.estimators["grad"].means
    assert math.isnan(means["detection.aupr"])
    assert math.isnan(means["spearman"])
    tables = make_tables([summary])
    assert [table.name for table in tables] == ["main", "ranking"]
    assert "–" in tables[1].to_markdown()
    assert ",,,," in tables[1].to_csv()
    assert plot_all_sparsification_errors([summary]).axes
    assert "AUROC" in make_html([summary], tables)


def test_null_within_a_band_does_not_count(tmp_path):
    one, other = found(), found()
    other["bands"]["ause"] = {name: [None, 8.0] for name in METRICS}
    summary = summarize(write(tmp_path / "r.jsonl", {"a": {"grad": one}, "b": {"grad": other}}))
    np.testing.assert_array_equal(summary.estimators["grad"].bands["ause.rmse"], [0.25, 4.25])


def test_unfinished_files_say_so(tmp_path):
    path = write(tmp_path / "r.jsonl", {"a": {"grad": found()}}, expected=697)
    with path.open("a") as stream:
        stream.write('{"index": 1, "id"')  # a run was killed
    summary = summarize(path)
    assert not summary.finished
    assert "1 of 697 images so far" in summary.coverage
    assert "1 of 697 images so far" in make_html([summary], make_tables([summary]))


def test_a_file_without_rows_can_be_reported(tmp_path):
    summary = summarize(write(tmp_path / "r.jsonl", {}, expected=3, estimators={"grad": "?"}))
    tables = make_tables([summary])
    assert "–" in tables[0].to_markdown()
    assert gain_table([summary]) is None
    plot_sparsification_grid(summary)
    assert "0 of 3 images so far" in make_html([summary], tables)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{nonsense}", "line 3 is damaged"), ('{"index": 1, "id": "b"}', "line 3 is no row")],
)
def test_damaged_rows_are_named(tmp_path, line, message):
    path = write(tmp_path / "r.jsonl", {"a": {"grad": found()}})
    with path.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ResultsError, match=message):
        summarize(path)


def test_base_models_have_labels(tmp_path):
    nameless = write(tmp_path / "r.jsonl", {"a": {"grad": found()}}, base_model=None)
    assert summarize(nameless).base_model == "net (sha256 0123)"
    twice = [summarize(write(tmp_path / f"{n}.jsonl", {"a": {"grad": found()}})) for n in "xy"]
    rows = make_tables(twice)[0].rows
    assert [row[0] for row in rows] == ["Mono (x)", "Mono (y)"]


def test_labels_are_unique(tmp_path):
    def labels_of(*files):
        images = {"a": {"grad": found()}}
        summaries = []
        for file, name in files:
            path = tmp_path / file / "results.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            summaries.append(summarize(write(path, images, base_model=name)))
        return labels(summaries)

    assert labels_of(("a/run", "M"), ("b/run", "M"), ("c", "N")) == ["M (a)", "M (b)", "N"]
    assert labels_of(("a", "M"), ("b", "M")) == ["M (a)", "M (b)"]
    assert labels_of(("a/b", "M"), ("a/c", "M"), ("b/c", "M")) == ["M (1)", "M (2)", "M (3)"]
    assert labels_of(("a", "M"), ("b", "M"), ("c", "M (a)")) == [
        "M (a) (1)", "M (b) (2)", "M (a) (3)"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "rooms"}, r"x.jsonl and .*y.jsonl are of different data sets \(street and"),
        ({"protocol": {**PROTOCOL, "name": "indoor"}}, r"different protocols \(outdoor and indoor"),
        ({"protocol": {**PROTOCOL, "max_depth": 50.0}}, "different protocols"),
        ({"fingerprint": "g"}, "different images"),
    ],
)
def test_what_cannot_be_compared_is_not_put_side_by_side(tmp_path, changes, message):
    images = {"a": {"grad": found()}}
    first = summarize(write(tmp_path / "x.jsonl", images))
    second = summarize(write(tmp_path / "y.jsonl", images, **changes))
    with pytest.raises(ResultsError, match=message):
        make_tables([first, second])


LOWER = Column("AUSE", "lower")


def marks(values, kinds, column=LOWER, *, against_baselines=True):
    cells = mark_column(values, kinds, column, against_baselines=against_baselines)
    return [("b" if cell.bold else "") + cell.mark for cell in cells]


def test_bold_and_marks():
    kinds = ("method", "method", "method", "baseline", "published")
    # Ties are judged as shown: 0.1001 and 0.1004 read alike. Baselines are never bold.
    assert marks((0.1001, 0.1004, 0.3, 0.2, 0.0), kinds) == ["b", "b", "†", "", ""]
    # A method that only ties with the baseline does not beat it.
    assert marks((0.2, 0.3, 0.4, 0.2, 0.0), kinds) == ["b†", "†", "†", "", ""]
    assert marks((0.2, 0.3, 0.4, 0.1, 0.0), kinds) == ["b†", "†", "†", "‡", ""]
    rising = Column("AURG", "higher")
    assert marks((0.2, 0.3, math.nan, 0.25, 9.0), kinds, rising) == ["†", "b", "", "", ""]
    # Where all methods read alike nothing is best; errors of depth are not the baselines' own.
    assert marks((0.2, 0.2, 0.2, 0.1, 0.0), kinds, against_baselines=False) == [""] * 5
    assert marks((0.2, 0.3, 0.4, 0.1, 0.0), kinds, Column("wrong")) == [""] * 5
    # A single method is the best of nothing.
    assert marks((0.2, 0.1), ("method", "baseline")) == ["†", "‡"]
    assert marks((0.1, 0.2), ("method", "baseline")) == ["", ""]
    assert marks((0.2, 0.1), ("baseline", "baseline")) == ["", ""]


def test_rows_are_ordered_and_baselines_set_off(tmp_path):
    images = {"a": {n: found(v) for n, v in {"depth": 0.3, "grad": 0.2, "row": 0.1}.items()}}
    summary = summarize(write(tmp_path / "r.jsonl", images))
    published = {("Mono", "grad"): {"ause.abs_rel": 0.05}, ("Mono", "log"): {"ause.rmse": 0.04}}
    table = make_tables([summary], published)[0]
    names = ["grad", "grad (published)", "log (published)", "depth", "row"]
    assert [row[1] for row in table.rows] == names
    assert table.sections == {3: "baselines"}
    text = table.to_markdown()
    assert "*baselines*" in text
    assert "0.050" in text
    assert "**0.050**" not in text
    assert any(note.startswith("‡") for note in table.notes)
    assert any(note.startswith("†") for note in table.notes)
    with pytest.raises(ResultsError, match="published numbers of Other"):
        make_tables([summary], {("Other", "grad"): {"spearman": 0.5}})


def test_markdown_escapes():
    table = Table("a|b", (Column("x|y"), Column("n")), [("p|q *r* <i>", 0.5)], ["_note_ abs_rel"])
    lines = table.to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {4}
    assert r"p\|q \*r\* \<i\>" in rows[2]
    assert lines[-1] == r"- \_note\_ abs_rel"


def test_csv_keeps_every_digit(mixed, tmp_path):
    third = 1 / 3
    images = {"a": {"grad": found(third), 'a,b"c': found(0.1)}}
    table = make_tables([summarize(write(tmp_path / "r.jsonl", images))])[0]
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert float(rows[0]["ause.abs_rel"]) == third
    assert rows[0]["kind"] == "method"
    assert rows[1]["estimator"] == 'a,b"c'
    bands = make_tables([summarize(mixed)])[2].to_csv()
    assert "ause.abs_rel@0-10,aurg.abs_rel@0-10,ause.abs_rel@10-80" in bands.splitlines()[0]


def test_latex_has_balanced_columns_and_escapes(tmp_path):
    images = {"a": {"grad_%&#{}\\~^$": found(0.2), "depth": found(0.1)}}
    files = [summarize(write(tmp_path / f"{n}.jsonl", images, base_model=f"{n}_&")) for n in "xy"]
    for table in [*make_tables(files), gain_table(files, "depth")]:
        assert_sound_latex(table.to_latex())
    assert r"grad\_\%\&\#\{\}\textbackslash{}\textasciitilde{}" in table.to_latex()


def assert_sound_latex(text):
    width = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1])
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    for line in filter(lambda line: line.endswith(r"\\"), body.splitlines()):
        cells = re.split(r"(?<!\\)&", line)
        spans = [int(n) for cell in cells for n in re.findall(r"\\multicolumn\{(\d+)\}", cell)]
        assert len(cells) + sum(spans) - len(spans) == width, line
    assert text.replace(r"\{", "").count("{") == text.replace(r"\}", "").count("}")
    assert text.isascii()
    assert [*re.findall(r"\\begin\{(.*?)\}", text)] == [*re.findall(r"\\end\{(.*?)\}", text)][::-1]


def test_numbers_read_well():
    table = Table("t", (Column("n"),), [(-0.0001,), (math.nan,), (12,), (None,), (Cell(0.25),)])
    assert [table.text(row[0], 0) for row in table.cells()] == ["0.000", "–", "12", "", "0.250"]
    assert "NaN" not in html_table(table)


def test_bootstrap_is_that_of_a_loop(tmp_path):
    values = np.random.default_rng(5).uniform(size=(12, 2))
    images = {
        f"{chr(97 + i)}": {"grad": found(a), "var": found(b)} for i, (a, b) in enumerate(values)
    }
    summary = summarize(write(tmp_path / "r.jsonl", images))
    difference, samples = values[:, 0] - values[:, 1], 300
    result = compare(summary, "grad", "var", "ause.rmse", samples=samples, seed=7)
    draws = np.random.default_rng(7)
    means = [np.mean(difference[draws.integers(12, size=12)]) for _ in range(samples)]
    expected = [difference.mean(), *np.percentile(means, (2.5, 97.5))]
    np.testing.assert_allclose([result.mean, result.low, result.high], expected, rtol=1e-12)
    assert result.images == 12
    assert result.lower == np.mean(difference < 0)


def test_bootstrap_of_groups_is_that_of_a_loop(tmp_path):
    values = np.random.default_rng(5).uniform(size=12)
    names = [f"{'aab'[i % 3]}/{i}" for i in range(12)]
    images = {n: {"grad": found(v), "var": found(0.5)} for n, v in zip(names, values, strict=True)}
    summary = summarize(write(tmp_path / "r.jsonl", images))
    groups = [[v - 0.5 for n, v in zip(names, values, strict=True) if n[0] == g] for g in "ab"]
    draws, means = np.random.default_rng(0), []
    for _ in range(200):
        means.append(np.mean(np.concatenate([groups[g] for g in draws.integers(2, size=2)])))
    result = compare(summary, "grad", "var", group=scene, samples=200)
    np.testing.assert_allclose([result.low, result.high], np.percentile(means, (2.5, 97.5)))


def test_comparisons_that_cannot_be_made(mixed):
    summary = summarize(mixed)
    for names, message in {
        ("grad", "var", "ause.rmse"): "no estimator 'var', but grad, depth",
        ("grad", "depth", "ause.sq_rel"): "no 'ause.sq_rel' of images",
    }.items():
        with pytest.raises(ResultsError, match=message):
            compare(summary, *names)
    assert compare(summary, "grad", "depth", "detection.auroc").images == 1
    assert compare(summary, "grad", "grad", other=summary).mean == 0


def test_gain_is_bold_where_the_interval_is(tmp_path):
    images = {str(i): {"grad": found(0.5), "var": found(0.3 + 0.01 * i)} for i in range(10)}
    table = gain_table([summarize(write(tmp_path / "r.jsonl", images))])
    assert re.search(r"\*\*−0\.155 \[−0\.17\d, −0\.13\d\]\*\*", table.to_markdown())
    # AURG rises by as much: higher is better.
    assert re.search(r"\*\*\+0\.155 \[\+0\.13\d, \+0\.17\d\]\*\*", table.to_markdown())
    row = next(csv.DictReader(io.StringIO(table.to_csv())))
    assert float(row["ause.rmse.mean"]) == pytest.approx(-0.155)


def gains(path, names, better="var"):
    images = {n: {"grad": found(0.5), better: found(0.3 + 0.01 * i)} for i, n in enumerate(names)}
    return gain_table([summarize(write(path, images))])


def test_gain_says_what_its_intervals_are_worth(tmp_path):
    few = gains(tmp_path / "few.jsonl", [f"drive/{i}" for i in range(9)])
    assert few.notes == ["Mono: means of 9 images, too few for intervals."]
    assert "−0.160" in few.to_markdown()
    assert "**−" not in few.to_markdown()
    assert "[" not in few.to_markdown()
    row = next(csv.DictReader(io.StringIO(few.to_csv())))
    assert (row["ause.rmse.low"], row["ause.rmse.high"]) == ("", "")
    alike = gains(tmp_path / "alike.jsonl", [f"drive/{i}" for i in range(10)])
    assert "all of one drive or folder; frames of one drive look alike" in alike.notes[0]
    assert "too narrow" in alike.notes[0]
    single = gains(tmp_path / "single.jsonl", [str(i) for i in range(10)], "depth")
    assert single.notes == ["Mono: intervals from 4000 bootstrap samples of single images."]
    assert "**−" not in single.to_markdown()  # baselines are never bold


def test_plots(mixed):
    summary = summarize(mixed)
    other = dataclasses.replace(
        summary, configuration={**summary.configuration, "base_model": "Other"}
    )
    figure, axes = plot_sparsification_error([summary, other], "rmse")
    assert axes.figure is figure
    assert len(axes.lines) == 4
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0, 0.5, 0])
    assert axes.lines[0].get_color() != axes.lines[2].get_color()
    assert axes.lines[0].get_linestyle() == axes.lines[2].get_linestyle()
    assert axes.get_xlabel() == "fraction of removed pixels"
    assert {t.get_text() for t in axes.get_legend().get_texts()} == {
        "Mono", "Other", "grad", "depth"
    }  # fmt: skip
    _, bands = plot_bands(summary, "abs_rel")
    assert [t.get_text() for t in bands.get_xticklabels()] == ["0–10 m", "10–80 m"]
    for drawn in (plot_all_bands(summary), plot_sparsification_grid(summary)):
        drawn.savefig(io.BytesIO(), dpi=40)


def test_pages_show_sparse_errors(tmp_path):
    image = np.full((40, 120, 3), 0.5)
    error = np.full((40, 120), np.nan)
    error[10, 20], error[30, 80] = 0.1, 0.4
    painted = error_over_photo(image, error, np.isfinite(error))
    changed = np.any(painted != painted[0, 0], axis=-1)
    assert changed[9:12, 20].all()
    assert 2 < changed.sum() < 40
    assert painted[30, 80].sum() > painted[10, 20].sum()
    maps = {"grad": np.ones((40, 120)), "var": np.zeros((40, 120))}
    figure = plot_case(image, np.ones((40, 120)), error, maps, measure="abs_rel", title="a")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["image", "depth"]
    assert titles[2].startswith("abs_rel, brightest from 0.39")
    assert titles[3:5] == ["grad", "var"]
    nothing = plot_case(image, np.ones((40, 120)), np.full((40, 120), np.nan), {})
    assert nothing.axes[2].get_title() == "error: no ground truth"


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
    images["other"] = {"grad": found(0.9)}
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


def test_command_line(mixed, tmp_path):
    grumo = Path(sys.executable).with_name("grumo")
    result = subprocess.run(
        [grumo, "report", mixed, "--out", "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("**Depth and uncertainty on street, protocol outdoor**")
    assert (
        result.stdout.splitlines()[-1] == f"report: {(tmp_path / 'out' / 'report.html').resolve()}"
    )
    stems = ("curves", "sparsification", "bands")
    tables = ("main", "ranking", "bands_abs_rel", "bands_rmse", "gain")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "report.html",
        "tables.md",
        "tables.tex",
        *(f"{name}.csv" for name in tables),
        *(f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")),
    }
    assert result.stdout.splitlines()[0] in (tmp_path / "out" / "tables.md").read_text()


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
