"""Text for a terminal: tables, lists of facts, and names of strangers made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns of text under their names; the empty table says so.

    >>> print(table([{"case": "a", "files": 12}, {"case": "long-name", "files": 1}]))
    case       files
    a          12
    long-name  1
    """
    if not rows:
        return "(none)"
    cells = [list(rows[0]), *[[printable(str(v)) for v in row.values()] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join(lines)


def middle(text: str, length: int = 60) -> str:
    """At most `length` characters: a long path without its middle."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-length // 2 :]}"


def printable(text: str) -> str:
    """Without control characters: names come from files of strangers, and terminals obey escape sequences."""
    return "".join(c if c.isprintable() else "?" for c in text)


def times(values: Iterable[float]) -> str:
    """Lengths as ``3 x 1.5 x 1.5``."""
    return " x ".join(f"{v:g}" for v in values)


def counted(number: int, noun: str, several: str = "") -> str:
    """A number and what it counts; `several` where the plural is not the noun and an s.

    >>> counted(1, "case"), counted(2000, "category", "categories")
    ('1 case', '2,000 categories')
    """
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def size_text(size: float) -> str:
    """Bytes in decimal units.

    >>> size_text(999), size_text(1_250_000)
    ('999 B', '1.2 MB')
    """
    number, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def indented(value: Any, depth: int = 1) -> str:
    """A JSON value for a person, to follow its name and a colon: one line, or deeper lines below."""
    if isinstance(value, dict):
        return "".join(f"\n{'  ' * depth}{printable(str(k))}:{indented(v, depth + 1)}" for k, v in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n" + "\n".join("  " + line for line in table(value).splitlines())
    return " " + (printable(", ".join(str(v) for v in value)) if isinstance(value, list) else printable(str(value)))
