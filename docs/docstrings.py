"""The docstrings of ndvol as Markdown, for mkdocstrings.

They are numpydoc, kept short: prose may follow a section, and several errors may share a line. Griffe's own parser
takes such prose for parameters, so the text is turned into Markdown here and shown as it is.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import griffe

_RULE = re.compile(r"-{3,}|={3,}")
_ENTRY = re.compile(r"(?P<names>\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*) : (?P<text>.*)")
_FURTHER = re.compile(r"(?<=[.;] )((?:\w+, )*\w+) : ")
_TABLE = re.compile(r"=+( +=+)+")


class Docstrings(griffe.Extension):
    """Replaces the text of every docstring by Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(docstring: str) -> str:
    """A docstring as Markdown: sections as bold words, entries as lists, examples as fenced blocks, tables as tables.

    >>> print(to_markdown("First.\\n\\nRaises\\n------\\nIndexError : past the end.\\n\\n>>> 1 + 1\\n2"))
    First.
    <BLANKLINE>
    **Raises**
    <BLANKLINE>
    - `IndexError`: past the end.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    return "\n\n".join(filter(None, _blocks(docstring.splitlines())))


def _blocks(lines: list[str]) -> Iterator[str]:
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        end = _end(lines, at)
        block, at = lines[at:end], end
        if len(block) > 1 and _RULE.fullmatch(block[1].strip()) and not _TABLE.match(block[0]):
            yield f"**{block[0].strip()}**"
            yield from _blocks(block[2:])
        elif block[0].startswith(">>>"):
            yield f"```pycon\n{_text(block)}\n```"
        elif _TABLE.fullmatch(block[0].strip()):
            yield _table(block)
        elif _ENTRY.match(block[0]):
            yield "\n".join(_entry(entry) for entry in _entries(block))
        elif block[0].startswith(" "):
            yield _text(block)
        else:
            yield from _paragraph(block)


def _end(lines: list[str], at: int) -> int:
    """Where the block ends that begins at a line: at an empty one, unless what follows it is indented."""
    if _TABLE.fullmatch(lines[at].strip()):
        return max(i for i, line in enumerate(lines) if _TABLE.fullmatch(line.strip())) + 1
    end = at + 1
    while end < len(lines):
        if not lines[end].strip():
            follows = next((line for line in lines[end:] if line.strip()), "")
            if not follows.startswith(" ") or lines[at].startswith((">>>", "- ")):
                break
        elif lines[end].startswith(">>>") and not lines[at].startswith(">>>"):
            break
        end += 1
    return end


def _entries(block: list[str]) -> Iterator[list[str]]:
    start = 0
    for i in range(1, len(block) + 1):
        if i == len(block) or (block[i].strip() and not block[i].startswith(" ")):
            yield block[start:i]
            start = i


def _entry(lines: list[str]) -> str:
    """``name : text`` as an item of a list, with the paragraphs below it."""
    match = _ENTRY.match(lines[0])
    body = textwrap.dedent("\n".join(lines[1:]))
    if not match:
        return f"- {_prose(' '.join([lines[0], body]).strip())}"
    text = _FURTHER.sub(lambda found: f"{_code(found[1])}: ", f"{match['text']}\n{body}".strip())
    return textwrap.indent(f"- {_code(match['names'])}: {_prose(text)}", "    ")[4:]


def _code(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _paragraph(block: list[str]) -> Iterator[str]:
    """A paragraph; what is indented after a ``::`` is code."""
    text = "\n".join(block)
    before, colons, code = text.partition("::\n")
    if not colons or not code.strip():
        yield _prose(text)
        return
    yield _prose(before + ":" if before.strip() else "")
    yield f"```python\n{textwrap.dedent(code).strip()}\n```"


def _table(block: list[str]) -> str:
    """An rst table, whose columns its first line marks."""
    starts = [match.start() for match in re.finditer(r"=+", block[0])]
    rows: list[list[str]] = []
    for line in block[1:]:
        if _TABLE.fullmatch(line.strip()):
            continue
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)]
    lines = [" | ".join(_prose(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in (lines[0], " | ".join("---" for _ in starts), *lines[1:]))


def _prose(text: str) -> str:
    return text.replace("\\*", "*").replace("<", "&lt;") if "`" not in text else text.replace("\\*", "*")


def _text(block: list[str]) -> str:
    return textwrap.dedent("\n".join(block)).strip("\n")
