"""Chunked data sets, written box by box: each chunk once, directly, with its hash for the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from ndvol.errors import OptionError, StoreError, WindowError
from ndvol.geometry import Window
from ndvol.geometry.tiling import chunk_counts, chunk_window, touched_chunks
from ndvol.store.codec import Codec
from ndvol.store.objects import find_objects


class ChunkedDataset:
    """A data set that is new in `group`.

    Parameters
    ----------
    fill : chunks that hold only this value are not stored and read as HDF5's fill value; None: all are stored.

    Attributes
    ----------
    group, path : where it is in the file.
    chunk : shape of a chunk.
    hashes : xxh3-64 of the stored bytes by chunk number.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        chunk: tuple[int, ...],
        codec: Codec,
        fill: float | None,
    ) -> None:
        self.group, self.path = group, f"{group.name}/{name}".lstrip("/")
        self._shape, self._codec, self._fill = shape, codec, fill
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self.chunk = tuple(max(1, c) for c in chunk)
        self.hashes: dict[int, int] = {}
        self._seen: set[int] = set()
        plist = codec.property_list()
        plist.set_chunk(self.chunk)
        if fill:
            plist.set_fill_value(np.array(fill, self._dtype))
        space = h5py.h5s.create_simple(shape)
        self._dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(self._dtype), space, plist)

    def put(self, start: tuple[int, ...], block: NDArray[Any]) -> None:
        """Write the box at `start`: whole chunks, except where the volume ends.

        Raises
        ------
        WindowError : for a box that cuts a chunk or leaves the volume; StoreError : for a chunk that is there already.
        """
        box = Window(start, block.shape)
        cut = [
            a % c or (b % c and b != n) or not 0 <= a <= b <= n
            for a, b, c, n in zip(box.start, box.stop, self.chunk, self._shape, strict=True)
        ]
        if any(cut):
            raise WindowError(
                f"a box of {self.path!r} must consist of whole chunks",
                got=f"{box.start} … {box.stop}",
                expected=f"multiples of {self.chunk} within {self._shape}",
            )
        counts = chunk_counts(self._shape, self.chunk)
        for at in touched_chunks(box, self._shape, self.chunk):
            first = tuple(i * c for i, c in zip(at, self.chunk, strict=True))
            part = block[tuple(slice(f - a, f - a + c) for f, a, c in zip(first, start, self.chunk, strict=True))]
            self._write(int(np.ravel_multi_index(at, counts)), first, part)

    def require_complete(self) -> None:
        """Raise unless every chunk has been written."""
        missing = prod(chunk_counts(self._shape, self.chunk)) - len(self._seen)
        if missing:
            raise StoreError(f"{self.path!r} is not complete", got=f"{missing} chunks were never written")

    def _write(self, number: int, start: tuple[int, ...], block: NDArray[Any]) -> None:
        if number in self._seen:
            raise StoreError(f"chunk {number} of {self.path!r} is written already")
        if self._fill is None or block.flat[0] != self._fill or not is_constant(block):
            self._store(number, start, block)
        # Only now: a chunk that could not be written is missing.
        self._seen.add(number)

    def _store(self, number: int, start: tuple[int, ...], block: NDArray[Any]) -> None:
        if block.shape != self.chunk:
            # HDF5 stores the chunks at the border at full size.
            block = np.pad(block, [(0, c - n) for c, n in zip(self.chunk, block.shape, strict=True)])
        data = self._codec.encode(np.ascontiguousarray(block, self._dtype))
        self._dataset.write_direct_chunk(start, data)
        self.hashes[number] = xxhash.xxh3_64_intdigest(data)


class ChunkedLabels(ChunkedDataset):
    """A label volume that counts what is written: per chunk and value, and per value as one object.

    Parameters
    ----------
    categories : value -> category name; other values than these and 0 are refused.
    """

    def __init__(
        self,
        group: h5py.Group,
        name: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        chunk: tuple[int, ...],
        codec: Codec,
        categories: Mapping[int, str],
    ) -> None:
        super().__init__(group, name, shape, dtype, chunk, codec, fill=0)
        self._categories = categories
        self._rows: list[tuple[int, ...]] = []

    @property
    def counts(self) -> NDArray[np.int64]:
        """As `ndvol.label_index.count_chunks` makes it."""
        return np.array(sorted(row[:3] for row in self._rows), np.int64).reshape(-1, 3)

    @property
    def objects(self) -> NDArray[np.int64]:
        """As `find_objects` makes it by category."""
        n = len(self._shape)
        table = np.array(self._rows, np.int64).reshape(-1, 3 + 2 * n)
        parts = [table[table[:, 0] == value] for value in np.unique(table[:, 0])]
        rows = [[p[0, 0], p[:, 2].sum(), *p[:, 3 : 3 + n].min(0), *p[:, 3 + n :].max(0)] for p in parts]
        return np.array(rows, np.int64).reshape(-1, 2 + 2 * n)

    def _write(self, number: int, start: tuple[int, ...], block: NDArray[Any]) -> None:
        for value, voxels, *box in find_objects(block, "category").tolist() if block.any() else ():
            if value not in self._categories:
                raise OptionError(f"{self.path!r} holds a value without a category", got=value)
            at = (b + a for b, a in zip(box, (*start, *start), strict=True))
            self._rows.append((value, number, voxels, *at))
        super()._write(number, start, block)


def common_constant(array: NDArray[Any], chunk: tuple[int, ...]) -> float | None:
    """The value of most chunks that hold a single one (air, padding); None when every chunk varies."""
    found: Counter[float] = Counter()
    for number in range(prod(chunk_counts(array.shape, chunk))):
        block = array[chunk_window(number, array.shape, chunk).slices]
        if is_constant(block):
            found[block.flat[0].item()] += 1
    # Equal counts must not be told apart by the order of a dictionary.
    return min(found, key=lambda value: (-found[value], value)) if found else None


def is_constant(block: NDArray[Any]) -> bool:
    """Whether all voxels are one finite value; the last ones tell most blocks of a scan before all are compared."""
    first = block.flat[0]
    return bool(np.isfinite(first) and block.flat[-1] == first and (block == first).all())
