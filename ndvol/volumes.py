"""Volumes and cases as a user holds them: an array with its grid that is read window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ndvol.box_index import BoxIndex
from ndvol.display import case_html, labels_html, volume_html
from ndvol.errors import GridError, UnknownNameError, WindowError
from ndvol.geometry import Grid, Window, chunk_shape
from ndvol.geometry.indexing import PadMode, basic_index, check_fill_value, check_pad_mode, source_indices
from ndvol.label_index import LabelIndex, count_chunks


class PatchSource(Protocol):
    """The narrow waist: anything that can fill an array with a window of itself.

    HDF5, an array in memory and a decoded picture stand behind it. Implementations are picklable and safe to
    use after fork.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def levels(self) -> int:
        """Number of pyramid levels; 0 is the finest."""
        ...

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """Fill `out`, of the window's shape, and return the valid part of it as a window within the patch."""
        ...


@runtime_checkable
class SharingSource(Protocol):
    """A `PatchSource` whose windows cost less together."""

    def read_many_into(
        self, windows: Sequence[Window], outs: Sequence[NDArray[Any]], *, level: int = 0, fill_value: float = 0
    ) -> Sequence[Window]:
        """`PatchSource.read_into` for several windows."""
        ...


class ArraySource:
    """A `PatchSource` over an array in memory (or a memory map)."""

    levels = 1

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        clip = window.clip(self.shape)
        if clip.shape != window.shape:
            out[...] = fill_value
        out[clip.placement] = self._array[clip.inside]
        return valid_window(window, self.shape)


def valid_window(window: Window, shape: tuple[int, ...]) -> Window:
    """The part of a patch that holds voxels of a volume of `shape`, in the coordinates of the patch."""
    clip = window.clip(shape)
    return Window(tuple(s.start for s in clip.placement), clip.shape)


