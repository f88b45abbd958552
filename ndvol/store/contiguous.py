"""Reading a contiguous data set of a stranger's file: windows are copied out of a map of its bytes."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Clip


def is_contiguous(dataset: h5py.Dataset) -> bool:
    """True for numbers that lie in the file as one run; not for those that were never written.

    >>> with h5py.File("in-memory.h5", "w", driver="core", backing_store=False) as file:
    ...     [is_contiguous(file.create_dataset("a", data=[1, 2])), is_contiguous(file.create_dataset("b", (2,), "i2"))]
    [True, False]
    """
    layout = dataset.id.get_create_plist().get_layout()
    stored = layout == h5py.h5d.CONTIGUOUS and dataset.id.get_offset() is not None
    return stored and dataset.dtype.kind in "iuf" and prod(dataset.shape) > 0


class ContiguousReader:
    """Windows of a data set that `is_contiguous`.

    A file whose size or time changes is opened again, and then a map that ends before the voxels do is a ValueError.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        mapped = mmap.mmap(dataset.file.id.get_vfd_handle(), 0, access=mmap.ACCESS_READ)
        shape: tuple[int, ...] = dataset.shape
        offset = dataset.id.get_offset()
        self._voxels: NDArray[Any] = np.frombuffer(mapped, dataset.dtype, prod(shape), offset).reshape(shape)

    def read(self, clips: Sequence[Clip], outs: Sequence[NDArray[Any]]) -> None:
        """Fill ``outs[k][clips[k].placement]`` with ``dataset[clips[k].inside]``, cast to the type of the array."""
        for clip, out in zip(clips, outs, strict=True):
            out[clip.placement] = self._voxels[clip.inside]

    def cost(self, clip: Clip) -> tuple[int, int]:
        """Bytes that `clip` takes from the file, and bytes that they decode to."""
        size = prod(clip.shape) * self._voxels.itemsize
        return size, size
