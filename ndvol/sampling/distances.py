"""Distances from windows to marked voxels, in mm, for one window and for all windows of a volume at once.

The distance of a window from a voxel is that between the centres of the voxel and of the nearest voxel of the window:
per axis a gap of whole steps, 0 where the window reaches that far, added up as squares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil, inf, isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window

SLAB_VOXELS = 2**22
"""Squared distances are held for slabs of about this many voxels: 32 MiB of float64."""


def reach_of(distance: float, spacing: Sequence[float]) -> tuple[int, ...]:
    """Steps per axis within which everything lies that is at most `distance` away; 0 along axes not of space."""
    return tuple(ceil(distance / s) if isfinite(s) else 0 for s in spacing)


def squared_distance(marked: NDArray[np.bool_], padded: Window, window: Window, spacing: Sequence[float]) -> float:
    """Squared distance from `window` to the nearest True voxel of `marked`, which lies at `padded`; inf for none."""
    at = np.argwhere(marked) + padded.start
    gaps = np.maximum(np.asarray(window.start) - at, at - np.asarray(window.stop) + 1).clip(0)
    # 0 steps along an axis that is not of space are no distance, though its steps are infinite.
    total = np.zeros(len(at))
    for axis, step in enumerate(spacing):
        total += np.where(gaps[:, axis] > 0, (gaps[:, axis] * step if isfinite(step) else inf), 0.0) ** 2
    return float(total.min(initial=inf))


def distance_planes(
    region: Window,
    window: Sequence[int],
    mask: Callable[[Window], NDArray[np.bool_]],
    spacing: Sequence[float],
    distance: float,
) -> Iterator[NDArray[Any]]:
    """Squared distances of all windows of `region`, up to `distance` (beyond it inf); planes as of `count_planes`."""
    reach = reach_of(distance, spacing)
    count = region.shape[0] - window[0] + 1
    plane = prod(n + 2 * r for n, r in zip(region.shape[1:], reach[1:], strict=True))
    depth = max(1, SLAB_VOXELS // plane) if region.ndim > 1 else count
    for first in range(0, count, depth):
        rows = min(depth, count - first)
        block = Window((region.start[0] + first, *region.start[1:]), (rows + window[0] - 1, *region.shape[1:]))
        squares = _squares(mask(block.padded(reach)), window, spacing, reach)
        yield from squares if region.ndim > 1 else (squares,)


def _squares(
    marked: NDArray[np.bool_], window: Sequence[int], spacing: Sequence[float], reach: Sequence[int]
) -> NDArray[np.float64]:
    """Squared distances of all windows that stay `reach` away from the border of `marked`.

    The minimum over voxels of a sum over axes is taken axis by axis.
    """
    cost = np.where(marked, 0.0, inf)
    for axis, (w, step, r) in enumerate(zip(window, spacing, reach, strict=True)):
        lines = np.moveaxis(cost, axis, 0)
        starts = len(lines) - 2 * r - w + 1
        near = _sliding_min(lines[r : len(lines) - r], w)
        for k in range(1, r + 1):
            square = (k * step) ** 2
            np.minimum(near, lines[r - k : r - k + starts] + square, out=near)
            np.minimum(near, lines[r + w - 1 + k : r + w - 1 + k + starts] + square, out=near)
        cost = np.moveaxis(near, 0, axis)
    return cost


def _sliding_min(lines: NDArray[np.float64], w: int) -> NDArray[np.float64]:
    """Minimum of each `w` neighbours along axis 0, by doubling."""
    span, least = 1, lines
    while 2 * span <= w:
        least = np.minimum(least[:-span], least[span:])
        span *= 2
    rest = w - span
    return np.minimum(least[:-rest], least[rest:]) if rest else least.copy()
