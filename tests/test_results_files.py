"""Results files: whatever happens to one is noticed by whoever reads it, and named by its line."""

import json

import pytest
from results_files import PROTOCOL, found, write

from grumo_jax._internal.sealed import parse_json, seal_line
from grumo_jax.errors import ResultsError
from grumo_jax.evaluation.results import ResultsWriter, read_results
from grumo_jax.report import make_tables, summarize, write_report

HEADER = {"images": 3, "seed": 0, "grumo_jax": "1", "definitions": {"metrics": {"spearman": 1}}}
ROWS = [{"index": i, "id": name, "number": 0.5 + i} for i, name in enumerate("abc")]


def written(path, rows=ROWS, header=HEADER):
    with ResultsWriter(path, header) as writer:
        writer.append(rows[:1])
        writer.append(rows[1:])
    return path


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def forge(path, header, rows):
    """A file whose every seal is right, whatever its lines hold."""
    seal, text = "", b""
    for content in ({"grumo_jax results": 2, "configuration": header}, *rows):
        line, seal = seal_line(content, seal)
        text += line
    path.write_bytes(text)
    return path


def test_rows_come_back_without_their_seals(tmp_path):
    path = written(tmp_path / "r.jsonl")
    assert list(read_results(path).rows()) == ROWS
    assert read_results(path).finished
    assert all(set(json.loads(line)) >= {"seal"} for line in lines_of(path))


HARM = {
    "doubled": (4, lambda x: [*x[:3], x[2], *x[3:]]),
    "first row doubled": (3, lambda x: [*x[:2], x[1], *x[2:]]),
    "lost": (3, lambda x: [*x[:2], x[3]]),
    "first row lost": (2, lambda x: [x[0], *x[2:]]),
    "swapped": (2, lambda x: [x[0], x[2], x[1], x[3]]),
    "NaN": (3, lambda x: [*x[:2], x[2].replace(b"1.5", b"NaN"), x[3]]),
    "text": (3, lambda x: [*x[:2], x[2].replace(b"1.5", b'"1.5"'), x[3]]),
    "another number": (3, lambda x: [*x[:2], x[2].replace(b"1.5", b"1.6"), x[3]]),
    "another name": (4, lambda x: [*x[:3], x[3].replace(b'"c"', b'"d"')]),
    "no JSON": (3, lambda x: [*x[:2], b"\0\0\n", x[3]]),
    "no seal": (3, lambda x: [*x[:2], b'{"index": 1, "id": "b"}\n', x[3]]),
    "a blank line": (3, lambda x: [*x[:2], b"\n", *x[2:]]),
    "a blank line at the end": (5, lambda x: [*x, b"\n"]),
    "one row too many": (5, lambda x: [*x, x[1]]),
    "a number as text": (2, lambda x: [x[0], x[1].replace(b'"index": 0', b'"index": "0"'), *x[2:]]),
}


@pytest.mark.parametrize("harm", HARM)
def test_the_harmed_line_is_named_in_reading_and_in_going_on(tmp_path, harm):
    path = written(tmp_path / "r.jsonl")
    number, change = HARM[harm]
    path.write_bytes(b"".join(change(lines_of(path))))
    before = path.read_bytes()
    with pytest.raises(ResultsError, match=rf"r\.jsonl: line {number} is damaged; delete it and"):
        list(read_results(path).rows())
    with (
        pytest.raises(ResultsError, match=rf"line {number} is damaged"),
        ResultsWriter(path, HEADER),
    ):
        pass
    assert path.read_bytes() == before


def test_what_the_sentence_advises_works(tmp_path):
    path = written(tmp_path / "r.jsonl")
    whole = path.read_bytes()
    path.write_bytes(b"".join(lines_of(path)[:2]))
    with ResultsWriter(path, HEADER) as writer:
        assert writer.done == 1
        writer.append(ROWS[1:])
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.replace(b'"seed": 0', b'"seed": 1'),
        lambda x: b"\xef\xbb\xbf" + x,
        lambda x: x.replace(b"\n", b"\r\n"),
        lambda x: x.replace(b'"seed": 0', b'"seed": 0, "seed": 0'),
        lambda x: x.replace(b'"seed": 0', b'"seed": 0\0'),
    ],
)
def test_a_harmed_configuration_is_named(tmp_path, change):
    path = written(tmp_path / "r.jsonl")
    path.write_bytes(change(path.read_bytes()))
    for use in (lambda: read_results(path), ResultsWriter(path, {**HEADER, "seed": 1}).__enter__):
        with pytest.raises(ResultsError, match="its first line, the configuration, is damaged; ev"):
            use()


def test_a_run_that_was_killed_leaves_half_a_line(tmp_path):
    path = written(tmp_path / "r.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert [row["id"] for row in read_results(path).rows()] == ["a", "b"]
    with ResultsWriter(path, HEADER) as writer:
        writer.append(ROWS[2:])
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grumo_jax": "2"}, r'\(grumo_jax was "1" and is now "2"\)'),
        (
            {"definitions": {"metrics": {"spearman": 2}}},
            r"\(definitions: metrics: spearman was 1 and is now 2\); choose another file",
        ),
    ],
)
def test_another_version_or_definition_is_refused(tmp_path, change, said):
    path = written(tmp_path / "r.jsonl")
    with pytest.raises(ResultsError, match=said), ResultsWriter(path, {**HEADER, **change}):
        pass


