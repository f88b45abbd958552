"""Small pictures of one plane of a volume, read at a bounded price."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.display.colours import OUTLINES, outline
from ndvol.display.grey import ShownVolume, grey_range, plane_window, read_plane, to_grey
from ndvol.errors import GridError, WindowError

SIDE = 256
"""Most pixels along the longer side of a thumbnail."""
MOST_VOXELS = 2**24
"""A plane with more is not read for a thumbnail."""
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One plane, thinned.

    Attributes
    ----------
    pixels : uint8, (y, x) or (y, x, 3).
    aspect : height over width of the plane in the world.
    caption : where the plane lies, and the least and greatest value in it.
    level : pyramid level that was read.
    start : index of the plane's first voxel on that level, by axis.
    step : voxels of the plane, on that level, per pixel.
    """

    pixels: NDArray[np.uint8]
    aspect: float
    caption: str
    level: int
    start: Mapping[str, int]
    step: int

    def outlined(self, values: NDArray[Any]) -> Thumbnail:
        """The same with the outlines of the labels `values`, (y, x) as the plane before it was thinned."""
        pixels = self._rgb()
        thin = values[:: self.step, :: self.step]
        edges = outline(thin)
        pixels[edges] = _coloured(thin)[edges]
        return replace(self, pixels=pixels)

    def boxed(self, rows: tuple[int, int], columns: tuple[int, int]) -> Thumbnail:
        """The same with a dashed rectangle around the rows and columns ``first … last + 1`` of the plane."""
        pixels = self._rgb()
        (top, bottom), (left, right) = (
            (min(first // self.step, n - 1), min((last - 1) // self.step, n - 1))
            for (first, last), n in zip((rows, columns), pixels.shape, strict=False)
        )
        dashes = (np.arange(max(pixels.shape[:2])) // 3 % 2) == 0
        for y in (top, bottom):
            pixels[y, left : right + 1][dashes[: right + 1 - left]] = _WHITE
        for x in (left, right):
            pixels[top : bottom + 1, x][dashes[: bottom + 1 - top]] = _WHITE
        return replace(self, pixels=pixels)

    def _rgb(self) -> NDArray[np.uint8]:
        return self.pixels.copy() if self.pixels.ndim == 3 else np.repeat(self.pixels[..., None], 3, -1)


def value_colour(value: int) -> tuple[int, int, int]:
    """The colour of a label value where no catalogue says which category comes first."""
    return OUTLINES[(value - 1) % len(OUTLINES)]


def thumbnail(volume: ShownVolume, at: tuple[int, ...] | None = None) -> Thumbnail:
    """The y-x plane of an image through voxel `at` of level 0, the middle one by default.

    The coarsest level that fills a thumbnail is read.

    Raises
    ------
    WindowError : when a volume has no such plane, or it is larger than `MOST_VOXELS` on every level.
    """
    return _thumbnail(volume, at, lambda plane: to_grey(plane, grey_range(volume, plane)))


def label_thumbnail(volume: ShownVolume, at: tuple[int, ...] | None = None) -> Thumbnail:
    """The same of a label volume: each value in its `value_colour`, background black."""
    return _thumbnail(volume, at, _coloured)


def _coloured(plane: NDArray[Any]) -> NDArray[np.uint8]:
    colours = np.array(OUTLINES, np.uint8)[(plane.astype(np.int64) - 1) % len(OUTLINES)]
    return np.where((plane != 0)[..., None], colours, np.uint8(0))


def _thumbnail(
    volume: ShownVolume, at: tuple[int, ...] | None, paint: Callable[[NDArray[Any]], NDArray[np.uint8]]
) -> Thumbnail:
    axes, shape = volume.grid.axes, volume.grid.shape
    if not {"y", "x"} <= set(axes) or 0 in shape:
        raise WindowError("there is no plane of y and x to show", got=f"axes {axes!r}, shape {shape}")
    point = at or tuple(n // 2 for n in shape)
    level = _level(volume)
    grid = volume.level_grid(level)
    start = tuple(p * n // whole for p, n, whole in zip(point, grid.shape, shape, strict=True))
    if (size := plane_window(grid, start).size) > MOST_VOXELS:
        raise WindowError("a plane is too large to show", got=f"{size} voxels", expected=f"at most {MOST_VOXELS}")
    plane = read_plane(volume, start, level=level)
    step = -(-max(plane.shape[:2]) // SIDE)
    places = [f"{a} {p} of {n}" for a, p, n in zip(axes, point, shape, strict=True) if a not in "cyx"]
    if level:
        places.append(f"level {level}")
    finite = plane[np.isfinite(plane)]
    if finite.size:
        places.append(f"values {finite.min():g} … {finite.max():g}")
    high, wide = (_length(volume, a) for a in "yx")
    by_axis = dict(zip(axes, start, strict=True))
    return Thumbnail(paint(plane)[::step, ::step], high / wide, ", ".join(places), level, by_axis, step)


def _level(volume: ShownVolume) -> int:
    """The coarsest level whose plane still fills a thumbnail; a level of unknown grid is passed over."""
    for level, (height, width) in _plane_sizes(volume):
        if max(height, width) >= SIDE:
            return level
    return 0


def _plane_sizes(volume: ShownVolume) -> Iterator[tuple[int, tuple[int, int]]]:
    for level in range(volume.levels - 1, 0, -1):
        try:
            grid = volume.level_grid(level)
        except GridError:
            continue
        yield level, (grid.shape[grid.axes.index("y")], grid.shape[grid.axes.index("x")])


def _length(volume: ShownVolume, axis: str) -> float:
    """Of a plane along y or x, in the world."""
    grid = volume.grid
    spatial = [grid.axes[i] for i in grid.spatial]
    return grid.shape[grid.axes.index(axis)] * grid.spacing[spatial.index(axis)]
