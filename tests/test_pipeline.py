"""From generated data to a report, through the installed command line alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import grumo_jax

pytest.importorskip("array_record", reason="array_record is not installed (extra: data)")
pytest.importorskip("tensorflow_datasets", reason="TFDS is not installed (extra: data)")
GRUMO = Path(sys.executable).with_name("grumo")


def grumo(folder, *arguments):
    """Run a command that must succeed, and return what it says."""
    # Pictures of full size are rendered: that takes code that runs fast, whatever it costs.
    options = {"env": {**os.environ, "XLA_FLAGS": ""}, "cwd": folder}
    result = subprocess.run(
        [GRUMO, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


@pytest.mark.slow
def test_generate_prepare_evaluate_report(tmp_path):
    said = grumo(tmp_path, "generate", "kitti", "data", "--drives", 1, "--frames", 2)
    assert "2 frames in data" in said
    said = grumo(tmp_path, "prepare", "kitti", "--data-dir", "data", "--split", "eigen")
    assert "eigen: prepared (2 in test)" in said
    for scans in (tmp_path / "data").rglob("velodyne_points"):
        scans.rename(scans.with_name("elsewhere"))  # from here on the prepared data must do

    checkpoint = grumo_jax.shipped_checkpoint("synthetic")
    options = ("--dataset", "kitti", "--data-dir", "data", "--protocol", "kitti-mono")
    few = ("--estimator", "post", "--estimator", "grad", "--pictures", 1, "--out", "evaluation")
    said = grumo(tmp_path, "evaluate", checkpoint, *options, *few)
    assert "Depth and uncertainty on kitti/eigen, protocol kitti-mono" in said
    out = tmp_path / "evaluation"
    header, *rows = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert header["configuration"]["images"] == 2
    assert len(header["configuration"]["missing"]) == 695
    ids = ["2011_09_26/2011_09_26_drive_0002_sync 6 l", "2011_09_26/2011_09_26_drive_0002_sync 9 l"]
    assert [row["id"] for row in rows] == ids
    for row in rows:
        assert row["size"] == [375, 1242]
        assert row["estimators"]["grad"]["pixels"] > 5000
        assert 0 < row["estimators"]["grad"]["errors"]["abs_rel"] < 0.6
    assert len(list((out / "pictures").glob("*.png"))) == 2

    said = grumo(tmp_path, "report", out / "results.jsonl", "--out", "report")
    written = {file.name for file in (tmp_path / "report").iterdir()}
    assert {"report.html", "tables.md", "tables.tex", "main.csv", "curves.png"} <= written
    table = (tmp_path / "report" / "tables.md").read_text()
    assert table.splitlines()[0] in said
    for name in ("post", "grad", "depth", "row"):
        assert f"| {name} " in table
