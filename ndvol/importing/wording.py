"""What messages may say when nothing of a source may leave it: ndvol's own words, small numbers, and nothing else.

Errors of readers and libraries quote paths and header values. A list of what to strike out is never complete, so the
rule is the other way round: a word passes when it stands in ndvol's own code.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Mapping, Set
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import CodeType

HIDDEN = "<hidden>"
_SPEAKERS = ("ndvol.errors", "ndvol.formats", "ndvol.geometry", "ndvol.importing", "ndvol.store", "ndvol.categories")
_WORD = re.compile(r"[^\W\d_]+")
_TOKEN = re.compile(r"\S+")
_EDGES = "'\"`()[]{}<>,;:.!?="
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,4})(\.\d{1,6})?(e[+-]?\d{1,2})?%?")
"""At most five digits before the point and no zero in front: neither a date, nor a clock time, nor most identifiers."""
_PSEUDONYM = re.compile(r"(file|series)-[0-9a-f]{12}")
_PARTS = re.compile(r"[\d\W_]+")
_PATH = re.compile(r"[/\\]|[^\W\d]\.\w|\w\.[^\W\d]")
_TWO_NUMBERS = re.compile(r"\d\D+\d")


@cache
def vocabulary() -> frozenset[str]:
    """Every word in the text constants of the code that speaks during an import, as it is written there."""
    return frozenset(word for code in _codes() for text in _texts(code) for word in _WORD.findall(text))


def _codes() -> Iterator[CodeType]:
    for name in _SPEAKERS:
        package = import_module(name)
        below = pkgutil.iter_modules(getattr(package, "__path__", ()), f"{name}.")
        for module in (name, *(info.name for info in below)):
            spec = find_spec(module)
            # Works for sources, byte code and archives; a loader without code adds no words, so more is hidden.
            if code := getattr(spec and spec.loader, "get_code", lambda _: None)(module):
                yield code


def _texts(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            # Texts of several lines are docstrings, whose examples are nothing that ndvol says.
            yield "" if "\n" in constant else constant
        elif isinstance(constant, CodeType):
            yield from _texts(constant)
        elif isinstance(constant, tuple | frozenset):
            yield from (text for text in constant if isinstance(text, str))


def scrub(text: str, replacements: Mapping[str, str], names: Set[str] = frozenset()) -> str:
    """`text` with sources under their pseudonyms, and `HIDDEN` for all that ndvol did not say itself.

    Parameters
    ----------
    replacements : source -> pseudonym.
    names : further words that may be said: of cases, volumes and categories.

    >>> scrub("Rows of pat/MUELLER.dcm is no number; got 'MUELLER'", {"pat/MUELLER.dcm": "file-1"})
    'Rows of file-1 is no number; got <hidden>'
    >>> scrub("a gap of 6.000 mm after slice 16, born 19700312", {})
    'a gap of 6.000 mm after slice 16, <hidden>'
    """
    allowed = {*names, *replacements.values()}
    # The longest first: a folder's name begins those of its files.
    for source in sorted((s for s in replacements if len(s) > 2 and s in text), key=len, reverse=True):
        text = text.replace(source, replacements[source])

    def speak(found: re.Match[str]) -> str:
        token = found[0]
        core = token.strip(_EDGES)
        if not core or core in allowed or _is_ours(core):
            return token
        before, after = token[: token.index(core)], token[token.rindex(core) + len(core) :]
        return before.strip("'\"`<") + HIDDEN + after.strip("'\"`>")

    # Neighbours become one, so that not even their number is told.
    return re.sub(rf"{HIDDEN}([\s]+{HIDDEN})+", HIDDEN, _TOKEN.sub(speak, text))


def _is_ours(core: str) -> bool:
    if (
        _NUMBER.fullmatch(core)
        or _PSEUDONYM.fullmatch(core)
        or (core.isprintable() and not any(map(str.isalnum, core)) and core.isascii())
    ):
        return True
    if _PATH.search(core) or _TWO_NUMBERS.search(core) or re.search(r"\d{4}|(?<!\d)0\d", core):
        return False
    words = [part for part in _PARTS.split(core) if part]
    return bool(words) and vocabulary().issuperset(words)
