"""Some values of an image, and histograms of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window
from ndvol.volumes import Volume

WINDOWS, SIDE = 16, 16
"""Number of windows that are read of an image, and their voxels along each spatial axis."""
BINS = 48
TAIL = 0.5
"""Per cent of the values that a histogram may leave out at either end, so that a single one does not flatten it."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of numbers.

    Attributes
    ----------
    edges : (n + 1,) ascending. counts : (n,) numbers in each bin.
    one_by_one : whether there is a bin for each whole number.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    one_by_one: bool


def some_values(image: Volume, number: int) -> NDArray[np.float64]:
    """The finite values of `WINDOWS` windows of an image at random places, on its coarsest level; they may overlap.

    Parameters
    ----------
    number : the places are a function of it and of the image's shape.
    """
    rng = np.random.default_rng((number, *image.shape))
    level = min(image.levels, len(image.coarser) + 1) - 1
    axes, sizes = image.axes, image.level_grid(level).shape
    # Colours belong together; of time one moment is enough.
    shape = [{"c": n, "t": 1}.get(a, min(n, SIDE)) for a, n in zip(axes, sizes, strict=True)]
    windows = [
        Window(tuple(int(rng.integers(n - b + 1)) for n, b in zip(sizes, shape, strict=True)), tuple(shape))
        for _ in range(WINDOWS)
    ]
    values = np.concatenate([patch.ravel() for patch in image.read_many(windows, level=level)]).astype(np.float64)
    return np.asarray(values[np.isfinite(values)])


def histogram(values: NDArray[np.float64], *, tail: float = 0.0) -> Histogram:
    """The histogram of some numbers, in `BINS` bins or one per whole number where that is fewer.

    Parameters
    ----------
    tail : per cent of the numbers to leave out at either end.

    >>> histogram(np.array([1.0, 1, 3])).counts.tolist()
    [2, 0, 1]
    """
    low, high = (float(v) for v in np.percentile(values, (tail, 100 - tail)))
    one_by_one = bool((values == np.rint(values)).all()) and high - low < BINS
    if one_by_one:
        edges = np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
    elif high > low:
        edges = np.linspace(low, high, BINS + 1)
    else:
        reach = abs(low) / 2 or 0.5
        edges = np.array([low - reach, low + reach])
    return Histogram(edges, np.histogram(values, edges)[0], one_by_one)
