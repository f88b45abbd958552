"""Spoiled files of every kind: the process lives, in bounded memory, and each file gets a verdict in time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")
KINDS = {"dicom": 2000, "nifti": 2000, "tiff": 2000, "png": 2000}
KINDS |= dict.fromkeys(("nrrd", "mha", "mgh", "minc", "arrays"), 500)

pytestmark = pytest.mark.slow


def report(folder, *arguments):
    """What `fuzz.py` reports; the files that failed lie in ``folder/kept``."""
    command = [sys.executable, str(FUZZ), *arguments, "--keep", str(folder / "kept"), "--json", str(folder / "report")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (folder / "report").is_file(), run.stderr[-2000:]
    return json.loads((folder / "report").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_readers_survive_spoiled_files(tmp_path, kind):
    found = report(tmp_path, kind, "--files", str(KINDS[kind]))
    assert found["failures"] == []
    assert found["workers"] == 1, "a worker had to be replaced"
    assert sum(found["verdicts"].values()) >= found["files"] == KINDS[kind]
    # The campaign proves nothing when all files are good, or all are refused at the first byte.
    few = KINDS[kind] // 20
    assert found["verdicts"]["imported"] > few
    assert sum(n for verdict, n in found["verdicts"].items() if verdict.startswith("refused")) > few
    assert found["proved_by_checksum"] > few or kind not in ("nifti", "png", "mgh", "arrays")
    assert len(found["verdicts"]) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_import_survives_spoiled_files(tmp_path, kind):
    found = report(tmp_path, kind, "--files", "200", "--first", "5000", "--whole")
    assert found["failures"] == []
    assert any(verdict.startswith("imported") for verdict in found["verdicts"])
    assert any(verdict.startswith("refused") for verdict in found["verdicts"])


def test_the_campaign_sees_a_process_that_dies_and_one_that_hangs(tmp_path, monkeypatch):
    """The watchdog itself: a worker that ends, and one that says nothing."""
    monkeypatch.syspath_prepend(str(FUZZ.parent))
    import fuzz

    monkeypatch.setattr(fuzz, "PATIENCE_S", 0.5)
    for line, word in (("import os; os.abort()", "died"), ("import time; time.sleep(60)", "slow")):
        script = tmp_path / "worker.py"
        script.write_text(f"import os, sys\nos.write(int(sys.argv[1]), b'ready\\n')\nsys.stdin.readline()\n{line}\n")
        worker = fuzz.Worker(script)
        assert word in worker.judge(tmp_path)["fault"]
        assert worker.process is None
