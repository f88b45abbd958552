"""Exact lists of the windows that hold few enough marked voxels, by box sums over an N-d mask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
            running = np.cumsum(sums, axis, dtype=sums.dtype)
            sums = running[(*before, slice(w - 1, None))].copy()
            sums[(*before, slice(1, None))] -= running[(*before, slice(None, -w))]
    return sums


class Admissible:
    """The positions of a window in one volume at which it holds at most `limit` marked voxels.

    Parameters
    ----------
    shape : of the volume.
    window : lengths, one per axis; the positions are those of `start_range`.
    mask : gives the marked voxels of a window inside the volume.

    Attributes
    ----------
    fewest : the smallest number of marked voxels at any position.

    Kept as runs along the last axis: 16 bytes per run, not per position.

    >>> marked = np.array([0, 1, 0, 0, 0], bool)
    >>> free = Admissible((5,), (2,), lambda w: marked[w.slices], 0)
    >>> len(free), free[1], (1,) in free
    (2, (3,), False)
    """

    def __init__(
        self, shape: Sequence[int], window: Sequence[int], mask: Callable[[Window], NDArray[np.bool_]], limit: int
    ) -> None:
        rooms = [n - w for n, w in zip(shape, window, strict=True)]
        self._low = [min(0, room) for room in rooms]
        # Where the window is longer than the volume, all its starts see the same voxels: they count as one
        # position of the box sums, repeated `_repeats` times.
        self._lengths = [max(0, room) + 1 for room in rooms]
        self._repeats = [max(0, -room) + 1 for room in rooms]
        self.fewest = prod(window)
        starts, stops = [], []
        for first, sums in _planes(shape, [min(n, w) for n, w in zip(shape, window, strict=True)], mask):
            self.fewest = min(self.fewest, int(sums.min()))
            edges = np.diff(sums.ravel() <= limit, prepend=False, append=False)
            at = np.flatnonzero(edges) + first * prod(self._lengths[1:])
            starts.append(at[::2])
            stops.append(at[1::2])
        self._starts = np.concatenate(starts)
        self._ends = np.cumsum(np.concatenate(stops) - self._starts)

    def __len__(self) -> int:
        return int(self._ends[-1]) * prod(self._repeats) if len(self._ends) else 0

    def __getitem__(self, number: int) -> tuple[int, ...]:
        """Start of admissible position `number`."""
        position, repeat = divmod(number, prod(self._repeats))
        run = int(np.searchsorted(self._ends, position, side="right"))
        if number < 0 or run == len(self._ends):
            raise IndexError(f"position {number} of {len(self)}")
        within = position - (int(self._ends[run - 1]) if run else 0)
        at = np.unravel_index(int(self._starts[run]) + within, self._lengths)
        offset = np.unravel_index(repeat, self._repeats)
        return tuple(low + int(a) + int(o) for low, a, o in zip(self._low, at, offset, strict=True))

    def __contains__(self, start: tuple[int, ...]) -> bool:
        at = [min(s - low, n - 1) for s, low, n in zip(start, self._low, self._lengths, strict=True)]
        position = int(np.ravel_multi_index(at, self._lengths))
        run = int(np.searchsorted(self._starts, position, side="right")) - 1
        if run < 0:
            return False
        length = int(self._ends[run]) - (int(self._ends[run - 1]) if run else 0)
        return position < int(self._starts[run]) + length


def _planes(
    shape: Sequence[int], window: Sequence[int], mask: Callable[[Window], NDArray[np.bool_]]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Starts on axis 0 with the box sums there, in order; together they are the box sums of the volume.

    Holds a window's depth of planes, whatever the depth of the volume, and reads each voxel once.
    """
    if len(shape) == 1:
        yield 0, box_sums(mask(Window.full(shape)), window)
        return
    # The box sums within each plane are added up along axis 0; as there, wrapping around does no harm.
    held: deque[NDArray[Any]] = deque()
    total = np.zeros([n - w + 1 for n, w in zip(shape[1:], window[1:], strict=True)], _unsigned(window))
    depth = max(1, SLAB_VOXELS // prod(shape[1:]))
    for first in range(0, shape[0], depth):
        slab = Window((first, *(0 for _ in shape[1:])), (min(depth, shape[0] - first), *shape[1:]))
        for position, plane in enumerate(box_sums(mask(slab), (1, *window[1:])), first + 1 - window[0]):
            held.append(plane)
            total += plane
            if position >= 0:
                yield position, total
                total -= held.popleft()


def _unsigned(window: Sequence[int]) -> type[np.unsignedinteger[Any]]:
    """The smallest type that counts the voxels of a window."""
    return np.uint32 if prod(window) < 2**32 else np.uint64
