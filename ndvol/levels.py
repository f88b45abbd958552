"""A pyramid level of a volume as a volume of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ndvol.box_index import BoxIndex
from ndvol.errors import SamplingError
from ndvol.geometry import Window
from ndvol.label_index import LabelIndex
from ndvol.volumes import SharingSource, Volume

V = TypeVar("V", bound=Volume)


def at_level(volume: V, level: int) -> V:
    """Pyramid level `level` of `volume` as a volume with that one level; `volume` itself for level 0.

    Of a label volume it has no `index`: what is counted are the voxels of level 0.

    Raises
    ------
    WindowError : when there is no such level. GridError : when nothing says where its voxels lie.
    """
    grid = volume.level_grid(level)
    return replace(volume, grid=grid, source=LevelSource(volume, level), coarser=()) if level else volume


class LevelSource:
    """A coarser level of a volume as the level 0 of a `LabelSource`."""

    levels = 1

    def __init__(self, volume: Volume, level: int) -> None:
        self._source, self._name, self._level = volume.source, volume.name, level
        self.shape: tuple[int, ...] = volume.level_grid(level).shape
        self.dtype: np.dtype[Any] = volume.dtype

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        return self._source.read_into(window, out, level=self._level, fill_value=fill_value)

    def read_many_into(
        self, windows: Sequence[Window], outs: Sequence[NDArray[Any]], *, level: int = 0, fill_value: float = 0
    ) -> Sequence[Window]:
        if isinstance(self._source, SharingSource):
            return self._source.read_many_into(windows, outs, level=self._level, fill_value=fill_value)
        pairs = zip(windows, outs, strict=True)
        return [self.read_into(window, out, fill_value=fill_value) for window, out in pairs]

    def label_index(self) -> LabelIndex | BoxIndex:
        raise SamplingError(f"label volume {self._name!r} is counted at level 0", got=f"level {self._level}")
