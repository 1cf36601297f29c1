"""Text from outside on its way to terminals, spreadsheets and figures."""

import warnings

import pytest
from results_files import METRICS, found, write

from grumo_jax.cli.messages import complain, one_sentence, say, say_table, warnings_as_sentences
from grumo_jax.errors import DataError, GrumoError, GrumoWarning, printable
from grumo_jax.report import summarize, write_report
from grumo_jax.report.table import Column, Table

STEERING = "a\x1b]0;x\x07\r\n\t\x00\x7f\x85\u2028\u2029\u202e\u2066\u200f\ufeff\udcff"


def test_what_steers_a_terminal_is_escaped():
    escaped = printable(STEERING)
    assert escaped.isprintable()
    assert escaped.isascii()
    assert escaped.startswith(r"a\x1b]0;x\x07\r\n\t\x00\x7f\x85\u2028")
    for harmless in (
        "café 日本 ünïcode",
        "सच्\u200dचा",
        "👨\u200d👩\u200d👧",
        r"C:\x1b",
        "a\u00a0b",
    ):
        assert printable(harmless) == harmless


@pytest.mark.parametrize("error", [GrumoError, DataError, GrumoWarning])
def test_errors_and_warnings_are_fit_to_print(error):
    assert str(error(f"{STEERING}: damaged")).isprintable()
    assert one_sentence(OSError(2, "No such file", STEERING)).isprintable()


def test_commands_say_nothing_raw(capsys):
    say(STEERING)
    say_table("one\ntwo\x1b")
    complain(STEERING)
    out, errors = capsys.readouterr()
    assert out.split("\n") == [printable(STEERING), "one", r"two\x1b", ""]
    assert errors == f"grumo: {printable(STEERING)}\n"


def test_warnings_are_sentences_and_others_stay_as_they_are(capsys):
    with warnings_as_sentences():
        for _ in range(2):
            warnings.warn(GrumoWarning("odd\x1b"), stacklevel=1)
    assert capsys.readouterr().err == "grumo: odd\\x1b\n"
    with pytest.warns(UserWarning, match="plain"), warnings_as_sentences():
        warnings.warn("plain", stacklevel=1)


def test_a_missing_file_with_a_strange_name(grumo, tmp_path):
    status, out, errors = grumo("report", tmp_path / "x\x1b[2J\ny")
    assert status == 2
    assert out == ""
    assert errors.count("\n") == 1
    assert "\x1b" not in errors


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("＝1", "'＝1"),
        ("\t=1", r"\t=1"),
        ("grad-averaged", "grad-averaged"),
        (-0.5, "-0.5"),
        (None, ""),
    ],
)
def test_no_formulas_in_csv(value, cell):
    table = Table("t", [Column("name")], [(value,)])
    assert table.to_csv() == f"name\n{cell}\n" or (cell == "" and table.to_csv() == 'name\n""\n')


def test_a_report_with_strange_names(tmp_path):
    summaries = []
    for i, name in enumerate(["a$\\frac{$b", "=cmd|' /C calc'!A0", "caf\udce9\x1b[2J"]):
        areas = {kind: dict.fromkeys(METRICS, 0.5) for kind in ("errors", "ause", "aurg")}
        regions = {name: {"pixels": 200, **areas}}
        images = {f"{n}{name}": {name: found(0.2, regions=regions), "depth": found()} for n in "ab"}
        path = write(tmp_path / f"results_{i}.jsonl", images, base_model=name)
        summaries.append(summarize(path))
    write_report(tmp_path / "report", summaries)
    for name in ("main", "regions_rmse"):
        table = (tmp_path / "report" / f"{name}.csv").read_text()
        assert "\x1b" not in table
        assert "\n=" not in table
        assert ",=" not in table
    assert (tmp_path / "report" / "curves.png").stat().st_size > 1000
    for written in ("tables.md", "tables.tex"):
        assert b"\x1b" not in (tmp_path / "report" / written).read_bytes()
