"""Pyramid levels: which grids they have, and their voxels, computed from those of level 0.

A voxel of level k stands for a block of ``F[i]`` voxels of level 0 along axis i. With indices of voxel centres,
``index_0 = F * index_k + (F - 1) / 2``. Where the blocks do not fit, the last one is cut at the border of level 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GridError, OptionError
from ndvol.geometry.grid import Grid
from ndvol.geometry.window import Window

MAX_LEVELS = 10
"""Levels of a volume. A voxel of level 9 stands for 2^27 at most, whose sums 64 bits hold."""
SLAB_VOXELS = 2**18
"""Voxels of a level that are computed at once, so that what is needed on the way to them takes little memory."""


def level_grids(grid: Grid, levels: int) -> tuple[Grid, ...]:
    """The grids of the levels above `grid`, which is level 0: `levels` - 1, or fewer where no axis is left to halve.

    From one level to the next an axis of space with more than one voxel is halved when its spacing is below sqrt(2)
    times the smallest spacing of such axes: that brings the voxels closest to cubes. t and c are never halved.

    Raises
    ------
    OptionError : for another number of levels than 1 … `MAX_LEVELS`.

    >>> grid = Grid.regular("zyx", (9, 65, 64), spacing=(4, 1, 1))
    >>> [(level.shape, level.spacing, level.origin) for level in level_grids(grid, 4)[1:]]
    [((9, 17, 16), (4.0, 4.0, 4.0), (1.5, 1.5, 0.0)), ((5, 9, 8), (8.0, 8.0, 8.0), (3.5, 3.5, 2.0))]
    """
    if not 1 <= levels <= MAX_LEVELS:
        raise OptionError("a volume cannot have that many levels", got=levels, expected=f"1 … {MAX_LEVELS}")
    grids: list[Grid] = [grid]
    while len(grids) < levels and (factor := _next_factor(grids[-1])) is not None:
        grids.append(_coarser(grids[-1], factor))
    return tuple(grids[1:])


def grids_of_shapes(grid: Grid, shapes: Sequence[tuple[int, ...]]) -> tuple[Grid, ...]:
    """The grids of levels 1, 2, … from their shapes: an axis is as long as on the level before, or half, rounded up.

    Raises
    ------
    GridError : for any other length.
    """
    grids = [grid]
    for shape in shapes:
        before = grids[-1]
        factor = tuple(1 if m == n else 2 for m, n in zip(shape, before.shape, strict=True))
        whole = all(f == 1 or i in grid.spatial for i, f in enumerate(factor))
        if not whole or shape != halved_shape(before.shape, factor):
            raise GridError(
                f"level {len(grids)} does not fit the level before",
                got=shape,
                expected=f"{before.shape}, with spatial axes halved",
            )
        grids.append(_coarser(before, factor))
    return tuple(grids[1:])


def level_factor(grid: Grid, level: Grid) -> tuple[int, ...]:
    """Voxels of `grid` per voxel of its coarser `level`, by axis: a power of two."""
    ratios = iter(np.rint(np.array(level.spacing) / np.array(grid.spacing)).astype(int).tolist())
    return tuple(next(ratios) if i in grid.spatial else 1 for i in range(grid.ndim))


def fine_box(window: Window, factor: Sequence[int]) -> Window:
    """The voxels of level 0 that a window of a level stands for; past the border it goes on in whole blocks.

    >>> fine_box(Window((-1, 2), (3, 4)), (2, 1))
    Window(start=(-2, 2), shape=(6, 4))
    """
    scaled = [(a * f, n * f) for a, n, f in zip(window.start, window.shape, factor, strict=True)]
    return Window(tuple(a for a, _ in scaled), tuple(n for _, n in scaled))


def coarse_box(box: Window, factor: Sequence[int]) -> Window:
    """The smallest window of a level that holds a box of level 0.

    >>> coarse_box(Window((3, 2), (2, 4)), (2, 1))
    Window(start=(1, 2), shape=(2, 4))
    """
    start = [a // f for a, f in zip(box.start, factor, strict=True)]
    return Window.between(start, [-(-b // f) for b, f in zip(box.stop, factor, strict=True)])


def coarse_window(window: Window, factor: Sequence[int]) -> Window:
    """The window of a level with as many voxels as a window of level 0, about the same centre.

    The centres differ by half a voxel of the level at most. Every voxel of `window` lies in a block of the result.

    >>> coarse_window(Window((10, 10), (4, 4)), (2, 1))
    Window(start=(4, 10), shape=(4, 4))
    """
    # The centre is at (2 a + n) / 2 in level 0 and (2 start + n) / 2 in the level, times f; rounded half up.
    starts = [(2 * a + n - n * f + f) // (2 * f) for a, n, f in zip(window.start, window.shape, factor, strict=True)]
    return Window(tuple(starts), window.shape)


def level_means(array: NDArray[Any], factors: Sequence[tuple[int, ...]]) -> Iterator[NDArray[Any]]:
    """Levels 1, 2, … of an image: the mean of the voxels of level 0 in each block, in the type of `array`.

    Means of integers are exact, and rounded half to even. Those of floats are summed in float64; a block with a nan has
    the mean nan.

    Parameters
    ----------
    factors : 1 or 2 per axis, from each level to the next.

    Raises
    ------
    OptionError : when a sum is beyond float64.

    >>> [level.tolist() for level in level_means(np.array([1, 2, 4, 4, 9], np.int16), [(2,), (2,)])]
    [[2, 4, 9], [3, 9]]
    """
    parts, kind = _split(array), np.float64 if array.dtype.kind == "f" else np.int64
    for factor, total in zip(factors, _running_products(factors), strict=True):
        try:
            with np.errstate(over="raise", invalid="ignore"):
                parts = [_block_sums(part, factor, kind) for part in parts]
        except FloatingPointError:
            raise OptionError(
                "the mean of neighbouring voxels is beyond float64", hint="import level 0 alone"
            ) from None
        sizes, means = _block_sizes(array.shape, total), np.empty(parts[0].shape, array.dtype)
        for rows in _slabs(means.shape):
            means[rows] = _mean([part[rows] for part in parts], sizes[rows], array.dtype)
        yield means


def level_majorities(
    labels: NDArray[Any], factors: Sequence[tuple[int, ...]], boxes: Mapping[int, Window]
) -> list[NDArray[Any]]:
    """Levels 1, 2, … of a label volume: the value that most voxels of level 0 in each block have.

    Of equal counts a category wins over background (0), and the smaller value over the larger.

    Parameters
    ----------
    factors : 1 or 2 per axis, from each level to the next.
    boxes : every non-zero value that occurs, and a box that holds all its voxels.

    >>> labels = np.array([0, 1, 2, 1, 0, 0, 3])
    >>> [level.tolist() for level in level_majorities(labels, [(2,), (2,)], {v: Window((0,), (7,)) for v in (1, 2, 3)})]
    [[1, 1, 0, 3], [1, 0]]
    """
    totals = list(_running_products(factors))
    # What is left when all other values are counted.
    background = [_block_sizes(labels.shape, total) for total in totals]
    won = [np.zeros(size.shape, labels.dtype) for size in background]
    most = [np.zeros(size.shape, np.int32) for size in background]
    for value in sorted(boxes) if factors else ():
        # Blocks of the coarsest level are whole blocks of all levels.
        span = [(a // f * f, b) for a, b, f in zip(boxes[value].start, boxes[value].stop, totals[-1], strict=True)]
        stop = [min(n, ceil(b / f) * f) for (_, b), n, f in zip(span, labels.shape, totals[-1], strict=True)]
        counts = labels[tuple(slice(a, b) for (a, _), b in zip(span, stop, strict=True))] == value
        for k, (factor, total) in enumerate(zip(factors, totals, strict=True)):
            counts = _block_sums(counts, factor, np.int32)
            at = tuple(slice(a // f, a // f + n) for (a, _), f, n in zip(span, total, counts.shape, strict=True))
            background[k][at] -= counts
            better = counts > most[k][at]
            won[k][at][better] = value
            most[k][at][better] = counts[better]
    for k, free in enumerate(background):
        won[k][free > most[k]] = 0
    return won


def level_factors(grid: Grid, levels: Sequence[Grid]) -> list[tuple[int, ...]]:
    """1 or 2 per axis, from each level to the next."""
    return [level_factor(before, after) for before, after in zip([grid, *levels], levels, strict=False)]


def halved_shape(shape: Sequence[int], factor: Sequence[int]) -> tuple[int, ...]:
    """Blocks per axis, the last one maybe cut."""
    return tuple(ceil(n / f) for n, f in zip(shape, factor, strict=True))


def _next_factor(grid: Grid) -> tuple[int, ...] | None:
    steps = {i: s for i, s in zip(grid.spatial, grid.spacing, strict=True) if grid.shape[i] > 1}
    if not steps:
        return None
    least = min(steps.values())
    return tuple(2 if i in steps and steps[i] < sqrt(2) * least else 1 for i in range(grid.ndim))


def _coarser(grid: Grid, factor: Sequence[int]) -> Grid:
    steps = np.array([factor[i] for i in grid.spatial], np.float64)
    affine = grid.affine.copy()
    affine[:-1, :-1] *= steps
    affine[:-1, -1] = grid.world((steps - 1) / 2)
    return Grid(grid.axes, halved_shape(grid.shape, factor), affine, grid.frame, grid.unit)


def _running_products(factors: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Voxels of level 0 per block and axis, level by level."""
    for k in range(len(factors)):
        yield tuple(prod(along) for along in zip(*factors[: k + 1], strict=True))


