"""Windows in one grid, found again in another."""

from __future__ import annotations

from itertools import product

import numpy as np

from ndvol.geometry.grid import Grid
from ndvol.geometry.window import Window

EDGE_TOLERANCE = 1e-3
"""Voxels; a box that reaches less far than this into a voxel does not take it in: affines are rounded numbers."""


def matching_box(grid: Grid, window: Window, other: Grid) -> Window:
    """The smallest box of voxels of `other` that holds all of the world that a window of `grid` covers.

    A voxel covers the world half a step around its centre. Where the grids are turned against each other, it is
    the box around the window's corners.

    Parameters
    ----------
    window : over the spatial axes of `grid`; may leave it.
    other : in the same frame and unit.

    Returns
    -------
    The box over the spatial axes of `other`; may leave it. Empty for an empty window.

    >>> fine, coarse = Grid.regular("x", (9,), spacing=(1,)), Grid.regular("x", (3,), spacing=(3,), origin=(1,))
    >>> matching_box(fine, Window((3,), (3,)), coarse), matching_box(fine, Window((-1,), (2,)), coarse)
    (Window(start=(1,), shape=(1,)), Window(start=(-1,), shape=(2,)))
    """
    edges = [(a - 0.5, b - 0.5) for a, b in zip(window.start, window.stop, strict=True)]
    corners = other.index(grid.world(np.array(list(product(*edges)), np.float64))) + 0.5
    low = np.floor(corners.min(0) + EDGE_TOLERANCE).astype(int)
    high = np.ceil(corners.max(0) - EDGE_TOLERANCE).astype(int)
    return Window.between(low.tolist(), (low if not window.size else np.maximum(low, high)).tolist())
