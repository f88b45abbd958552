"""Planes of volumes as pictures: views, grey values, presets, category colours, outlines."""

from ndvol.display.colours import OUTLINES, category_colour, outline
from ndvol.display.grey import Preset, grey_range, presets, read_plane, to_grey
from ndvol.display.planes import PlaneView, direction_letters, plane_views, read_view, view_pixel, view_steps
from ndvol.display.png import png_uri

__all__ = [
    "OUTLINES",
    "PlaneView",
    "Preset",
    "category_colour",
    "direction_letters",
    "grey_range",
    "outline",
    "plane_views",
    "png_uri",
    "presets",
    "read_plane",
    "read_view",
    "to_grey",
    "view_pixel",
    "view_steps",
]
