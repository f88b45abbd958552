"""Exact lists of the windows that satisfy conditions, and the box sums over an N-d mask behind them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window

SLAB_VOXELS = 2**24
"""Labels are read and summed in slabs of about this many voxels: 64 MiB of uint32."""


def box_sums(mask: NDArray[np.bool_], window: Sequence[int]) -> NDArray[Any]:
    """Number of True voxels in each box of `window` that fits `mask`; shape ``n - w + 1`` per axis.

    >>> box_sums(np.array([[1, 0, 1], [0, 0, 1]], bool), (2, 2)).tolist()
    [[1, 2]]
    """
    # Running sums may wrap around, yet their differences are box sums, which fit.
    sums = mask.astype(_unsigned(window))
    for axis, w in enumerate(window):
        if w > 1:
            before = (slice(None),) * axis
            running = _running_sums(sums, axis)
            sums = running[(*before, slice(w - 1, None))].copy()
            sums[(*before, slice(1, None))] -= running[(*before, slice(None, -w))]
    return sums


def count_planes(
    region: Window, window: Sequence[int], mask: Callable[[Window], NDArray[np.bool_]]
) -> Iterator[NDArray[Any]]:
    """The box sums over `region`, plane by plane along axis 0 (all at once when it has no other axis).

    Holds a window's depth of planes, whatever the depth of the region, and reads each voxel once. A plane is valid
    until the next one is asked for.
    """
    if region.ndim == 1:
        yield box_sums(mask(region), window)
        return
    # The box sums within each plane are added up along axis 0; as there, wrapping around does no harm.
    held: deque[NDArray[Any]] = deque()
    total = np.zeros([n - w + 1 for n, w in zip(region.shape[1:], window[1:], strict=True)], _unsigned(window))
    depth = max(1, SLAB_VOXELS // prod(region.shape[1:]))
    for first in range(region.start[0], region.stop[0], depth):
        slab = Window((first, *region.start[1:]), (min(depth, region.stop[0] - first), *region.shape[1:]))
        for plane in box_sums(mask(slab), (1, *window[1:])):
            held.append(plane)
            total += plane
            if len(held) == window[0]:
                yield total
                total -= held.popleft()


class Starts:
    """The starts of a window in one volume, and the boxes that they look at.

    Parameters
    ----------
    shape : of the volume.
    low, lengths : first start and number of starts per axis.
    window : lengths of the window.

    Attributes
    ----------
    region, window : all voxels of the volume that any of the windows holds, and the window within it. Where a
        window is longer than the volume, all its starts see the same voxels and count as one, `repeats` times.
    """

    def __init__(self, shape: Sequence[int], low: Sequence[int], lengths: Sequence[int], window: Sequence[int]) -> None:
        self.low = tuple(low)
        self.repeats, self.shape, start, length, self.window = [], [], [], [], []
        for n, a, count, w in zip(shape, low, lengths, window, strict=True):
            longer = w > n
            self.repeats.append(count if longer else 1)
            self.shape.append(1 if longer else count)
            start.append(0 if longer else a)
            length.append(n if longer else count + w - 1)
            self.window.append(min(n, w))
        self.region = Window(tuple(start), tuple(length))

    def __len__(self) -> int:
        return prod(self.shape) * prod(self.repeats)


class Admissible:
    """The admitted ones among the starts of a window in one volume.

    Parameters
    ----------
    starts : all of them.
    planes : True for those admitted, as arrays that follow each other in row-major order.

    Kept as runs along the last axis: 16 bytes per run, not per position.

    >>> starts = Starts((5,), (0,), (4,), (2,))
    >>> free = Admissible(starts, [np.array([False, False, True, True])])
    >>> len(free), free[1], (1,) in free
    (2, (3,), False)
    """

    def __init__(self, starts: Starts, planes: Iterable[NDArray[np.bool_]]) -> None:
        self._of = starts
        begins, stops = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        before = 0
        for plane in planes:
            edges = np.diff(plane.ravel(), prepend=False, append=False)
            at = np.flatnonzero(edges) + before
            begins.append(at[::2])
            stops.append(at[1::2])
            before += plane.size
        self._begins = np.concatenate(begins)
        self._ends = np.cumsum(np.concatenate(stops) - self._begins)

    def __len__(self) -> int:
        return int(self._ends[-1]) * prod(self._of.repeats) if len(self._ends) else 0

    def __getitem__(self, number: int) -> tuple[int, ...]:
        """Admissible start `number`."""
        position, repeat = divmod(number, prod(self._of.repeats))
        run = int(np.searchsorted(self._ends, position, side="right"))
        if number < 0 or run == len(self._ends):
            raise IndexError(f"position {number} of {len(self)}")
        within = position - (int(self._ends[run - 1]) if run else 0)
        at = np.unravel_index(int(self._begins[run]) + within, self._of.shape)
        offset = np.unravel_index(repeat, self._of.repeats)
        return tuple(low + int(a) + int(o) for low, a, o in zip(self._of.low, at, offset, strict=True))

    def __contains__(self, start: tuple[int, ...]) -> bool:
        at = [min(s - low, n - 1) for s, low, n in zip(start, self._of.low, self._of.shape, strict=True)]
        position = int(np.ravel_multi_index(at, self._of.shape))
        run = int(np.searchsorted(self._begins, position, side="right")) - 1
        if run < 0:
            return False
        length = int(self._ends[run]) - (int(self._ends[run - 1]) if run else 0)
        return position < int(self._begins[run]) + length


def _running_sums(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """`numpy.cumsum`, which takes ten times as long along an axis that is not the last."""
    if axis == array.ndim - 1:
        return np.cumsum(array, axis, dtype=array.dtype)
    sums = array.copy()
    lines = np.moveaxis(sums, axis, 0)
    for before, line in pairwise(lines):
        line += before
    return sums


def _unsigned(window: Sequence[int]) -> type[np.unsignedinteger[Any]]:
    """The smallest type that counts the voxels of a window."""
    return np.uint32 if prod(window) < 2**32 else np.uint64
