"""Two grids whose voxels lie on each other: which axis is which, and where the one begins in the other."""

from __future__ import annotations

from itertools import product

import numpy as np

from ndvol.geometry.grid import Grid
from ndvol.geometry.orientation import Reorientation


def place_on(grid: Grid, other: Grid, *, tolerance: float) -> tuple[Reorientation, tuple[int, ...]] | None:
    """How `grid` lies on the lattice of `other`: the turn that gives it the axes of `other`, and the spatial index
    of its first voxel there afterwards. The index may be negative, and `grid` may reach beyond `other`.

    None where no voxel centre of the spatial box of `grid` may be further than `tolerance` voxels of `other` from
    the centre of a voxel of the endless lattice, but one is; or where the frames, units or spatial axes differ.

    >>> image = Grid.regular("zyx", (10, 20, 30), spacing=(3, 1, 1))
    >>> part = Grid.regular("zyx", (4, 5, 6), spacing=(3, 1, 1), origin=(7, 2, 9)).flip(1)
    >>> place_on(part, image, tolerance=0.01)
    (Reorientation(order=(0, 1, 2), flips=(False, True, False)), (3, 2, 7))
    """
    if (grid.frame, grid.unit, len(grid.spatial)) != (other.frame, other.unit, len(other.spatial)):
        return None
    steps = np.linalg.solve(other.affine, grid.affine)[:-1, :-1]
    whole = np.rint(steps)
    if not (np.abs(whole).sum(0) == 1).all() or not (np.abs(whole).sum(1) == 1).all():
        return None
    order = tuple(int(k) for k in np.abs(whole).argmax(1))
    turn = Reorientation(order, tuple(bool(whole[k, order[k]] < 0) for k in range(len(order))))
    turned = turn.grid(grid)
    corners = np.array(list(product(*((0, turned.shape[i] - 1) for i in turned.spatial))), np.float64)
    found = other.index(turned.world(corners))
    first = np.rint(found[0])
    if not (np.abs(found - corners - first) <= tolerance).all():
        return None
    return turn, tuple(int(v) for v in first)
