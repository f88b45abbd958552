"""Places: all positions a window can take in a set of cases, numbered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.errors import WindowError


class Places:
    """Every start of a window in every case, as `start_range` admits them.

    Parameters
    ----------
    shapes : (cases, axes) of the volumes.
    window : lengths, one per axis.

    >>> places = Places([(3, 3), (2, 5)], (2, 3))
    >>> len(places), [places[i] for i in (1, 2, 4)]
    (5, [(0, (1, 0)), (1, (0, 0)), (1, (0, 2))])
    """

    def __init__(self, shapes: ArrayLike, window: Sequence[int]) -> None:
        rooms = np.asarray(shapes, np.int64) - np.asarray(window, np.int64)
        if rooms.ndim != 2 or rooms.shape[1] != len(window):
            raise WindowError("a window needs one length per axis", got=tuple(window), expected=f"{rooms.shape[-1]}")
        self._low = np.minimum(0, rooms)
        self._lengths = np.abs(rooms) + 1
        self._ends = np.cumsum(self._lengths.prod(1))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> tuple[int, tuple[int, ...]]:
        """Row in `shapes` and start of place `number`: rows in order, starts row-major."""
        row = int(np.searchsorted(self._ends, number, side="right"))
        if row == len(self._ends):
            raise IndexError(f"place {number} of {len(self)}")
        within = number - (int(self._ends[row - 1]) if row else 0)
        at = np.unravel_index(within, self._lengths[row])
        return row, tuple(int(a) + int(b) for a, b in zip(self._low[row], at, strict=True))

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
        """A place, each with the same probability."""
        return self[int(rng.integers(len(self)))]


def pick(cumulative: NDArray[np.float64], rng: np.random.Generator) -> int:
    """An index with probability proportional to the steps of `cumulative`."""
    drawn = rng.random() * cumulative[-1]
    # The product may round up to the total.
    return min(int(np.searchsorted(cumulative, drawn, side="right")), len(cumulative) - 1)
