"""5,000 files of one slice each: all are imported, and no worker holds more than one volume at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("many_files.py")

pytestmark = pytest.mark.slow


def report(folder, **options):
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPT), *words, "--folder", str(folder), "--json", str(folder / "report.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "report.json").read_text())


def test_five_thousand_files_become_fifty_volumes(tmp_path):
    found = report(tmp_path, series=50, planes=100)
    assert found["imported"] == found["cases"] == 50
    assert found["files_imported"] == found["files"] == 5000
    print(json.dumps(found, indent=1))


def test_memory_is_that_of_one_volume_however_many_there_are(tmp_path):
    """2 and 20 volumes of 64 MiB: the peak of a worker may not grow with their number."""
    few, many = (report(tmp_path, series=n, planes=128, side=512, rounds=1) for n in (2, 20))
    assert len(many["peak_mib_workers"]) >= 2
    one = few["volume_mib"]
    assert max(many["peak_mib_workers"]) < max(few["peak_mib_workers"]) + one
    assert many["peak_mib_parent"] < few["peak_mib_parent"] + one