def _block_sizes(shape: Sequence[int], factor: Sequence[int]) -> NDArray[np.int32]:
    """Voxels of level 0 in each block."""
    sizes = np.ones((), np.int32)
    for n, f in zip(shape, factor, strict=True):
        along = np.full(ceil(n / f), f, np.int32)
        if n % f:
            along[-1] = n % f
        sizes = np.multiply.outer(sizes, along)
    return np.asarray(sizes)


def _block_sums(array: NDArray[Any], factor: Sequence[int], dtype: type[Any]) -> NDArray[Any]:
    """Sums over blocks of 1 or 2 voxels per axis."""
    out = np.empty(halved_shape(array.shape, factor), dtype)
    for rows in _slabs(out.shape):
        slab = array[rows.start * factor[0] : rows.stop * factor[0]]
        for axis, f in enumerate(factor):
            if f == 2:
                head = (slice(None),) * axis
                odd = slab[(*head, slice(1, None, 2))]
                slab = slab[(*head, slice(0, None, 2))].astype(dtype)
                slab[(*head, slice(odd.shape[axis]))] += odd
        out[rows] = slab
    return out


def _slabs(shape: Sequence[int]) -> Iterator[slice]:
    """Slices of the first axis that together cover it, of about `SLAB_VOXELS` each."""
    rows = max(1, SLAB_VOXELS // max(1, prod(shape[1:])))
    return (slice(first, first + rows) for first in range(0, shape[0], rows))


def _split(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Arrays whose sums fit 64 bits: integers of 64 bits as their upper and lower half."""
    if array.dtype.kind == "f" or array.itemsize < 8:
        return [array]
    return [(array >> 32).astype(np.int64), (array & 0xFFFFFFFF).astype(np.int64)]


def _mean(sums: list[NDArray[Any]], sizes: NDArray[np.int32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Sums divided by the sizes of their blocks; two sums are the halves of `_split`."""
    if dtype.kind == "f":
        return np.asarray(sums[0] / sizes, dtype)
    mean, rest = np.divmod(sums[0], sizes)
    if len(sums) == 2:
        # The upper halves leave a rest, which is less than 2^27 times 2^32.
        lower, rest = np.divmod((rest << 32) + sums[1], sizes)
        mean = (mean.astype(dtype) << np.array(32, dtype)) + lower.astype(dtype)
    up = (2 * rest > sizes) | ((2 * rest == sizes) & (mean % 2 == 1))
    return np.asarray(mean + up.astype(mean.dtype), dtype)
