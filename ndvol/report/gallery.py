"""The part of the page with pictures: a card per case."""

from __future__ import annotations

from collections.abc import Sequence

from ndvol.categories import CategoryTree
from ndvol.display import category_colour
from ndvol.markup import Html, element, join
from ndvol.report.mosaics import IMAGES, Mosaic, Picture
from ndvol.report.survey import CaseSurvey
from ndvol.report.tables import lengths, note, section
from ndvol.tables import counted, size_text

ROW, TALL, ALONE = 480.0, 230.0, 330.0
"""CSS pixels that the pictures of a card share in width, and the most that they are high, in the middle size; a single
one may be higher."""


def gallery(surveys: Sequence[CaseSurvey], tree: CategoryTree, total: int) -> Html:
    """Cards of all cases with pictures, and what the reader can switch for all of them."""
    shown = [(number, found) for number, found in enumerate(surveys) if found.mosaics]
    if not shown:
        return section("pictures", "Pictures", note("No case could be drawn."))
    cards = [_card(number, found, tree) for number, found in shown]
    told = [
        f"{len(shown):,} of {counted(total, 'case')}, evenly spread over the table."
        if len(shown) < total
        else "All cases.",
        "Those that could not be read are left out." if any(found.problem for found in surveys) else "",
        "Planes go through the middle of the largest object that shows most categories, or of the volume;",
        "ticks at the edges tell where the others cut. All pictures of an image have one scale.",
        f"They take {size_text(sum(map(len, cards)) / len(cards))} of this page per case.",
    ]
    names = dict.fromkeys(preset.name for _, found in shown for mosaic in found.mosaics for preset in mosaic.presets)
    bar = [
        _choices("Window", "all-presets", ["each its own", *names]) if names else "",
        _choices("Size", "size", ["small", "medium", "large"], chosen=1),
        element("label", {}, element("input", {"type": "checkbox", "checked": True, "id": "outlines"}), "Outlines"),
    ]
    return section(
        "pictures",
        "Pictures",
        note(" ".join(filter(None, told))),
        element("noscript", {}, note("The pictures are drawn by a script of this page, which is switched off.")),
        element("div", {"class": "toolbar"}, *bar),
        element("div", {"class": "cards"}, *cards),
    )


def _card(number: int, found: CaseSurvey, tree: CategoryTree) -> Html:
    record, mosaics = found.record, found.mosaics
    unit = record.unit if record.unit != "unknown" else "(no unit)"
    facts = f"{record.axes} · {' × '.join(map(str, record.shape))} · {lengths(record.spacing)} {unit}"
    if len(record.images) > IMAGES:
        facts += f" · {IMAGES} of {len(record.images)} images"
    tabs = _choices("Image", f"image-{number}", [m.image for m in mosaics]) if len(mosaics) > 1 else ""
    panels = [_panel(f"{number}-{k}", mosaic, tree, hidden=k > 0) for k, mosaic in enumerate(mosaics)]
    head = element("header", {}, element("h3", {}, record.name), element("p", {}, facts))
    return element("article", {"class": "card", "id": f"case-{number}"}, head, tabs, *panels)


def _panel(name: str, mosaic: Mosaic, tree: CategoryTree, *, hidden: bool) -> Html:
    """The planes of one image, its presets, and the legend of its outlines."""
    if not mosaic.pictures:
        return element("div", {"class": "panel", "hidden": hidden}, note("There is no plane to draw."))
    wide = sum(picture.extent[1] for picture in mosaic.pictures)
    high = max(picture.extent[0] for picture in mosaic.pictures)
    scale = min(ROW / wide, (TALL if len(mosaic.pictures) > 1 else ALONE) / high)
    figures = [_figure(picture, scale, tree) for picture in mosaic.pictures]
    categories = dict.fromkeys(name for picture in mosaic.pictures for name, _ in picture.outlines)
    order = sorted(categories, key=lambda c: tree.names.index(c) if c in tree else len(tree))
    legend = [element("li", {}, element("i", {"style": f"background:{css_colour(c, tree)}"}), c) for c in order]
    choices = _choices("Window", f"preset-{name}", [p.name for p in mosaic.presets]) if mosaic.presets else ""
    ranges = " ".join(f"{p.low:.9g},{p.high:.9g}" for p in mosaic.presets)
    return element(
        "div",
        {"class": "panel", "hidden": hidden, "data-ranges": ranges},
        element("div", {"class": "planes"}, *figures),
        choices,
        element("p", {"class": "where"}, mosaic.where) if mosaic.where else "",
        element("ul", {"class": "legend"}, *legend) if legend else "",
    )


def _figure(picture: Picture, scale: float, tree: CategoryTree) -> Html:
    view, pixels = picture.view, picture.pixels
    height, width = (max(side * scale, 2.0) for side in picture.extent)
    canvas = {
        "width": pixels.width,
        "height": pixels.height,
        "role": "img",
        "aria-label": f"{view.name} plane",
        "data-kind": pixels.kind,
        "data-low": f"{pixels.low:.9g}",
        "data-step": f"{pixels.step:.9g}",
        "data-z": pixels.data,
    }
    rows, columns = picture.size
    frame = {"viewBox": f"0 0 {columns} {rows}", "preserveAspectRatio": "none", "aria-hidden": "true"}
    lines = [
        element("path", {"d": path, "stroke": css_colour(category, tree)}, element("title", {}, category))
        for category, path in picture.outlines
    ]
    drawn = element("svg", frame, element("g", {"class": "outlines"}, *lines), _ticks(picture))
    box = {"class": "plane", "style": f"--w:{width:.1f}px;--h:{height:.1f}px"}
    letters = [
        element("b", {"class": side}, letter) for side, letter in zip("lrtb", view.letters, strict=True) if letter
    ]
    place = element("span", {}, f"{view.across} {picture.number} / {picture.count}")
    caption = element("figcaption", {}, view.name, place) if view.across else ""
    frame_class = "framed lettered" if any(view.letters) else "framed"
    inner = element("div", {"class": frame_class}, element("div", box, element("canvas", canvas), drawn), *letters)
    return element("figure", {}, inner, caption)


def _ticks(picture: Picture) -> Html:
    """Short lines at the edges where the other planes cut this one."""
    if picture.count == 1 and not picture.view.across:
        return Html("")
    (rows, columns), (row, column) = picture.size, picture.cross
    tall, wide = rows * 0.05, columns * 0.05
    path = f"M{column} 0v{tall:g}M{column} {rows}v{-tall:g}M0 {row}h{wide:g}M{columns} {row}h{-wide:g}"
    return element("path", {"class": "ticks", "d": path})


def css_colour(category: str, tree: CategoryTree) -> str:
    """The outline colour of a category."""
    return "#{:02x}{:02x}{:02x}".format(*category_colour(category, tree.names))


def _choices(title: str, name: str, values: Sequence[str], *, chosen: int = 0) -> Html:
    """One of some values, with the arrow keys as well."""
    options = [
        element(
            "label",
            {},
            element("input", {"type": "radio", "name": name, "value": k, "checked": k == chosen, "data-name": value}),
            element("span", {}, value),
        )
        for k, value in enumerate(values)
    ]
    return element("fieldset", {"class": "seg"}, element("legend", {}, title), join(options))
