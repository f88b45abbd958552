"""`ndvol view` as a program: its one line of output, and its end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner

from ndvol.cli import main

COMMAND = [sys.executable, "-m", "ndvol", "view"]


def test_it_prints_where_it_is_and_ends_with_ctrl_c(bundle):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, str(bundle), "--json", "--no-browser"], **options) as program:
        try:
            url = json.loads(program.stdout.readline())["url"]
            with urllib.request.urlopen(f"{url}api/bundle") as answer:
                assert json.load(answer)["case"] == "toy"
        finally:
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=20)
    assert (program.returncode, out) == (130, "")
    assert "Traceback" not in err


@pytest.fixture
def opened(monkeypatch):
    """What a browser was told to open; the server ends at once."""
    urls = []
    monkeypatch.setattr("webbrowser.open", urls.append)
    monkeypatch.setattr("ndvol.viewer.ViewServer.serve_forever", lambda self: None)
    return urls


def test_the_browser_is_opened_unless_it_is_not_wanted(bundle, opened):
    result = CliRunner().invoke(main, ["view", str(bundle)])
    assert result.exit_code == 0
    assert opened == [result.stdout.strip()]
    assert CliRunner().invoke(main, ["view", str(bundle), "--no-browser"]).exit_code == 0
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--case", "toi"], 1, "did you mean 'toy'?"),
        (["--port", "70000"], 2, "--port"),
    ],
)
def test_a_mistake_is_one_line(bundle, opened, options, code, text):
    result = CliRunner().invoke(main, ["view", str(bundle), *options])
    assert (result.exit_code, opened) == (code, [])
    assert text in result.stderr


def test_a_port_that_is_taken_is_said(bundle, opened):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = CliRunner().invoke(main, ["view", str(bundle), "--port", str(other.getsockname()[1])])
    assert (result.exit_code, opened) == (1, [])
    assert "in use" in result.stderr
