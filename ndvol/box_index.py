"""BoxIndex: the index of labels that are boxes, each judged by itself, so that none hides another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SamplingError
from ndvol.geometry import Window

Corners = tuple[NDArray[np.int64], NDArray[np.int64]]


class BoxIndex:
    """Where values are that are given as half-open boxes; boxes of different values may share voxels.

    Answers what `LabelIndex` answers, without an array: a voxel has a value when a box of that value holds it.

    Parameters
    ----------
    value : (n,) of each box.
    start, stop : (n, axes) inside the volume.
    shape : of the volume.

    >>> index = BoxIndex(np.array([7, 7, 8]), np.array([[0], [2], [1]]), np.array([[3], [5], [2]]), (9,))
    >>> index.values, index.count(7), index.voxel(7, 4), index.bounds([7, 8], Window((0,), (3,)))
    ((7, 8), 5, (4,), (3, 3))
    """

    def __init__(
        self, value: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64], shape: Sequence[int]
    ) -> None:
        self._shape = tuple(shape)
        solid = (start < stop).all(1)
        self._boxes: dict[int, Corners] = {
            int(v): (start[solid & (value == v)], stop[solid & (value == v)]) for v in np.unique(value[solid])
        }
        self._disjoint: dict[int, Corners] = {}

    @property
    def values(self) -> tuple[int, ...]:
        """The values that occur, ascending."""
        return tuple(self._boxes)

    def count(self, value: int) -> int:
        """Number of voxels of `value`; one in several boxes counts once."""
        start, stop = self._pieces(value)
        return int((stop - start).prod(1).sum())

    def voxel(self, value: int, r: int) -> tuple[int, ...]:
        """Index of the r-th voxel of `value`."""
        start, stop = self._pieces(value)
        ends = np.cumsum((stop - start).prod(1))
        if not 0 <= r < (int(ends[-1]) if len(ends) else 0):
            raise SamplingError(f"value {value} has no voxel {r}", expected=f"below {self.count(value)}")
        k = int(np.searchsorted(ends, r, side="right"))
        within = r - (int(ends[k - 1]) if k else 0)
        local = np.unravel_index(within, (stop[k] - start[k]).tolist())
        return tuple(int(i) + int(a) for i, a in zip(local, start[k], strict=True))

    def bounds(self, values: Iterable[int], window: Window) -> tuple[int, int]:
        """Least and largest number of voxels of `values` that `window` can hold."""
        counts = [0]
        for value in set(values):
            start, stop = self._pieces(value)
            shared = np.minimum(stop, window.stop) - np.maximum(start, window.start)
            counts.append(int(shared.clip(0).prod(1).sum()))
        return max(counts), min(sum(counts), prod(window.clip(self._shape).shape))

    def inside(self, values: Iterable[int], window: Window) -> int:
        """Number of voxels of `values` in `window`, exactly."""
        wanted = set(values)
        low, high = self.bounds(wanted, window)
        return low if low == high else int(self.mask(wanted, window).sum())

    def mask(self, values: Iterable[int], window: Window) -> NDArray[np.bool_]:
        """True at the voxels of `values`: an array of the window's shape, False outside the volume."""
        mask = np.zeros(window.shape, bool)
        for value in set(values) & self._boxes.keys():
            for start, stop in zip(*self._boxes[value], strict=True):
                shared = Window.between(start, stop).intersection(window)
                if shared.size:
                    mask[shared.shifted([-a for a in window.start]).slices] = True
        return mask

    def _pieces(self, value: int) -> Corners:
        """The boxes of a value as boxes that share no voxel."""
        if value not in self._disjoint:
            none = np.zeros((0, len(self._shape)), np.int64)
            self._disjoint[value] = disjoint(*self._boxes.get(value, (none, none)))
        return self._disjoint[value]


def disjoint(start: NDArray[np.int64], stop: NDArray[np.int64]) -> Corners:
    """Boxes that share no voxel and together hold the voxels of the given ones.

    >>> [corner.tolist() for corner in disjoint(np.array([[0], [2]]), np.array([[3], [5]]))]
    [[[0], [3]], [[3], [5]]]
    """
    kept_start, kept_stop = start[:0], stop[:0]
    for low, high in zip(start, stop, strict=True):
        parts = [(low, high)]
        overlapping = ((kept_start < high) & (low < kept_stop)).all(1)
        for other in zip(kept_start[overlapping], kept_stop[overlapping], strict=True):
            parts = [piece for part in parts for piece in _without(*part, *other)]
        if parts:
            kept_start = np.concatenate([kept_start, [a for a, _ in parts]])
            kept_stop = np.concatenate([kept_stop, [b for _, b in parts]])
    return kept_start, kept_stop


def _without(
    low: NDArray[np.int64], high: NDArray[np.int64], other_low: NDArray[np.int64], other_high: NDArray[np.int64]
) -> Iterator[Corners]:
    """The box `low` … `high` without the other: at most two boxes per axis."""
    if not ((low < other_high) & (other_low < high)).all():
        yield low, high
        return
    low, high = low.copy(), high.copy()
    for axis in range(len(low)):
        if low[axis] < other_low[axis]:
            end = high.copy()
            end[axis] = other_low[axis]
            yield low.copy(), end
            low[axis] = other_low[axis]
        if other_high[axis] < high[axis]:
            begin = low.copy()
            begin[axis] = other_high[axis]
            yield begin, high.copy()
            high[axis] = other_high[axis]
