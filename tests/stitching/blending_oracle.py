"""Weighted means by plain sums over whole volumes, and random tilings to try them on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from hypothesis import strategies as st

from ndvol.geometry import SlidingWindows

MODES = ("mean", "gaussian", "hann")
OVERLAPS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]) | st.floats(0, 0.9)


def bell(mode: str, length: int) -> list[float]:
    """The weights along one axis by their textbook formulas, about the centre of the window."""
    centre, sigma = (length - 1) / 2, length / 8
    if mode == "mean":
        return [1.0] * length
    if mode == "gaussian":
        return [float(np.exp(-((i - centre) ** 2) / (2 * sigma**2))) for i in range(length)]
    return [0.5 * (1 + float(np.cos(2 * np.pi * (i - centre) / length))) for i in range(length)]


def weighted_mean(windows: SlidingWindows, mode: str, patches: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of all patches, each (channels, *window), by sums in float64 over the whole volume."""
    weights = reduce(np.multiply.outer, [np.array(bell(mode, n)) for n in windows.window])
    above = np.zeros((len(patches[0]), *windows.shape))
    below = np.zeros(windows.shape)
    for window, patch in zip(windows, patches, strict=True):
        clip = window.clip(windows.shape)
        above[:, *clip.inside] += (weights * patch)[:, *clip.placement]
        below[clip.inside] += weights[clip.placement]
    assert below.min() > 0
    return above / below


@st.composite
def tilings(draw: st.DrawFn, min_axes: int = 1, max_axes: int = 4) -> SlidingWindows:
    """Small volumes with windows that may be longer than they are, every axis with an overlap of its own."""
    n = draw(st.integers(min_axes, max_axes))
    side = {1: 30, 2: 12, 3: 8, 4: 5}[n]
    shape = draw(st.tuples(*[st.integers(1, side)] * n))
    window = draw(st.tuples(*[st.integers(1, side + 2)] * n))
    overlaps = draw(st.tuples(*[OVERLAPS] * n))
    tiles = SlidingWindows(shape, window, overlaps)
    # Where windows barely move there are thousands; one law needs no more than some hundreds.
    return tiles if len(tiles) <= 300 else SlidingWindows(shape, window, 0.5 if n < 4 else 0.25)
