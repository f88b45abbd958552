"""Pure geometry: windows, grids, orientation, tiling and planes. numpy only, no I/O."""

from ndvol.geometry.grid import Grid
from ndvol.geometry.orientation import Reorientation, closest_canonical
from ndvol.geometry.tiling import SlidingWindows, chunk_shape, start_range
from ndvol.geometry.window import Clip, Window

__all__ = [
    "Clip",
    "Grid",
    "Reorientation",
    "SlidingWindows",
    "Window",
    "chunk_shape",
    "closest_canonical",
    "start_range",
]
