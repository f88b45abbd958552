"""Planes of volumes as pictures: views, grey values, presets, category colours, outlines; and objects as HTML."""

from ndvol.display.colours import OUTLINES, category_colour, outline
from ndvol.display.grey import Preset, ShownVolume, grey_range, plane_of, presets, read_plane, to_grey
from ndvol.display.html import (
    case_html,
    facts_html,
    figure,
    labels_html,
    legend,
    more,
    or_reason,
    page,
    rows_html,
    volume_facts,
    volume_html,
)
from ndvol.display.planes import PlaneView, direction_letters, plane_views, read_view, view_pixel, view_steps
from ndvol.display.png import png_uri
from ndvol.display.thumbnails import label_thumbnail, thumbnail

__all__ = [
    "OUTLINES",
    "PlaneView",
    "Preset",
    "ShownVolume",
    "case_html",
    "category_colour",
    "direction_letters",
    "facts_html",
    "figure",
    "grey_range",
    "label_thumbnail",
    "labels_html",
    "legend",
    "more",
    "or_reason",
    "outline",
    "page",
    "plane_of",
    "plane_views",
    "png_uri",
    "presets",
    "read_plane",
    "read_view",
    "rows_html",
    "thumbnail",
    "to_grey",
    "view_pixel",
    "view_steps",
    "volume_facts",
    "volume_html",
]
