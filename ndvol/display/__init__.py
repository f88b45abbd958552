"""Planes of volumes as pictures: grey values, presets, category colours, outlines; and objects as HTML."""

from ndvol.display.colours import OUTLINES, category_colour, outline
from ndvol.display.grey import Preset, grey_range, plane_of, presets, read_plane, to_grey
from ndvol.display.html import (
    case_html,
    facts_html,
    figure,
    labels_html,
    legend,
    or_reason,
    page,
    rows_html,
    text,
    volume_facts,
    volume_html,
)
from ndvol.display.thumbnails import label_thumbnail, thumbnail

__all__ = [
    "OUTLINES",
    "Preset",
    "case_html",
    "category_colour",
    "facts_html",
    "figure",
    "grey_range",
    "label_thumbnail",
    "labels_html",
    "legend",
    "or_reason",
    "outline",
    "page",
    "plane_of",
    "presets",
    "read_plane",
    "rows_html",
    "text",
    "thumbnail",
    "to_grey",
    "volume_facts",
    "volume_html",
]
