"""The fenced blocks of a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUN = ("python", "pycon", "sh", "console")
"""Languages whose blocks run; any other is text."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that its title names, the line it begins at, and its text."""

    language: str
    title: str
    line: int
    text: str


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, also those inside tabs and notes, without their indent."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] if line.strip() else "\n" for line in match["body"].splitlines(keepends=True))
        title = _TITLE.search(match["rest"])
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match["language"], title[1] if title else "", line, body))
    return found
