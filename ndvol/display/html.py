"""What a notebook shows of our objects: tables, thumbnails, everything escaped, and reasons instead of exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from ndvol.display.grey import ShownLabels, ShownVolume, read_plane
from ndvol.display.png import png_uri
from ndvol.display.thumbnails import Thumbnail, label_thumbnail, thumbnail, value_colour
from ndvol.markup import Html, element, join, text
from ndvol.tables import times

MOST_PICTURES = 8
"""Images of a case, and label volumes, that are shown as pictures."""
MOST_NAMES = 40
"""Categories whose colours are told."""
_PIXELS = 192
_TABLE = {"style": "border-collapse:collapse;font-size:inherit"}
_CELL = {"style": "text-align:left;padding:1px 10px 1px 0;vertical-align:top"}


def page(title: str, *parts: Callable[[], Html]) -> Html:
    """One object: its title over its parts, each the HTML or the reason why there is none."""
    divisions = [element("div", None, or_reason(part)) for part in parts]
    head = element("div", None, element("b", None, title))
    return element("div", {"style": "font-family:sans-serif;font-size:13px"}, head, *divisions)


def or_reason(part: Callable[[], Html]) -> Html:
    """The HTML that `part` makes, or why it makes none."""
    try:
        return part()
    except Exception as error:  # a repr that raises hides the object, damaged or not, from whoever wants to look
        return element("span", {"style": "color:#c62828"}, f"cannot be shown: {error}")


def facts_html(facts: Mapping[str, object]) -> Html:
    """Names and values, line by line; a fact without a value is left out."""
    known = [(name, value) for name, value in facts.items() if value not in ("", None)]
    rows = [element("tr", None, element("th", _CELL, name), element("td", _CELL, value)) for name, value in known]
    return element("table", _TABLE, *rows)


def rows_html(rows: Sequence[Mapping[str, object]]) -> Html:
    """Columns of text under their names; "(none)" without rows."""
    if not rows:
        return text("(none)")
    head = [element("th", _CELL, name) for name in rows[0]]
    body = [[element("td", _CELL, value) for value in row.values()] for row in rows]
    return element("table", _TABLE, *(element("tr", None, *cells) for cells in (head, *body)))


def figure(title: str, picture: Thumbnail) -> Html:
    """A thumbnail in its true proportions, with its caption."""
    height, width = (_PIXELS, _PIXELS / picture.aspect) if picture.aspect > 1 else (_PIXELS * picture.aspect, _PIXELS)
    size = f"width:{max(width, 1):.0f}px;height:{max(height, 1):.0f}px;image-rendering:pixelated"
    return element(
        "figure",
        {"style": "display:inline-block;margin:4px 8px 4px 0;vertical-align:top"},
        element("img", {"src": png_uri(picture.pixels), "alt": title, "style": size}),
        element(
            "figcaption",
            {"style": f"font-size:11px;max-width:{_PIXELS}px"},
            *(title, element("br"), picture.caption),
        ),
    )


def legend(categories: Mapping[int, str]) -> Html:
    """The colours of label values beside the names of their categories."""
    squares = [
        join([element("span", {"style": f"color:rgb{value_colour(value)}"}, "■"), name], " ")
        for value, name in islice(categories.items(), MOST_NAMES)
    ]
    return join([*squares, more(len(categories) - MOST_NAMES)], " ")


def more(number: int) -> str:
    """How many are not shown; nothing when all are.

    >>> more(1200), more(0)
    ('… and 1,200 more', '')
    """
    return f"… and {number:,} more" if number > 0 else ""


def volume_facts(volume: ShownVolume) -> dict[str, Any]:
    """A volume as JSON values: its grid, its type, its levels, and what is known of its source."""
    grid = volume.grid
    return {
        "axes": grid.axes,
        "shape": list(grid.shape),
        "dtype": str(volume.dtype),
        "spacing": [round(s, 6) for s in grid.spacing],
        "unit": grid.unit,
        "frame": grid.frame,
        "origin": [round(o, 4) for o in grid.origin],
        "levels": volume.levels,
        **{k: v for k, v in volume.attributes.items() if v not in ("", None)},
    }


def volume_html(volume: ShownVolume) -> Html:
    """The facts of an image and its middle plane."""
    return page(
        f"{type(volume).__name__} {volume.name}",
        lambda: facts_html(_brief(volume)),
        lambda: figure("middle plane", thumbnail(volume)),
    )


def labels_html(labels: ShownLabels) -> Html:
    """The facts of a label volume, its middle plane, and the colours of its categories."""
    return page(
        f"{type(labels).__name__} {labels.name}",
        lambda: facts_html(_brief(labels)),
        lambda: figure("middle plane", label_thumbnail(labels)),
        lambda: legend(labels.categories),
    )


def case_html(name: str, images: Sequence[ShownVolume], labels: Sequence[ShownLabels]) -> Html:
    """The volumes of a case as a table, and their middle planes, with outlines of the labels on the same grid."""

    def image_tile(volume: ShownVolume) -> Html:
        return or_reason(lambda: figure(volume.name, _overlaid(volume, labels)))

    def label_tile(volume: ShownLabels) -> Html:
        return or_reason(lambda: figure(volume.name, label_thumbnail(volume)))

    def tiles() -> Html:
        return join([*map(image_tile, images[:MOST_PICTURES]), *map(label_tile, labels[:MOST_PICTURES])], " ")

    kinds = [*(("image", v) for v in images), *(("label", v) for v in labels)]
    return page(
        f"Case {name}",
        lambda: rows_html([{"volume": v.name, "kind": kind, **_brief(v)} for kind, v in kinds]),
        tiles,
        lambda: join([join([f"{v.name}: ", legend(v.categories)]) for v in labels], " · "),
    )


def _brief(volume: ShownVolume) -> dict[str, object]:
    """The facts that fit into a line."""
    facts = volume_facts(volume)
    spacing = f"{times(facts['spacing'])} {facts['unit']}" if facts["unit"] != "unknown" else "unknown"
    shown = {"axes": facts["axes"], "shape": times(facts["shape"]), "dtype": facts["dtype"], "spacing": spacing}
    return {**shown, "frame": facts["frame"], "levels": facts["levels"], "modality": facts.get("modality", "")}


def _overlaid(image: ShownVolume, labels: Iterable[ShownLabels]) -> Thumbnail:
    picture = thumbnail(image)
    for label in labels:
        if label.levels > picture.level and label.level_grid(picture.level).matches(image.level_grid(picture.level)):
            start = tuple(picture.start.get(a, 0) for a in label.grid.axes)
            picture = picture.outlined(read_plane(label, start, level=picture.level))
    return picture
