"""Places: all positions a window can take in a set of cases, numbered; and choices by chance or by share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.errors import WindowError


class Places:
    """Starts of a window in several cases.

    Parameters
    ----------
    low : (cases, axes) first start.
    lengths : (cases, axes) number of starts; where one is 0 the case has no place.

    >>> places = Places.inside([(3, 3), (2, 5)], (2, 3))
    >>> len(places), [places[i] for i in (1, 2, 4)]
    (5, [(0, (1, 0)), (1, (0, 0)), (1, (0, 2))])
    """

    def __init__(self, low: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        self.low, self.lengths = low, lengths
        self._ends = np.cumsum(lengths.prod(1))

    @classmethod
    def inside(cls, shapes: ArrayLike, window: Sequence[int]) -> Self:
        """Every start in volumes of `shapes`, (cases, axes), that `ndvol.geometry.start_range` admits."""
        rooms = np.asarray(shapes, np.int64) - np.asarray(window, np.int64)
        if rooms.ndim != 2 or rooms.shape[1] != len(window):
            raise WindowError("a window needs one length per axis", got=tuple(window), expected=f"{rooms.shape[-1]}")
        return cls(np.minimum(0, rooms), np.abs(rooms) + 1)

    def sharing(
        self, start: NDArray[np.int64], stop: NDArray[np.int64], window: Sequence[int], least: NDArray[np.int64]
    ) -> Places:
        """Those whose window shares at least `least` voxels per axis with the box `start` … `stop` of their case."""
        lengths = np.asarray(window, np.int64)
        low = np.maximum(self.low, start + least - lengths)
        high = np.minimum(self.low + self.lengths, stop - least + 1)
        return Places(low, np.maximum(0, high - low))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> tuple[int, tuple[int, ...]]:
        """Position of the case and start of place `number`: cases in order, starts row-major."""
        row = int(np.searchsorted(self._ends, number, side="right"))
        if row == len(self._ends):
            raise IndexError(f"place {number} of {len(self)}")
        return row, self.start(row, number - (int(self._ends[row - 1]) if row else 0))

    def count(self, row: int) -> int:
        """Number of places in the case at position `row`."""
        return int(self._ends[row]) - (int(self._ends[row - 1]) if row else 0)

    def start(self, row: int, within: int) -> tuple[int, ...]:
        """Start `within` of the case at position `row`."""
        at = np.unravel_index(within, self.lengths[row])
        return tuple(int(a) + int(b) for a, b in zip(self.low[row], at, strict=True))


def pick(cumulative: NDArray[np.float64], rng: np.random.Generator, share: float | None) -> tuple[int, float | None]:
    """An index with probability proportional to the steps of `cumulative`.

    Parameters
    ----------
    share : in [0, 1), where among the steps to look instead of rolling dice.

    Returns
    -------
    The index, and where within its step `share` lies; None for None.

    >>> pick(np.array([1.0, 4.0]), np.random.default_rng(0), 0.625)
    (1, 0.5)
    """
    total = cumulative[-1]
    drawn = (rng.random() if share is None else share) * total
    # The product may round up to the total.
    k = min(int(np.searchsorted(cumulative, drawn, side="right")), len(cumulative) - 1)
    if share is None:
        return k, None
    low = cumulative[k - 1] if k else 0.0
    return k, _below_one(float((drawn - low) / (cumulative[k] - low)))


def number_below(n: int, rng: np.random.Generator, share: float | None) -> int:
    """A number in ``range(n)``, each with the same probability; the one at `share` when that is given."""
    return int(rng.integers(n)) if share is None else min(int(share * n), n - 1)


def _below_one(share: float) -> float:
    return min(share, float(np.nextafter(1.0, 0.0)))