@dataclass(frozen=True, slots=True, repr=False)
class Volume:
    """An image: its grid, its type, and windows of it.

    Attributes
    ----------
    name : of the volume in its case.
    grid : axes, shape, affine, frame and unit of level 0.
    source : where the voxels come from.
    attributes : facts kept from the source (``modality``, ``value_unit``, ``RescaleSlope`` …).
    coarser : grids of the levels 1, 2, … as far as they are known.

    >>> grid = Grid.regular("yx", (4, 6), spacing=(1, 1))
    >>> volume = Volume("toy", grid, ArraySource(np.arange(24).reshape(4, 6)))
    >>> volume[1:3, ::2].tolist()
    [[6, 8, 10], [12, 14, 16]]
    >>> volume.read(Window((-1, 4), (2, 3)), fill_value=-9).tolist()
    [[-9, -9, -9], [4, 5, -9]]
    """

    name: str
    grid: Grid
    source: PatchSource
    attributes: Mapping[str, Any] = field(default_factory=dict)
    coarser: tuple[Grid, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if self.grid.shape != self.source.shape:
            raise GridError(
                f"volume {self.name!r} has another shape than its grid",
                got=self.source.shape,
                expected=self.grid.shape,
            )

    @property
    def axes(self) -> str:
        return self.grid.axes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def levels(self) -> int:
        return self.source.levels

    def level_grid(self, level: int) -> Grid:
        """Where the voxels of a pyramid level lie; `grid` for level 0.

        Raises
        ------
        WindowError : when there is no such level. GridError : when nothing says where its voxels lie.
        """
        self._check_level(level)
        if level > len(self.coarser):
            raise GridError(f"it is not known where the voxels of level {level} of volume {self.name!r} lie")
        return self.coarser[level - 1] if level else self.grid

    def _check_level(self, level: int) -> None:
        if not 0 <= level < self.levels:
            raise WindowError(f"volume {self.name!r} has no level {level}", expected=f"0 … {self.levels - 1}")

    def read(
        self,
        window: Window,
        *,
        out: NDArray[Any] | None = None,
        level: int = 0,
        fill_value: float = 0,
        pad_mode: PadMode = "constant",
    ) -> NDArray[Any]:
        """The patch at `window`, always of exactly its shape.

        Parameters
        ----------
        out : array of the window's shape to fill and return; values are cast to its type. A new one when None.
        level : pyramid level; the window is in that level's indices.
        fill_value : value of voxels outside the volume; must be a value of the patch's type.
        pad_mode : ``constant``: outside is `fill_value`; ``edge``, ``reflect``: the volume's own voxels, as
            `numpy.pad` repeats them, also for a window that lies wholly outside.

        Raises
        ------
        WindowError : for another number of axes, a wrong `out`, a level that is not there, a `fill_value` that
            the type cannot hold, or voxels to be repeated of a volume that has none.
        OptionError : for an unknown `pad_mode`. GridError : when voxels are to be repeated on a level of unknown size.
        """
        check_pad_mode(pad_mode)
        patch = self._room(window, out, level)
        if pad_mode == "constant":
            check_fill_value(fill_value, patch.dtype)
            self.source.read_into(window, patch, level=level, fill_value=fill_value)
        elif window.clip(self.level_grid(level).shape).shape == window.shape:
            self.source.read_into(window, patch, level=level)
        elif window.size:
            self._read_repeated(window, patch, pad_mode, level)
        return patch

    def read_many(
        self,
        windows: Sequence[Window],
        *,
        outs: Sequence[NDArray[Any] | None] | None = None,
        level: int = 0,
        fill_value: float = 0,
        pad_mode: PadMode = "constant",
    ) -> list[NDArray[Any]]:
        """The patches at several windows, see `read`; what windows share is decoded once, where the source can.

        Parameters
        ----------
        outs : for each window the array to fill, or None for a new one; a `fill_value` that is used must be a value
            of the volume's own type all the same.
        """
        if pad_mode == "constant":
            check_fill_value(fill_value, self.dtype)
        given = [None] * len(windows) if outs is None else outs
        if not isinstance(self.source, SharingSource) or pad_mode != "constant" or len(windows) < 2:
            how: Any = {"level": level, "fill_value": fill_value, "pad_mode": pad_mode}
            return [self.read(window, out=out, **how) for window, out in zip(windows, given, strict=True)]
        patches = [self._room(window, out, level) for window, out in zip(windows, given, strict=True)]
        self.source.read_many_into(windows, patches, level=level, fill_value=fill_value)
        return patches

    def _room(self, window: Window, out: NDArray[Any] | None, level: int) -> NDArray[Any]:
        """`out`, or a new array, for a patch; checked."""
        if window.ndim != self.ndim:
            raise WindowError(
                f"the window does not fit volume {self.name!r}",
                got=f"{window.ndim} axes",
                expected=f"{self.ndim}, {self.axes!r}",
            )
        self._check_level(level)
        patch = np.empty(window.shape, self.dtype) if out is None else out
        if patch.shape != window.shape:
            raise WindowError("out has another shape than the window", got=patch.shape, expected=window.shape)
        return patch

    def _read_repeated(self, window: Window, out: NDArray[Any], pad_mode: PadMode, level: int) -> None:
        """Fill `out` from the smallest box that holds all voxels which the window shows."""
        shape = self.level_grid(level).shape
        if 0 in shape:
            raise WindowError(
                f"pad_mode {pad_mode!r} repeats voxels, of which there must be some", got=f"a volume of {shape}"
            )
        shown = [
            source_indices(a, n, size, pad_mode) for a, n, size in zip(window.start, window.shape, shape, strict=True)
        ]
        box = Window.between([int(i.min()) for i in shown], [int(i.max()) + 1 for i in shown])
        inner = np.empty(box.shape, out.dtype)
        self.source.read_into(box, inner, level=level)
        out[...] = inner[np.ix_(*(i - a for i, a in zip(shown, box.start, strict=True)))]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """numpy's basic indexing: integers, slices with any step, ``...``."""
        window, post = basic_index(key, self.shape)
        return np.asarray(self.read(window)[post])

    def __repr__(self) -> str:
        steps = " x ".join(f"{s:g}" for s in self.grid.spacing)
        where = f"{steps} {self.grid.unit}, {self.grid.frame}"
        return f"{type(self).__name__}({self.name!r}, {self.axes} {self.shape}, {self.dtype}, {where})"

    def _repr_html_(self) -> str:
        return volume_html(self)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a volume is read from its source, so a copy is always made")
        return np.asarray(self.read(Window.full(self.shape)), dtype)


class LabelSource(PatchSource, Protocol):
    """A `PatchSource` of integers that knows where its values are."""

    def label_index(self) -> LabelIndex | BoxIndex:
        """Counts per value, and the voxels behind them."""
        ...


class ArrayLabelSource(ArraySource):
    """A `LabelSource` over an array in memory; its index is counted on first use."""

    def __init__(self, array: NDArray[Any], chunk: tuple[int, ...] | None = None) -> None:
        super().__init__(array)
        self._chunk = chunk or chunk_shape("tczyx"[5 - array.ndim :], array.shape)
        self._index: LabelIndex | None = None

    def label_index(self) -> LabelIndex | BoxIndex:
        if self._index is None:
            self._index = LabelIndex(self, self._chunk, count_chunks(self._array, self._chunk))
        return self._index


@dataclass(frozen=True, slots=True, repr=False)
class LabelVolume(Volume):
    """A label volume: integers, of which 0 is background and the others name categories.

    Attributes
    ----------
    source : also knows where the values are (`LabelSource`).
    categories : value -> category name.
    """

    source: LabelSource
    categories: Mapping[int, str] = field(default_factory=dict)

    @property
    def index(self) -> LabelIndex | BoxIndex:
        """Counts per chunk and value; the way to draw a voxel of a category without reading the volume."""
        return self.source.label_index()

    def _repr_html_(self) -> str:
        return labels_html(self)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the catalogue: the images and labels of a subject at a time.

    Attributes
    ----------
    name : of the case in its catalogue.
    images, labels : volumes by name, in the order of the names; in a catalogue the first image comes first.
    """

    name: str
    images: Mapping[str, Volume]
    labels: Mapping[str, LabelVolume]

    def __getitem__(self, volume: str) -> Volume:
        """The image or label volume called `volume`."""
        found = self.images.get(volume) or self.labels.get(volume)
        if found is not None:
            return found
        raise UnknownNameError(
            f"case {self.name!r} has no volume {volume!r}",
            expected=f"one of {', '.join([*self.images, *self.labels])}",
        )

    def _repr_html_(self) -> str:
        return case_html(self.name, list(self.images.values()), list(self.labels.values()))