def test_files_of_before_versions_were_recorded_are_refused(tmp_path):
    path = tmp_path / "old.jsonl"
    path.write_text('{"grumo_jax results": 1, "configuration": {"images": 1}}\n{"index": 0}\n')
    for use in (lambda: read_results(path), ResultsWriter(path, {"images": 1}).__enter__):
        with pytest.raises(ResultsError, match=r"another version .*; evaluate anew, into another"):
            use()


def test_rows_of_other_images_are_not_continued(tmp_path):
    path = written(tmp_path / "r.jsonl", ROWS[:2])
    with pytest.raises(ResultsError, match="line 3 is of the image 'b', and the data set's"):
        ResultsWriter(path, HEADER, ids=["a", "c", "b"]).__enter__()


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([ROWS[0], ROWS[0]], 3),
        ([ROWS[1]], 2),
        ([{**ROWS[0], "index": 0.0}], 2),
        ([ROWS[0], {**ROWS[1], "index": True}], 3),
        ([{"index": 0}], 2),
        ([*ROWS, {"index": 3, "id": "d"}], 5),
    ],
)
def test_forged_seals_do_not_help_rows_out_of_place(tmp_path, rows, number):
    path = forge(tmp_path / "r.jsonl", HEADER, rows)
    with pytest.raises(ResultsError, match=f"line {number} is damaged"):
        list(read_results(path).rows())


@pytest.mark.parametrize("header", [[], {}, {"images": "3"}, {"images": -1}, {"images": True}])
def test_forged_configurations_get_a_sentence(tmp_path, header):
    path = forge(tmp_path / "r.jsonl", header, [])
    with pytest.raises(ResultsError, match="its first line is no configuration"):
        read_results(path)


def test_folders_and_pipes_are_no_results_files(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ResultsError, match="no file; expected the name of a results file"):
            read_results(path)


# --- reports


def forged_report(path, **changes):
    """A sealed file of two images, of which the second says something else."""
    rows = [found(), {**found(), **changes}]
    header = {"images": 2, "dataset": "street", "protocol": PROTOCOL, "estimators": {"grad": "?"}}
    lines = [{"index": i, "id": f"{i}", "estimators": {"grad": row}} for i, row in enumerate(rows)]
    return forge(path, header, lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"spearman": "0.5"},
        {"spearman": True},
        {"spearman": 10**400},
        {"pixels": -3},
        {"pixels": 7.5},
        {"pixels": "100"},
        {"errors": None} | {"curves": 7},
        {"errors": {}},
        {"curves": {"abs_rel": [1.0, 0.5, 0.0, 0.0], "rmse": [1.0], "a1": [0.0]}},
        {"oracle": [1, 2]},
        {"bands": {"pixels": [1, 2, 3], "errors": {}, "ause": {}, "aurg": {}}},
        {"bands": 5},
        {"regions": {"sky": 3}},
        {"regions": {"sky": found()["bands"]}},
        {"bands": {"pixels": 100, **{kind: found()[kind] for kind in ("errors", "ause", "aurg")}}},
    ],
    ids=str,
)
def test_forged_numbers_get_a_sentence_that_names_the_line(tmp_path, changes):
    path = forged_report(tmp_path / "r.jsonl", **changes)
    with pytest.raises(ResultsError, match=r"r\.jsonl: line 3 is no row of these results; delete"):
        summarize(path)


def test_rows_without_one_of_the_estimators_are_no_rows(tmp_path):
    path = write(tmp_path / "r.jsonl", {"a": {"grad": found(), "post": found()}}, expected=2)
    header = read_results(path).configuration
    first = next(read_results(path).rows())
    forge(path, header, [first, {"index": 1, "id": "b", "estimators": {"grad": found()}}])
    with pytest.raises(ResultsError, match="line 3 is no row"):
        summarize(path)


def test_numbers_of_different_definitions_are_not_put_side_by_side(tmp_path):
    numbers = [{"estimators": {"grad": 1, name: 1}, "metrics": {"spearman": 1}} for name in "xy"]
    files = [
        write(tmp_path / f"{i}.jsonl", {"a": {"grad": found()}}, definitions=definitions)
        for i, definitions in enumerate([*numbers, {"metrics": {"spearman": 2}}])
    ]
    first, second, other = map(summarize, files)
    make_tables([first, second])
    with pytest.raises(ResultsError, match="different definitions of spearman; evaluate the older"):
        make_tables([first, other])


def test_the_same_report_twice_is_the_same_bytes(tmp_path):
    images = {"a": {"grad": found(0.25)}, "b": "b\udcff: damaged", "c": {"grad": found(0.5)}}
    path = write(tmp_path / "r.jsonl", images)
    for out in ("one", "two"):
        write_report(tmp_path / out, [summarize(path)])
    files = sorted((tmp_path / "one").iterdir())
    assert {file.suffix for file in files} == {".md", ".tex", ".csv", ".png", ".pdf", ".html"}
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


# --- JSON


@pytest.mark.parametrize(
    "text", [b'{"a": NaN}', b"[Infinity]", b"[" * 10**5, b'{"a": 1, "a": 1}', b"\xff", b"9" * 5000]
)
def test_json_is_read_strictly(text):
    with pytest.raises(ValueError):  # noqa: PT011, whatever it says
        parse_json(text)
