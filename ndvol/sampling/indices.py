"""Broadcast: the voxel index of labels that lack the time or channel axis of the image they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window
from ndvol.sampling.cohort import VoxelIndex


def project(window: Window, positions: Sequence[int]) -> Window:
    """The window on the axes at `positions`.

    >>> project(Window((5, 1, 2), (1, 8, 9)), (1, 2))
    Window(start=(1, 2), shape=(8, 9))
    """
    return Window(tuple(window.start[i] for i in positions), tuple(window.shape[i] for i in positions))


class Broadcast:
    """A `VoxelIndex` repeated along the axes that it lacks: a label map (z, y, x) holds at every time.

    Parameters
    ----------
    index : over the axes at `positions`.
    positions : of the axes of `index` in `shape`, ascending.
    shape : of the volume with all axes.
    """

    def __init__(self, index: VoxelIndex, positions: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self._index, self._positions, self._shape = index, positions, shape
        self._others = tuple(i for i in range(len(shape)) if i not in positions)
        self._lengths = tuple(shape[i] for i in self._others)

    def count(self, value: int) -> int:
        return self._index.count(value) * prod(self._lengths)

    def voxel(self, value: int, r: int) -> tuple[int, ...]:
        own, other = divmod(r, prod(self._lengths))
        index = dict(zip(self._positions, self._index.voxel(value, own), strict=True))
        index.update(zip(self._others, map(int, np.unravel_index(other, self._lengths)), strict=True))
        return tuple(index[i] for i in range(len(self._shape)))

    def bounds(self, values: Iterable[int], window: Window) -> tuple[int, int]:
        repeats = prod(project(window, self._others).clip(self._lengths).shape)
        low, high = self._index.bounds(values, project(window, self._positions))
        return low * repeats, high * repeats

    def mask(self, values: Iterable[int], window: Window) -> NDArray[np.bool_]:
        clip = window.clip(self._shape)
        mask = np.zeros(window.shape, bool)
        own = self._index.mask(values, project(window, self._positions))
        inner = own[tuple(clip.placement[i] for i in self._positions)]
        mask[clip.placement] = np.expand_dims(inner, self._others)
        return mask
