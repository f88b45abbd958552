"""HTML that is escaped by construction: what is not `Html` already is text, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from ndvol.tables import printable

_VOID = {"br", "img", "input", "meta"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(tag: str, attributes: Mapping[str, object] | None = None, *children: object) -> Html:
    """An element; children and values of attributes are escaped, unless a child is `Html`.

    Parameters
    ----------
    attributes : an attribute is left out when its value is None or False, and stands alone when it is True.
    children : `Html`, or anything whose text is to be shown. Characters that are not printable become ``?``: they
        could reverse the order in which the rest is read.

    >>> element("td", {"title": '"a"', "hidden": False, "data-k": 3}, "<script>", element("br"))
    '<td title="&quot;a&quot;" data-k="3">&lt;script&gt;<br></td>'
    """
    parts = [f"<{tag}"]
    for name, value in (attributes or {}).items():
        if value is True:
            parts.append(f" {name}")
        elif value is not None and value is not False:
            parts.append(f' {name}="{text(value)}"')
    parts.append(">")
    if tag not in _VOID:
        parts += [*map(text, children), f"</{tag}>"]
    return Html("".join(parts))


def text(value: object) -> Html:
    """Anything as text of a page; `Html` stays as it is."""
    return value if isinstance(value, Html) else Html(escape(printable(str(value))))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after another, those that are not `Html` escaped."""
    return Html(between.join(map(text, parts)))
