"""Runs the blocks of a page in order, as its reader would: one folder, one Python session, one shell."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from blocks import RUN, Block
from click.testing import CliRunner

from ndvol.cli import main

NOT_RUN = {
    "python3 -m venv": "makes an environment",
    "pip install": "installs packages",
    "mkdocs ": "builds this site; test_site.py does",
    "python tests/benchmarks/": "takes minutes of a quiet machine",
    "ndvol bench": "takes a minute; tests/test_bench.py runs it",
    "ndvol view": "serves until Ctrl-C; its own tests drive it in Chromium",
    "ndvol doctor": "finds other things on every machine; it has tests of its own",
    "python docs/examples/": "the examples have tests of their own",
    "nnUNetv2_": "nnU-Net's own commands train for days",
}
"""Beginnings of commands that are shown and not run, and why."""
PARTLY = 3
"""Exit code of an import that refused some of its sources; pages show that."""
_LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Page:
    """What the blocks of one page have made so far.

    Parameters
    ----------
    folder : the current one.
    names : what the page takes for granted in Python, besides its own blocks.
    quicker : texts of blocks that are replaced before they run, for the sake of time alone.
    """

    def __init__(self, folder: Path, names: dict[str, Any], quicker: dict[str, str]) -> None:
        self.folder, self.names, self.quicker = folder, {"__name__": "__main__", **names}, quicker
        self.status = 0

    def run(self, block: Block) -> None:
        text = block.text
        for long, short in self.quicker.items():
            text = text.replace(long, short)
        if block.title:
            (self.folder / block.title).write_text(text, encoding="utf-8")
        if block.language == "python" and not block.title:
            exec(compile(text, f"line {block.line}", "exec"), self.names)
        elif block.language == "pycon":
            self._session(text, block.line)
        elif block.language == "sh":
            for command in _commands(text):
                output = self.command(command)
                assert self.status in (0, PARTLY), f"{command}\nexit code {self.status}\n{output}"
        elif block.language == "console":
            self._shown(text)

    def command(self, command: str) -> str:
        """What a command prints, stdout and stderr together."""
        if any(command.startswith(start) for start in NOT_RUN):
            return ""
        if command == "echo $?":
            return f"{self.status}\n"
        if command.startswith("cd "):
            os.chdir(command.removeprefix("cd "))
            return ""
        if command.startswith("ndvol ") and not set("|>") & set(command):
            words = shlex.split(command, comments=True)[1:]
            # One process makes the same bytes as many, sooner where there is little to do.
            result = CliRunner().invoke(main, [*words, "--jobs", "0"] if words[0] == "import" else words)
            if result.exception and not isinstance(result.exception, SystemExit):
                raise result.exception
            self.status = result.exit_code
            return result.output
        shell = f'ndvol() {{ "{sys.executable}" -m ndvol "$@"; }}; python() {{ "{sys.executable}" "$@"; }}; {command}'
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
        self.status = done.returncode
        return done.stdout + done.stderr

    def _session(self, text: str, line: int) -> None:
        # Doctest ends an output at an empty line, unless that is marked; a page need not mark it.
        marked = re.sub(r"\n(?=\n(?!>>>|$))", "\n<BLANKLINE>", text)
        test = doctest.DocTestParser().get_doctest(marked, self.names, "session", None, line)
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=_LOOSE)
        runner.run(test, out=said.append, clear_globs=False)
        self.names.update(test.globs)
        assert not runner.failures, "".join(said)

    def _shown(self, text: str) -> None:
        for part in ("\n" + text).split("\n$ ")[1:]:
            command, output = _first_command(part)
            got = self.command(command)
            same = doctest.OutputChecker().check_output(_blankless(output), _blankless(got), _LOOSE)
            assert same, f"$ {command}\nprints\n{got}\nthe page shows\n{output}"


def missing_from(block: Block) -> bool:
    """True for a block that is neither run nor text."""
    return block.language not in (*RUN, "", "text", "json", "toml", "yaml", "css")


def _first_command(text: str) -> tuple[str, str]:
    """A command, its continued lines put together, and what follows it."""
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
    command = " ".join(line.rstrip("\\").strip() for line in lines[: end + 1])
    return command, "\n".join(lines[end + 1 :])


def _commands(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def _blankless(text: str) -> str:
    """Without empty lines and blanks at the ends, which a page may lose."""
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())
