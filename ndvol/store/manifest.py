"""The manifest of a file: what the bytes of every stored chunk hash to, and where they lie.

HDF5 knows where they lie, too; but h5py makes one object per chunk to say so, which would be most of the time that
opening a file takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from math import prod
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ndvol.errors import DamageError, UnsafeFileError
from ndvol.geometry.tiling import chunk_counts
from ndvol.hdf5 import get_dataset
from ndvol.store.arrays import StoredArray
from ndvol.store.hdf5 import MAX_TABLE_BYTES, get_text, read_table, read_whole

MANIFEST, CHUNKS = "manifest", "chunks"

Rows = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTable:
    """The chunks of a data set: arrays over their row-major numbers.

    Attributes
    ----------
    offsets, sizes : of the stored bytes in the file; of size 0 is a chunk that is not stored.
    hashes : xxh3-64 of the stored bytes, 0 where the manifest has none; None for a file that is not ours.
    """

    offsets: Rows
    sizes: Rows
    hashes: Rows | None

    def rows(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, int, int | None]]:
        """Offset, size and hash of each of the chunks `numbers`."""
        hashes = repeat(None) if self.hashes is None else self.hashes[numbers].tolist()
        return zip(self.offsets[numbers].tolist(), self.sizes[numbers].tolist(), hashes, strict=False)

    @classmethod
    def of(cls, array: StoredArray, listed: Rows | None) -> ChunkTable | None:
        """The table of a data set; None when a chunk was stored without one of the filters, as HDF5 does where an
        optional filter did not make it smaller.

        Parameters
        ----------
        listed : chunk, hash and, where the file says it, offset and size of every stored chunk; None for a file that
            is not ours.
        """
        assert array.chunk is not None  # is_chunked
        count = prod(chunk_counts(array.shape, array.chunk))
        if count * np.dtype(np.uint64).itemsize > MAX_TABLE_BYTES:
            raise UnsafeFileError(f"{array.name!r} in {array.file.filename} declares {count} chunks")
        offsets, sizes = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        if listed is None or listed.shape[1] == 2:
            stored = stored_chunks(array.open())
            if stored[:, 3].any():
                return None
            places = stored[:, :3]
        else:
            places = listed[:, [0, 2, 3]]
            _check_places(array, places[:, 1:])
        hashes = None if listed is None else np.zeros(count, np.uint64)
        if hashes is not None and listed is not None:
            _check_numbers(array, listed[:, 0], count)
            hashes[listed[:, 0].astype(np.int64)] = listed[:, 1]
        numbers = places[:, 0].astype(np.int64)
        offsets[numbers], sizes[numbers] = places[:, 1], places[:, 2]
        return cls(offsets, sizes, hashes)


def _check_numbers(array: StoredArray, numbers: Rows, count: int) -> None:
    if numbers.max(initial=0) >= max(1, count):
        raise DamageError(
            f"the manifest of {array.file.filename} lists a chunk that {array.name!r} does not have",
            got=int(numbers.max()),
            expected=f"numbers below {count}",
            hint="run `ndvol verify`",
            path=array.file.filename,
        )


def _check_places(array: StoredArray, places: Rows) -> None:
    size = array.file.id.get_filesize()
    # Each by itself first: the sum of two large ones may wrap around.
    if places.size and (places.max() > size or (places[:, 0] + places[:, 1]).max() > size):
        raise DamageError(
            f"{CHUNKS!r} in {array.file.filename} leads out of the file",
            expected=f"offsets and sizes within {size} bytes",
            hint="run `ndvol verify`",
            path=array.file.filename,
            dataset=array.name.lstrip("/"),
        )


def stored_chunks(dataset: h5py.Dataset) -> Rows:
    """What HDF5 says: number, offset, size and filter mask of every stored chunk, in the order of the numbers."""
    found: list[Any] = []
    if prod(dataset.shape):
        # No function of ours: one call per chunk would take longer than all the rest.
        dataset.id.chunk_iter(found.append)
    if not found:
        return np.empty((0, 4), np.uint64)
    counts = chunk_counts(dataset.shape, dataset.chunks)
    starts = np.array([info.chunk_offset for info in found], np.int64).reshape(-1, dataset.ndim)
    numbers = np.ravel_multi_index(tuple((starts // np.array(dataset.chunks)).T), counts)
    facts = [(info.byte_offset, info.size, info.filter_mask) for info in found]
    rows = np.column_stack([numbers.astype(np.uint64), np.array(facts, np.uint64)])
    return rows[np.argsort(numbers)]


def manifest_of(datasets: Sequence[h5py.Dataset], hashes: Sequence[Mapping[int, int]]) -> tuple[Rows, Rows]:
    """The two tables of a file that is being written: (data set, chunk, hash) and (offset, size), row by row."""
    rows, places = [np.empty((0, 3), np.uint64)], [np.empty((0, 2), np.uint64)]
    for number, (dataset, known) in enumerate(zip(datasets, hashes, strict=True)):
        stored = stored_chunks(dataset)
        digests = np.array([known[n] for n in stored[:, 0].tolist()], np.uint64)
        rows.append(np.column_stack([np.full(len(stored), number, np.uint64), stored[:, 0], digests]))
        places.append(stored[:, 1:3])
    return np.concatenate(rows), np.concatenate(places)


def read_manifest(file: h5py.File) -> dict[str, Rows]:
    """By data set what `ChunkTable.of` takes as `listed`.

    Raises
    ------
    DamageError : when the tables cannot be read, or do not fit each other.
    """
    manifest = get_dataset(file, MANIFEST)
    names, rows = json.loads(get_text(manifest, "datasets")), read_whole(manifest)
    # Format 1.0 has no such table.
    if file.id.links.exists(CHUNKS.encode()):
        places = read_table(file, CHUNKS)
        if places.shape != (len(rows), 2):
            raise DamageError(
                f"{CHUNKS!r} in {file.filename} does not fit the manifest",
                got=places.shape,
                expected=(len(rows), 2),
                hint="run `ndvol verify`",
                path=file.filename,
            )
        rows = np.concatenate([rows, places], axis=1)
    # Rows lie in the order of the data sets.
    ends = np.searchsorted(rows[:, 0], np.arange(len(names) + 1, dtype=np.uint64))
    return {name: rows[a:b, 1:] for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)}
