"""Polygons to voxels by the test of the voxel's centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndvol.formats import Holes

EDGE = 1e-6
"""Voxels: a centre this close to an edge lies on it. It stands far above the rounding of an affine and far below
the decimals of a structure set, so that a flipped or permuted volume gets the same voxels."""

_BLOCK = 4096
"""Edges at a time: bounds the memory for polygons of very many vertices."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The polygons of a plane, filled.

    Attributes
    ----------
    start, mask : the mask of the box around the polygons, as far as it is inside the array, and its first voxel.
    overlap : whether a voxel lies in several polygons, so that the rule for holes decides about it.
    """

    start: tuple[int, int]
    mask: NDArray[np.bool_]
    overlap: bool


def fill_polygons(polygons: Sequence[NDArray[np.float64]], shape: Sequence[int], *, holes: Holes = "auto") -> Filled:
    """The voxels whose centres lie inside polygons of one structure and plane. Equal polygons count once.

    Parameters
    ----------
    polygons : (n, 2) each, vertices as continuous indices of an array of `shape`.
    holes : ``auto``: polygons inside others are holes, those inside holes are islands, and so on (even-odd), and
        polygons that do not lie inside each other are united; ``xor``: all are combined by even-odd, whether they
        lie inside each other or not; ``union``: all are united.

    >>> square = np.array([[0.5, 0.5], [0.5, 4.5], [4.5, 4.5], [4.5, 0.5]])
    >>> ring = fill_polygons([square, (square - 2.5) / 2 + 2.5], (6, 6))
    >>> ring.start, ring.mask.astype(int).tolist(), ring.overlap
    ((1, 1), [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]], True)
    """
    unique = list({polygon.tobytes(): polygon for polygon in polygons}.values())
    low = np.min([p.min(0) for p in unique], axis=0)
    high = np.max([p.max(0) for p in unique], axis=0)
    start = np.clip(np.ceil(low - EDGE), 0, np.array(shape)).astype(np.int64)
    stop = np.clip(np.floor(high + EDGE) + 1, start, np.array(shape)).astype(np.int64)
    box = (int(stop[0] - start[0]), int(stop[1] - start[1]))
    masks = [polygon_mask(polygon - start, box) for polygon in unique]
    covered = np.zeros(box, np.int32)
    for mask in masks:
        covered += mask
    overlap = bool((covered > 1).any())
    if holes == "xor":
        filled = covered % 2 == 1
    elif holes == "union" or not overlap:
        filled = covered > 0
    else:
        filled = np.zeros(box, bool)
        for depth, mask in sorted(zip(nesting(unique), masks, strict=True), key=lambda pair: pair[0]):
            filled = filled & ~mask if depth % 2 else filled | mask
    return Filled((int(start[0]), int(start[1])), filled, overlap)


def polygon_mask(vertices: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The voxels of an array of `shape` whose centres lie inside a polygon (even-odd) or on its edges.

    The same voxels as ``skimage.draw.polygon2mask``, row by row instead of vertex by vertex for each voxel: a
    body contour of 1000 points on 512 x 512 takes 2 ms instead of 400. A polygon that touches itself, as
    keyholes do, is no special case.
    """
    rows, columns = shape
    toggles = np.zeros((rows, columns + 1), np.int32)
    on_edge = np.zeros(shape, bool)
    near = np.rint(vertices)
    points = np.where(np.abs(vertices - near) <= EDGE, near, vertices)
    ends = np.roll(points, -1, axis=0)
    for k in range(0, len(points), _BLOCK):
        _add_edges(points[k : k + _BLOCK], ends[k : k + _BLOCK], toggles, on_edge)
    inside = np.cumsum(toggles, axis=1)[:, :columns] % 2 == 1
    return np.asarray(inside | on_edge)


def _add_edges(
    a: NDArray[np.float64], b: NDArray[np.float64], toggles: NDArray[np.int32], on_edge: NDArray[np.bool_]
) -> None:
    """Where edges a → b cross the rows of voxel centres: an odd number of crossings to the left means inside."""
    rows, columns = on_edge.shape
    a, b = np.where((a[:, 0] <= b[:, 0])[:, None], a, b), np.where((a[:, 0] <= b[:, 0])[:, None], b, a)
    level = a[:, 0] == b[:, 0]
    for (row, one), (_, other) in zip(a[level].tolist(), b[level].tolist(), strict=True):
        if row.is_integer() and 0 <= row < rows:
            first, last = sorted((one, other))
            on_edge[int(row), max(0, int(np.ceil(first))) : max(0, int(np.floor(last)) + 1)] = True
    a, b = a[~level], b[~level]
    first = np.clip(np.ceil(a[:, 0]), 0, rows).astype(np.int64)
    last = np.clip(np.floor(b[:, 0]), -1, rows - 1).astype(np.int64)
    counts = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(a)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    share = (row - a[edge, 0]) / (b[edge, 0] - a[edge, 0])
    column = a[edge, 1] + share * (b[edge, 1] - a[edge, 1])
    near = np.rint(column)
    hit = (np.abs(column - near) <= EDGE) & (near >= 0) & (near < columns)
    on_edge[row[hit], near[hit].astype(np.int64)] = True
    # A row through a vertex belongs to the edge that begins there, so that two edges count it once.
    crossed = row < b[edge, 0]
    to = np.clip(np.floor(column) + 1, 0, columns).astype(np.int64)
    np.add.at(toggles, (row[crossed], to[crossed]), 1)


def nesting(polygons: Sequence[NDArray[np.float64]]) -> list[int]:
    """How many of the others each polygon lies inside of: with all its vertices, not all of them on the edge."""
    lows, highs = np.array([p.min(0) for p in polygons]), np.array([p.max(0) for p in polygons])
    depths = []
    for k, polygon in enumerate(polygons):
        around = ((lows <= lows[k] + EDGE) & (highs >= highs[k] - EDGE)).all(1)
        around[k] = False
        depths.append(sum(_lies_inside(polygon, polygons[int(j)]) for j in np.flatnonzero(around)))
    return depths


def _lies_inside(polygon: NDArray[np.float64], outer: NDArray[np.float64]) -> bool:
    a, b = outer, np.roll(outer, -1, axis=0)
    along = b - a
    lengths = np.maximum((along**2).sum(1), np.finfo(float).tiny)
    somewhere = False
    for point in polygon:
        nearest = a + np.clip(((point - a) * along).sum(1) / lengths, 0, 1)[:, None] * along
        if ((point - nearest) ** 2).sum(1).min() <= EDGE**2:
            continue
        spans = (a[:, 0] <= point[0]) != (b[:, 0] <= point[0])
        at = a[spans, 1] + (point[0] - a[spans, 0]) / along[spans, 0] * along[spans, 1]
        if np.count_nonzero(at > point[1]) % 2 == 0:
            return False
        somewhere = True
    return somewhere
