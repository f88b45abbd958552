"""Planes of volumes as pictures: grey values, presets, category colours, outlines."""

from ndvol.display.colours import OUTLINES, category_colour, outline
from ndvol.display.grey import Preset, grey_range, presets, read_plane, to_grey

__all__ = ["OUTLINES", "Preset", "category_colour", "grey_range", "outline", "presets", "read_plane", "to_grey"]
