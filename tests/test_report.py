"""From results files to means and tables, on hand-worked files."""

import csv
import io
import math
import re

import numpy as np
import pytest
from results_files import METRICS, PROTOCOL, found, write

from grumo_jax.errors import ResultsError
from grumo_jax.report import (
    Cell,
    Column,
    Table,
    gain_table,
    make_html,
    make_tables,
    summarize,
)
from grumo_jax.report.curves import (
    plot_all_sparsification_errors,
    plot_sparsification_grid,
)
from grumo_jax.report.marking import mark_column
from grumo_jax.report.tables import labels


def test_means_count_images_with_pixels_only(mixed):
    summary = summarize(mixed)
    grad = summary.estimators["grad"]
    assert (grad.images, grad.means["ause.rmse"], grad.means["aurg.a1"]) == (2, 0.5, 0.5)
    assert (grad.means["detection.auroc"], grad.counts["detection.auroc"]) == (0.75, 1)
    np.testing.assert_array_equal(grad.curves["a1"], [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(grad.oracle["a1"], [1.0, 0.5, 0.0])
    # Image c has no pixels in the second band: 2 · 0.25 of image a alone.
    assert [band.means["ause.abs_rel"] for band in grad.bands] == [0.5, 0.5]
    assert [band.images for band in grad.bands] == [2, 1]
    assert summary.images == {0: "a", 2: "c"}
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
    bands = summary.estimators["grad"].bands
    assert [band.means["ause.rmse"] for band in bands] == [0.25, 4.25]
    assert list(summary.bands.items()) == [("0-10", "0–10 m"), ("10-80", "10–80 m")]


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


@pytest.mark.parametrize("line", ["{nonsense}", '{"index": 1, "id": "b"}'])
def test_damaged_rows_are_named(tmp_path, line):
    path = write(tmp_path / "r.jsonl", {"a": {"grad": found()}})
    with path.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ResultsError, match="line 3 is damaged"):
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


def test_numbers_read_well(mixed):
    table = Table("t", (Column("n"),), [(-0.0001,), (math.nan,), (12,), (None,), (Cell(0.25),)])
    shown = [table.columns[0].text(row[0]) for row in table.cells()]
    assert shown == ["0.000", "–", "12", "", "0.250"]
    body = make_html([summarize(mixed)], [table]).split("<tbody>")[1].split("</tbody>")[0]
    assert re.findall(r"<th[^>]*>(.*?)</th>", body) == shown
