"""LabelIndex: voxel counts per chunk and value, from which a voxel is drawn or a window judged in O(1) reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SamplingError
from ndvol.geometry import Window
from ndvol.geometry.tiling import chunk_counts, chunk_window

COLUMNS = ("value", "chunk", "count")


_BLOCK = 2**18
"""Voxels that are searched at once: few enough for the processor's cache."""


class _Readable(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read_into(self, window: Window, out: NDArray[Any]) -> Window: ...


def label_values(labels: NDArray[Any]) -> list[int]:
    """The non-zero values that occur, ascending.

    >>> label_values(np.array([[0, 7, 2], [0, 7, 0]], np.uint8))
    [2, 7]
    """
    flat, found = labels.reshape(-1), set()
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        # Labels lie in runs: the last voxels of all runs are few, and hold every value.
        ends = np.append(np.flatnonzero(block[1:] != block[:-1]), len(block) - 1)
        found.update(np.unique(block[ends]).tolist())
    return sorted(int(value) for value in found if value)


def count_chunks(labels: NDArray[Any], chunk: Sequence[int]) -> NDArray[np.int64]:
    """Count the voxels of each non-zero value in each chunk.

    Returns
    -------
    (n, 3) int64 with the columns value, chunk (row-major number), count; sorted by value, then chunk.

    >>> count_chunks(np.array([[0, 1, 2], [0, 1, 0]]), (2, 2)).tolist()
    [[1, 0, 2], [2, 1, 1]]
    """
    rows = []
    for number in range(int(np.prod(chunk_counts(labels.shape, chunk)))):
        block = labels[chunk_window(number, labels.shape, chunk).slices]
        if block.any():
            values, counts = np.unique(block, return_counts=True)
            rows += [(int(v), number, int(c)) for v, c in zip(values, counts, strict=True) if v != 0]
    return np.array(sorted(rows), np.int64).reshape(-1, 3)


class LabelIndex:
    """Where the values of a label volume are.

    Parameters
    ----------
    source : reads windows of the label volume.
    chunk : shape of the chunks that `table` counts.
    table : as `count_chunks` makes it.

    >>> from ndvol.volumes import ArraySource
    >>> labels = np.array([[0, 1, 2], [0, 1, 0]])
    >>> index = LabelIndex(ArraySource(labels), (2, 2), count_chunks(labels, (2, 2)))
    >>> index.count(1), [index.voxel(1, r) for r in range(2)], index.inside([1, 2], Window((0, 1), (1, 5)))
    (2, [(0, 1), (1, 1)], 2)
    """

    def __init__(self, source: _Readable, chunk: Sequence[int], table: NDArray[np.int64]) -> None:
        self._source = source
        self._chunk = tuple(chunk)
        values, starts = np.unique(table[:, 0], return_index=True)
        # Slicing, unlike [*starts[1:], len(table)], also gives no stop for a table without rows.
        stops = np.append(starts, len(table))[1:]
        self._rows = {int(v): table[a:b, 1:] for v, a, b in zip(values, starts, stops, strict=True)}
        self._cumulative = {v: np.cumsum(rows[:, 1]) for v, rows in self._rows.items()}

    @property
    def values(self) -> tuple[int, ...]:
        """The non-zero values that occur, ascending."""
        return tuple(self._rows)

    def count(self, value: int) -> int:
        """Number of voxels of `value`."""
        return int(self._cumulative[value][-1]) if value in self._cumulative else 0

    def voxel(self, value: int, r: int) -> tuple[int, ...]:
        """Index of the r-th voxel of `value`, in the order of chunks, row-major within a chunk.

        A uniform `r` in ``range(count(value))`` makes a uniform voxel. Reads one chunk.
        """
        if not 0 <= r < self.count(value):
            raise SamplingError(f"value {value} has no voxel {r}", expected=f"0 … {self.count(value) - 1}")
        cumulative = self._cumulative[value]
        row = int(np.searchsorted(cumulative, r, side="right"))
        before = int(cumulative[row - 1]) if row else 0
        box = chunk_window(int(self._rows[value][row, 0]), self._source.shape, self._chunk)
        at = np.flatnonzero(self._read(box) == value)
        if len(at) != self._rows[value][row, 1]:
            raise SamplingError(
                f"the index counts another number of voxels of value {value} than its chunk holds",
                got=len(at),
                expected=int(self._rows[value][row, 1]),
                hint="run `ndvol verify`",
            )
        local = np.unravel_index(at[r - before], box.shape)
        return tuple(int(i) + a for i, a in zip(local, box.start, strict=True))

    def bounds(self, values: Iterable[int], window: Window) -> tuple[int, int]:
        """Least and largest number of voxels of `values` that `window` can hold, from the counts alone."""
        low = high = 0
        chunks = self._chunks_of(values)
        if not len(chunks):
            return 0, 0
        grid = np.stack(np.unravel_index(chunks[:, 0], chunk_counts(self._source.shape, self._chunk)), -1)
        start = grid * self._chunk
        stop = np.minimum(start + self._chunk, self._source.shape)
        lo, hi = np.array(window.start), np.array(window.stop)
        whole = ((start >= lo) & (stop <= hi)).all(1)
        shared = np.clip(np.minimum(stop, hi) - np.maximum(start, lo), 0, None).prod(1)
        low = int(chunks[whole, 1].sum())
        high = int(np.minimum(chunks[:, 1], shared).sum())
        return low, min(high, window.size)

    def inside(self, values: Iterable[int], window: Window) -> int:
        """Number of voxels of `values` in `window`, exactly; reads only where the counts leave it open."""
        wanted = sorted(set(values))
        low, high = self.bounds(wanted, window)
        return low if low == high else int(self.mask(wanted, window).sum())

    def mask(self, values: Iterable[int], window: Window) -> NDArray[np.bool_]:
        """True at the voxels of `values`: an array of the window's shape, False outside the volume.

        Reads nothing where the counts say that there are none.
        """
        wanted = sorted(set(values))
        mask = np.zeros(window.shape, bool)
        if self.bounds(wanted, window)[1]:
            clip = window.clip(self._source.shape)
            inside = Window(tuple(s.start for s in clip.inside), clip.shape)
            mask[clip.placement] = np.isin(self._read(inside), wanted)
        return mask

    def _chunks_of(self, values: Iterable[int]) -> NDArray[np.int64]:
        parts = [self._rows[v] for v in set(values) if v in self._rows]
        return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)

    def _read(self, window: Window) -> NDArray[Any]:
        out = np.empty(window.shape, self._source.dtype)
        self._source.read_into(window, out)
        return out
