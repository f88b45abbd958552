"""Planes across any axis of a volume, laid on a screen as a reader of scans expects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.display.grey import ShownVolume
from ndvol.geometry import Grid, Window
from ndvol.geometry.orientation import closest_canonical

COMPASS_SHARE = float(np.sin(np.pi / 8))
"""A direction gets a second letter where the nearest of eight compass points has one: from 22.5 degrees on."""
_TOWARDS, _AWAY = "LPS", "RAI"


@dataclass(frozen=True, slots=True)
class PlaneView:
    """How the planes across one axis of a grid lie on a screen.

    Attributes
    ----------
    name : ``axial``, ``coronal`` or ``sagittal``, whichever is nearest, in the LPS frame; else the two axes: ``zx``.
    across : the axis along which the planes follow each other; empty where the volume is a single plane.
    axes : name of the axis that runs down, then of the one that runs to the right.
    flips : whether each of these two is drawn backwards.
    letters : what lies beyond the left, right, top and bottom edge, ``R`` or, half-way, ``RA``; empty where the frame
        is not LPS.
    """

    name: str
    across: str
    axes: tuple[str, str]
    flips: tuple[bool, bool]
    letters: tuple[str, str, str, str] = ("", "", "", "")


def plane_views(grid: Grid) -> tuple[PlaneView, ...]:
    """The views of a grid: three for a volume, one for a picture, none for less than two spatial axes.

    In the LPS frame axial planes are seen from the feet and coronal ones from the front (the patient's right is on
    the left), sagittal ones from the left, superior is up; whichever way the voxels are stored. In any other frame
    planes are drawn as they are stored.

    >>> [(v.name, v.across, v.axes, v.letters) for v in plane_views(Grid.regular("zyx", (4, 5, 6), spacing=(2, 1, 1)))]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('axial', 'z', ('y', 'x'), ('R', 'L', 'A', 'P')),
     ('coronal', 'y', ('z', 'x'), ('R', 'L', 'S', 'I')),
     ('sagittal', 'x', ('z', 'y'), ('A', 'P', 'S', 'I'))]
    >>> [(v.name, v.across) for v in plane_views(Grid.regular("tyx", (9, 5, 6)))]
    [('yx', '')]
    """
    names = [grid.axes[i] for i in grid.spatial]
    if len(names) < 2:
        return ()
    if len(names) == 2:
        return (PlaneView("".join(names), "", (names[0], names[1]), (False, False)),)
    if grid.frame != "LPS":
        z, y, x = names
        return tuple(
            PlaneView(down + right, across, (down, right), (False, False))
            for across, down, right in ((z, y, x), (y, z, x), (x, z, y))
        )
    turn = closest_canonical(grid)
    superior, posterior, left = (names[k] for k in turn.order)
    to_superior, to_posterior, to_left = (not flip for flip in turn.flips)
    return (
        _body_view(grid, "axial", superior, (posterior, left), (not to_posterior, not to_left)),
        _body_view(grid, "coronal", posterior, (superior, left), (to_superior, not to_left)),
        _body_view(grid, "sagittal", left, (superior, posterior), (to_superior, not to_posterior)),
    )


def read_view(volume: ShownVolume, view: PlaneView, index: Sequence[int], *, level: int = 0) -> NDArray[Any]:
    """The plane of `view` through a voxel, as it lies on the screen.

    Parameters
    ----------
    index : of the voxel, one per axis of the volume, in voxels of `level`; what it says of the view's own two axes
        and of c does not matter.

    Returns
    -------
    Array of (down, right), or of (down, right, c) where the volume has channels.

    Raises
    ------
    WindowError : when the volume has no such level.

    >>> from ndvol.volumes import ArraySource, Volume
    >>> grid = Grid.regular("zyx", (2, 2, 3), spacing=(1, 1, 1))
    >>> volume = Volume("toy", grid, ArraySource(np.arange(12).reshape(2, 2, 3)))
    >>> read_view(volume, plane_views(grid)[1], (0, 1, 0)).tolist()
    [[9, 10, 11], [3, 4, 5]]
    """
    axes, sizes = volume.grid.axes, volume.level_grid(level).shape
    whole = {*view.axes, "c"}
    start = tuple(0 if a in whole else i for a, i in zip(axes, index, strict=True))
    shape = tuple(n if a in whole else 1 for a, n in zip(axes, sizes, strict=True))
    patch = volume.read(Window(start, shape), level=level)
    kept = [a for a in axes if a in whole]
    plane = patch.reshape([n for a, n in zip(axes, shape, strict=True) if a in whole])
    plane = plane.transpose([kept.index(a) for a in (*view.axes, "c") if a in kept])
    return np.flip(plane, tuple(k for k, flip in enumerate(view.flips) if flip))


def view_steps(grid: Grid, view: PlaneView) -> tuple[float, float]:
    """Height and width of a pixel, in the grid's unit; axes that are not perpendicular are drawn as if they were.

    >>> grid = Grid.regular("zyx", (4, 5, 6), spacing=(3, 1, 0.5))
    >>> view_steps(grid, plane_views(grid)[1])
    (3.0, 0.5)
    """
    spacing = dict(zip((grid.axes[i] for i in grid.spatial), grid.spacing, strict=True))
    return spacing[view.axes[0]], spacing[view.axes[1]]


def view_pixel(grid: Grid, view: PlaneView, index: Sequence[int]) -> tuple[int, int]:
    """The row and column at which a voxel of `grid` lies in its plane.

    >>> grid = Grid.regular("zyx", (4, 5, 6), spacing=(3, 1, 0.5))
    >>> view_pixel(grid, plane_views(grid)[1], (0, 2, 5))
    (3, 5)
    """
    down, right = (
        grid.shape[at] - 1 - index[at] if flip else index[at]
        for at, flip in zip((grid.axes.index(a) for a in view.axes), view.flips, strict=True)
    )
    return int(down), int(right)


def direction_letters(direction: ArrayLike) -> str:
    """Where a direction in LPS leads: ``L``, or two or three letters, the nearest first, where it is oblique.

    >>> direction_letters((0, 0, -1)), direction_letters((-0.6, -0.8, 0))
    ('I', 'AR')
    """
    unit = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    order = sorted(range(3), key=lambda k: -abs(unit[k]))
    return "".join((_TOWARDS if unit[k] > 0 else _AWAY)[k] for k in order if abs(unit[k]) >= COMPASS_SHARE)


def _body_view(grid: Grid, name: str, across: str, axes: tuple[str, str], flips: tuple[bool, bool]) -> PlaneView:
    spatial = [grid.axes[i] for i in grid.spatial]
    down, right = (
        -grid.direction[:, spatial.index(axis)] if flip else grid.direction[:, spatial.index(axis)]
        for axis, flip in zip(axes, flips, strict=True)
    )
    letters = (direction_letters(-right), direction_letters(right), direction_letters(-down), direction_letters(down))
    return PlaneView(name, across, axes, flips, letters)
