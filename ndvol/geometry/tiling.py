"""Regular boxes over a volume: sliding windows, chunks, and the starts a window may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil, prod

import numpy as np

from ndvol.errors import WindowError
from ndvol.geometry.window import Window

CHUNK_VOXELS = 2**15
"""32^3: the best chunk for windows of 32 to 96 voxels a side when int16 CT is read through lz4."""


def sliding_starts(length: int, window: int, overlap: float = 0.0) -> range | list[int]:
    """Starts of windows along one axis that together cover it.

    The stride is ``max(1, round(window * (1 - overlap)))``. The last window is shifted back to end at the
    border; a window longer than the axis gives the single start 0.

    >>> sliding_starts(10, 4)
    [0, 4, 6]
    >>> sliding_starts(3, 4)
    [0]
    """
    if window < 1 or not 0 <= overlap < 1:
        raise WindowError("a sliding window needs a length >= 1 and an overlap in [0, 1)", got=f"{window}, {overlap}")
    last = max(0, length - window)
    stride = max(1, round(window * (1 - overlap)))
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


class SlidingWindows(Sequence[Window]):
    """All windows of `window` voxels that cover `shape`, row-major; built on demand, never listed.

    Attributes
    ----------
    shape, window, overlap : as given, one entry per axis.
    starts : per axis the starts of the windows, ascending.

    >>> tiles = SlidingWindows((10, 3), (4, 4))
    >>> len(tiles), tiles[2], tiles.starts
    (3, Window(start=(6, 0), shape=(4, 4)), ([0, 4, 6], [0]))
    """

    def __init__(self, shape: Sequence[int], window: Sequence[int], overlap: float | Sequence[float] = 0.0) -> None:
        n = len(shape)
        overlaps = (overlap,) * n if isinstance(overlap, int | float) else tuple(overlap)
        if len(window) != n or len(overlaps) != n:
            raise WindowError("one window length and overlap per axis", got=f"{tuple(window)}, {overlaps} for {n} axes")
        self.shape, self.window, self.overlap = tuple(shape), tuple(window), overlaps
        self.starts = tuple(sliding_starts(s, w, o) for s, w, o in zip(shape, window, overlaps, strict=True))

    def __len__(self) -> int:
        return prod(len(s) for s in self.starts)

    def __getitem__(self, index: int) -> Window:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return Window(tuple(s[i] for s, i in zip(self.starts, self.position(index), strict=True)), self.window)

    def position(self, index: int) -> tuple[int, ...]:
        """Per axis, which of `starts` window number `index` has."""
        return tuple(int(i) for i in np.unravel_index(index % len(self), [len(s) for s in self.starts]))

    def number(self, window: Window) -> int | None:
        """The index of `window`; None when it is none of these."""
        if window.shape != self.window or any(a not in s for a, s in zip(window.start, self.starts, strict=True)):
            return None
        number = 0
        for a, s in zip(window.start, self.starts, strict=True):
            number = number * len(s) + s.index(a)
        return number


def start_range(shape: Sequence[int], window: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and one-past-last start, per axis, of the windows that stay inside a volume.

    Where the window is longer than the volume, it covers the volume wholly instead.

    >>> start_range((10, 3), (4, 5))
    ((0, -2), (7, 1))
    """
    room = [s - w for s, w in zip(shape, window, strict=True)]
    return tuple(min(0, r) for r in room), tuple(max(0, r) + 1 for r in room)


def chunk_shape(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The chunk for a volume: a cube of about `CHUNK_VOXELS` over the spatial axes, 1 along t and c.

    An axis shorter than the cube gives its share to the others.

    >>> chunk_shape("tzyx", (7, 300, 512, 512)), chunk_shape("zyx", (4, 512, 512))
    ((1, 32, 32, 32), (4, 90, 91))
    """
    chunk = [1] * len(axes)
    spatial = [i for i, a in enumerate(axes) if a in "zyx"]
    budget = float(CHUNK_VOXELS)
    for done, i in enumerate(sorted(spatial, key=lambda i: shape[i])):
        side = budget ** (1 / (len(spatial) - done))
        chunk[i] = max(1, min(shape[i], int(side + 1e-9)))
        budget /= chunk[i]
    return tuple(chunk)


def chunk_counts(shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    """Number of chunks per axis."""
    return tuple(ceil(s / c) for s, c in zip(shape, chunk, strict=True))


def chunk_window(number: int, shape: Sequence[int], chunk: Sequence[int]) -> Window:
    """The box of chunk `number` (row-major), cut at the border of the volume."""
    at = np.unravel_index(number, chunk_counts(shape, chunk))
    start = tuple(int(i) * c for i, c in zip(at, chunk, strict=True))
    return Window(start, tuple(min(c, s - a) for a, c, s in zip(start, chunk, shape, strict=True)))


def touched_chunks(window: Window, shape: Sequence[int], chunk: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Positions in the chunk grid of the chunks that share a voxel with `window`, row-major."""
    inside = window.clip(shape).inside
    if any(s.stop == s.start for s in inside):
        return iter(())
    return product(*(range(s.start // c, ceil(s.stop / c)) for s, c in zip(inside, chunk, strict=True)))
