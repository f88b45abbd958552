"""The page in a browser: its script runs under its own policy, draws the pictures, and obeys no name of a stranger."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import bundles
import pytest

import ndvol
from ndvol.report import DrawOptions, ReportOptions, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAYLOAD = '"><img src=x onerror="document.title=666"><script>document.title=666</script>'


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_pictures_are_drawn_and_names_are_not_obeyed(tmp_path):
    folder = bundles.make_bundle(tmp_path / "bundle", ["ct", "colour"])
    catalogue = json.loads((folder / "data.kwcoco.json").read_text())
    catalogue["images"][0]["name"] = PAYLOAD
    (folder / "data.kwcoco.json").write_text(json.dumps(catalogue))
    page = tmp_path / "report.html"
    write_report(ndvol.open(folder), page, ReportOptions(DrawOptions((4,), 1, counted=1)))
    assert page.read_text("utf-8").count(" data-z=") == 6
    switches = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
    window = ("--window-size=1400,3000", "--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}")
    command = [str(CHROMIUM), *switches, *window, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # Only what was unpacked and drawn has lost its data.
    assert done.stdout.count("<canvas") == 6
    assert done.stdout.count(" data-z=") == 0
    assert re.findall(r"<title>(.*?)</title>", done.stdout)[0] == "bundle – ndvol report"
