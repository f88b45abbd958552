"""Killed at 200 random moments and resumed: the bytes of an import that was left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).with_name("kills.py")

pytestmark = pytest.mark.slow


def test_killed_two_hundred_times_and_resumed_makes_the_same_bytes(tmp_path):
    command = [sys.executable, str(KILLS), "--kills", "200", "--json", str(tmp_path / "report")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (tmp_path / "report").is_file(), run.stderr[-2000:]
    found = json.loads((tmp_path / "report").read_text())
    print(json.dumps(found, indent=1))
    assert found["failures"] == []
    assert found["kills"] == 200
    # The campaign proves nothing when it never meets an import at work.
    assert found["moments"]["writing cases"] > 50
    assert found["moments"]["catalogue"] > 5
    assert found["moments"]["starting and planning"] > 10
    assert found["files_verified_meanwhile"] > 0
