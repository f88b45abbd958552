"""The summary of an import, on the terminal and as a report to hand on."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from ndvol.cli import main
from ndvol.demo import make_toy
from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti
from ndvol.geometry import Grid
from ndvol.outcomes import summarize, write_report
from ndvol.verdict import STATUSES, Verdict

GRID = Grid.regular("zyx", (6, 8, 10), spacing=(3, 1, 1))


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def raw(tmp_path):
    """A good and a gappy DICOM series, an image with a label off its grid, and a text."""
    array = make_toy(GRID.shape).image
    for name in ("DOE^JANE", "gappy"):
        files = write_dicom_series(tmp_path / "raw" / name, array, GRID, DicomOptions(seed=name))
    files[3].unlink()
    write_nifti(tmp_path / "raw" / "images" / "a.nii", array, GRID)
    off = Grid.regular("zyx", GRID.shape, spacing=(3, 1, 1), origin=(0.4, 0, 0))
    write_nifti(tmp_path / "raw" / "labels" / "a.nii", np.ones(GRID.shape, np.uint8), off)
    (tmp_path / "raw" / "letter.doc").write_text("x")
    return tmp_path / "raw"


def test_the_closing_table_ends_in_a_summary(raw, tmp_path):
    result = run("import", raw, tmp_path / "b", "-j", 0)
    assert result.exit_code == 3
    *_, head, a, b, c, d, e, total = result.stdout.splitlines()
    assert head.split() == ["status", "code", "sources", "files"]
    rows = [re.split(r"\s{2,}", line) for line in (a, b, c, d, e)]
    assert rows == [
        ["imported", "ok", "1", "6"],
        ["imported with warnings", "warning", "1", "1"],
        ["skipped", "unknown-format", "1", "1"],
        ["refused", "label-off-grid", "1", "1"],
        ["refused", "missing-slices", "1", "5"],
    ]
    stored = sum(file.stat().st_size for file in (tmp_path / "b" / "volumes").glob("*.h5"))
    shown, files = re.fullmatch(r"2 cases of (14) files, ([\d.]+) kB stored, \d+\.\d s", total).groups()[::-1]
    assert (files, float(shown)) == ("14", round(stored / 1000, 1))


def test_files_are_all_accounted_for(raw, tmp_path):
    """Also a copy that is dropped."""
    first = sorted((raw / "DOE^JANE").iterdir())[0]
    shutil.copy(first, first.with_name("again.dcm"))
    result = run("import", raw, tmp_path / "b", "-j", 0, "--json")
    verdicts = json.loads(result.stdout)
    count = sum(1 for file in raw.rglob("*") if file.is_file())
    assert sum(v["files"] for v in verdicts if v["status"] != "split") == count
    assert [v["files"] for v in verdicts if v["code"] == "duplicate"] == [1]


def test_the_report_names_sources_as_the_bundle_does(raw, tmp_path):
    report = tmp_path / "report.md"
    result = run("import", raw, tmp_path / "b", "-j", 0, "--report", report)
    assert result.exit_code == 3
    text = report.read_text()
    assert text.startswith("# Import report\n\n2 cases of 14 files, ")
    assert "| refused | missing-slices | 1 | 5 |" in text
    assert "labels/a.nii" in text
    assert not any(name in text for name in ("DOE", "JANE", "gappy", "letter"))
    assert "gappy" in result.stdout, "who imports is told which series to mend"
    assert re.search(r"^- file-[0-9a-f]{12}: refused \(missing-slices\): 1 slice is missing", text, re.MULTILINE)


def test_a_report_is_written_also_when_nothing_could_be_imported(raw, tmp_path):
    result = run("import", raw / "gappy", tmp_path / "b", "-j", 0, "--report", tmp_path / "report.md")
    assert result.exit_code == 1
    assert "0 cases of 5 files, 0 B stored" in (tmp_path / "report.md").read_text()


def test_strict_leaks_nothing_into_it(raw, tmp_path):
    result = run("import", raw, tmp_path / "b", "-j", 0, "--phi", "strict", "--report", tmp_path / "report.md")
    for text in ((tmp_path / "report.md").read_text(), result.output):
        assert "label-off-grid" in text
        assert not any(name in text for name in ("DOE", "JANE", "gappy", "letter", "a.nii", "images"))


def test_a_report_in_no_folder_is_refused_before_the_import(raw, tmp_path):
    result = run("import", raw, tmp_path / "b", "--report", tmp_path / "none" / "report.md")
    assert (result.exit_code, (tmp_path / "b").exists()) == (2, False)
    assert "there is no folder" in result.output


def test_a_summary_counts_every_verdict_once():
    rng = np.random.default_rng(2)
    verdicts = [
        Verdict(
            str(k),
            STATUSES[rng.integers(len(STATUSES))],
            ["ok", "a", "b"][rng.integers(3)],
            case=[None, "x", "y"][rng.integers(3)],
            files=int(rng.integers(5)),
        )
        for k in range(300)
    ]
    summary = summarize(verdicts, 10, 2.0)
    assert sum(row["sources"] for row in summary.counts) == 300
    for row in summary.counts:
        ours = [v for v in verdicts if (v.status, v.code) == (row["status"], row["code"])]
        assert (row["sources"], row["files"]) == (len(ours), sum(v.files for v in ours))
    assert summary.files == sum(v.files for v in verdicts if v.status != "split")
    assert summary.cases == 2
    order = [STATUSES.index(row["status"]) for row in summary.counts]
    assert order == sorted(order)
    assert summarize([], 0, 0).total == "0 cases of 0 files, 0 B stored, 0.0 s"


def test_a_name_of_a_stranger_is_no_markdown(tmp_path):
    verdict = Verdict("<b>*x*</b>\n# [y](z)|`\x1b[31m\udce9", "refused", "ok", "a | b")
    write_report(tmp_path / "r.md", summarize([verdict], 0, 0), [verdict])
    [line] = [line for line in (tmp_path / "r.md").read_text().splitlines() if line.startswith("- ")]
    assert line == r"- \<b\>\*x\*\</b\>?\# \[y\](z)\|\`?\[31m?: refused (ok): a \| b"
