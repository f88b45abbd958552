"""Voxels that lie uncompressed in one file: read window by window through a memory map."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.formats.kept import mapped_bytes, stamp_of
from ndvol.formats.values import rescale
from ndvol.geometry import Window
from ndvol.volumes import valid_window


@dataclass(frozen=True, slots=True)
class RawVoxels:
    """One run of values in a file.

    Attributes
    ----------
    dtype : of the values, with their byte order.
    offset : of the first one.
    shape : in the file's order, the fastest axis last.
    order : axis k of the volume is axis ``order[k]`` of the file.
    slope, intercept : ``value = slope * stored + intercept``.
    """

    file: Path
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    slope: float = 1.0
    intercept: float = 0.0


class MappedSource:
    """A `PatchSource` over `RawVoxels`; pickles as these.

    Parameters
    ----------
    dtype : of the volume, which the rescaled values are given; None: the native stored type, or float32 where that
        holds every value of a file of float64, which takes one pass over them.

    Raises
    ------
    SourceError : when the file is not there; from `read_into`, code ``changed``, when it was written to since.
    """

    levels = 1

    def __init__(self, raw: RawVoxels, dtype: np.dtype[Any] | None = None) -> None:
        self._raw = raw
        self._stamp = stamp_of(raw.file.absolute())
        self.shape: tuple[int, ...] = tuple(raw.shape[k] for k in raw.order)
        self.dtype: np.dtype[Any] = dtype or _settled_float(self.stored())

    def stored(self) -> NDArray[Any]:
        """The stored values in the volume's order of axes, as a view of the mapped file."""
        raw, data = self._raw, mapped_bytes(self._stamp)
        run = data[raw.offset : raw.offset + prod(raw.shape) * raw.dtype.itemsize]
        return run.view(raw.dtype).reshape(raw.shape).transpose(raw.order)

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """See `PatchSource`."""
        clip = window.clip(self.shape)
        if clip.shape != window.shape:
            out[...] = fill_value
        if 0 not in clip.shape:
            part = self.stored()[clip.inside]
            out[clip.placement] = rescale(part, self._raw.slope, self._raw.intercept, self.dtype)
        return valid_window(window, self.shape)


def _settled_float(stored: NDArray[Any]) -> np.dtype[Any]:
    """The type that `lossless_float32` gives the values, found plane by plane."""
    native = stored.dtype.newbyteorder("=")
    if native != np.float64:
        return native
    for plane in stored:
        with np.errstate(over="ignore"):
            small = plane.astype(np.float32)
        if not np.array_equal(small, plane, equal_nan=True):
            return native
    return np.dtype(np.float32)
