"""Direct reading: windows of a data set without HDF5's one lock and its filter pipeline.

The table of chunks is read once; from then on a window is a hash, a decoder and a copy per chunk, in any number of
processes. What does not qualify is read through h5py; three named predicates decide, and the environment variable
``NDVOL_DIRECT=0`` turns the path off.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import compress, product
from math import ceil, prod
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ndvol.errors import DamageError
from ndvol.geometry import Clip, Window
from ndvol.geometry.tiling import chunk_counts, chunk_window
from ndvol.store import blosc
from ndvol.store.arrays import FLETCHER32, StoredArray
from ndvol.store.blosc import ChunkBuffer
from ndvol.store.codec import BLOSC_FILTER
from ndvol.store.contiguous import ContiguousReader, is_contiguous
from ndvol.store.manifest import ChunkTable, Rows
from ndvol.store.positions import Buffer, FileBytes, MappedBytes, PositionedBytes

FLETCHER_BYTES = 4
GZIP, SHUFFLE = 1, 2

_xxh3 = xxhash.xxh3_64_intdigest

Decoder = Callable[[Buffer, int | bytes, ChunkBuffer, int, int], NDArray[Any]]
"""The chunk in some stored bytes, which C finds at the pointer: decoded into the buffer given, or a view of the bytes
that are one already. It need not hold more than the voxels from a first to a last one."""
Slices = tuple[slice, ...]
_Part = tuple[NDArray[Any], Slices, Slices]
"""An array, the part of a chunk that it takes, and where."""


def direct_reader(array: StoredArray, listed: Rows | None) -> DirectReader | ContiguousReader | None:
    """A reader for `array`, or None when h5py has to read it.

    Parameters
    ----------
    listed : what the manifest says of its chunks, see `ChunkTable.of`; None for other people's files.
    """
    if os.environ.get("NDVOL_DIRECT") == "0":
        return None
    if array.chunk is None:
        dataset = array.open()
        return ContiguousReader(dataset) if is_contiguous(dataset) else None
    if not (is_chunked(array) and has_known_filters(array) and is_guarded(array, listed)):
        return None
    table = ChunkTable.of(array, listed)
    return DirectReader(array, table) if table is not None else None


def is_chunked(array: StoredArray) -> bool:
    """True for a chunked data set of numbers that is not empty."""
    return array.chunk is not None and array.dtype.kind in "iuf" and prod(array.shape) > 0


def has_known_filters(array: StoredArray) -> bool:
    """True when the filters are those that `_decoder` undoes: none, Blosc, gzip or shuffle and gzip."""
    return _decoder(array) is not None


def is_guarded(array: StoredArray, listed: Rows | None) -> bool:
    """True when no checksum is passed over: the manifest has one, or the data set has none."""
    return listed is not None or not array.is_checked


class DirectReader:
    """Windows of one chunked data set; see `direct_reader`."""

    def __init__(self, array: StoredArray, table: ChunkTable) -> None:
        decoder = _decoder(array)
        assert decoder is not None  # has_known_filters
        assert array.chunk is not None  # is_chunked
        self._decode = decoder
        self._path, self._name = array.file.filename, array.name
        self._shape, self._dtype, self._chunk, self._fill = array.shape, array.dtype, array.chunk, array.fill_value
        self._trailer = FLETCHER_BYTES if array.is_checked else 0
        self._strides = _strides(chunk_counts(self._shape, self._chunk))
        self._table = table
        # HDF5's own descriptor: the same file, whatever has been put at its path since.
        descriptor = array.file.id.get_vfd_handle()
        self._file: FileBytes = MappedBytes(descriptor) if table.hashes is not None else PositionedBytes(descriptor)
        self._expected = np.zeros(len(table.sizes), bool)
        self._local = threading.local()
        self._axis, self._plane = blosc.plane_axis(self._chunk), blosc.plane_size(self._chunk)

    def read(self, clips: Sequence[Clip], outs: Sequence[NDArray[Any]]) -> None:
        """Fill ``outs[k][clips[k].placement]`` with ``dataset[clips[k].inside]``, cast to the type of the array.

        A chunk that several windows share is checked and decoded once.

        Raises
        ------
        DamageError : when the bytes of a chunk are not those that were written.
        """
        buffer, axis, plane = self._buffer(), self._axis, self._plane
        numbers, parts = self._shared(clips, outs)
        self._expect(numbers)
        for number, row, pieces in zip(numbers.tolist(), self._table.rows(numbers), parts, strict=True):
            first, last = pieces[0][1][axis].start, pieces[0][1][axis].stop
            for _, source, _ in pieces[1:]:
                first, last = min(first, source[axis].start), max(last, source[axis].stop)
            chunk = self._load(number, *row, buffer, first * plane, last * plane)
            for out, source, target in pieces:
                out[target] = chunk[source]

    def _expect(self, numbers: NDArray[np.int64]) -> None:
        """Announce the bytes of the chunks that were never read before; later they are most likely in memory."""
        fresh = numbers[~self._expected[numbers]]
        if fresh.size:
            self._expected[fresh] = True
            offsets = np.sort(self._table.offsets[fresh])
            ends = np.sort(self._table.offsets[fresh] + self._table.sizes[fresh])
            # Neighbours in the file are one run.
            breaks = np.flatnonzero(offsets[1:] != ends[:-1])
            starts, stops = offsets[np.append(0, breaks + 1)], ends[np.append(breaks, len(ends) - 1)]
            self._file.expect(zip(starts.tolist(), stops.tolist(), strict=True))

    def _shared(
        self, clips: Sequence[Clip], outs: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.int64], Iterable[Sequence[_Part]]]:
        """The numbers of the stored chunks that windows touch, and all that is to be copied out of each."""
        if len(clips) == 1:
            numbers, pairs = self._stored(clips[0], outs[0])
            return numbers, (((outs[0], source, target),) for source, target in pairs)
        shared: dict[int, list[_Part]] = {}
        for clip, out in zip(clips, outs, strict=True):
            numbers, pairs = self._stored(clip, out)
            for number, (source, target) in zip(numbers.tolist(), pairs, strict=True):
                shared.setdefault(number, []).append((out, source, target))
        order = sorted(shared)
        return np.array(order, np.int64), [shared[number] for number in order]

    def _stored(self, clip: Clip, out: NDArray[Any]) -> tuple[NDArray[np.int64], Iterable[tuple[Slices, Slices]]]:
        """`_parts` of the chunks that are stored; where some are not, all of the window is filled first.

        One fill of all is faster than one for each chunk, of which a label volume hardly stores any.
        """
        numbers, pairs = self._parts(clip)
        stored = self._table.sizes[numbers] > 0
        if stored.all():
            return numbers, pairs
        self._check_absent(numbers[~stored])
        out[clip.placement] = self._fill
        return numbers[stored], compress(pairs, stored.tolist())

    def _check_absent(self, numbers: NDArray[np.int64]) -> None:
        """Raise when the manifest lists a chunk that is not stored."""
        if self._table.hashes is not None and (listed := np.flatnonzero(self._table.hashes[numbers])).size:
            raise self._damage(int(numbers[listed[0]]), "is missing")

    def cost(self, clip: Clip) -> tuple[int, int]:
        """Bytes that `clip` takes from the file, and bytes of which they decode to."""
        numbers, pairs = self._parts(clip)
        buffer, taken, decoded = self._buffer(), 0, 0
        for (offset, size, _), (source, _) in zip(self._table.rows(numbers), pairs, strict=True):
            if size:
                first, last = (at * self._plane for at in (source[self._axis].start, source[self._axis].stop))
                data = self._file.read(offset, size)
                taken += size
                decoded += blosc.decoded_bytes(data, buffer, first, last) if self._decode is _blosc else buffer.nbytes
        return taken, decoded

    def _parts(self, clip: Clip) -> tuple[NDArray[np.int64], Iterator[tuple[Slices, Slices]]]:
        """Numbers of the chunks that `clip` touches; for each the part within the chunk, and the part in the patch."""
        axes = [
            _parts(inside, placement, chunk, stride)
            for inside, placement, chunk, stride in zip(
                clip.inside, clip.placement, self._chunk, self._strides, strict=True
            )
        ]
        # Some ten thousand chunks a second pass here: what can be made for all of them at once is.
        numbers = reduce(np.add.outer, (np.array(parts[0], np.int64) for parts in axes)).ravel()
        sources, targets = product(*(parts[1] for parts in axes)), product(*(parts[2] for parts in axes))
        return numbers, zip(sources, targets, strict=True)

    def _buffer(self) -> ChunkBuffer:
        """Room for a decoded chunk, one per thread."""
        buffer: ChunkBuffer | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = ChunkBuffer(self._chunk, self._dtype)
        return buffer

    def _load(
        self, number: int, offset: int, size: int, digest: int | None, buffer: ChunkBuffer, first: int, last: int
    ) -> NDArray[Any]:
        """A chunk, checked as a whole, of which the voxels first … last - 1 are wanted; `buffer` is room for it."""
        data = self._file.read(offset, size)
        pointer = self._file.pointer(offset, data)
        if digest is not None and _xxh3(data) != digest:
            raise self._damage(number, "has other bytes than were written")
        try:
            data = data[: size - self._trailer] if self._trailer else data
            return self._decode(data, pointer, buffer, first, last)
        except (RuntimeError, ValueError, zlib.error) as error:
            raise self._damage(number, f"cannot be decoded: {error}") from error

    def _damage(self, number: int, what: str) -> DamageError:
        box: Window = chunk_window(number, self._shape, self._chunk)
        return DamageError(
            f"chunk {number} of {self._name!r}, voxels {box.start} … {box.stop}, in {self._path} {what}",
            hint="run `ndvol verify`, delete the damaged file and import the case again",
            path=self._path,
            dataset=self._name.lstrip("/"),
            window=box,
        )


def _parts(inside: slice, placement: slice, chunk: int, stride: int) -> tuple[list[int], list[slice], list[slice]]:
    """Along one axis, chunk by chunk: what it adds to its number, the part within the chunk, the part in the patch."""
    shift = placement.start - inside.start
    numbers, sources, targets = [], [], []
    for number in range(inside.start // chunk, ceil(inside.stop / chunk)):
        base = number * chunk
        lo, hi = max(inside.start, base), min(inside.stop, base + chunk)
        numbers.append(number * stride)
        sources.append(slice(lo - base, hi - base))
        targets.append(slice(lo + shift, hi + shift))
    return numbers, sources, targets


def _strides(counts: Sequence[int]) -> tuple[int, ...]:
    """Row-major numbers of chunks: how far apart neighbours along each axis are."""
    return tuple(prod(counts[i + 1 :]) for i in range(len(counts)))


def _decoder(array: StoredArray) -> Decoder | None:
    """What undoes the filters of a data set; None when they are not among those known here."""
    filters = [*array.filters]
    if filters and filters[-1] == FLETCHER32:
        filters.pop()
    known: dict[tuple[int, ...], Decoder] = {
        (): _as_stored,
        (BLOSC_FILTER,): _blosc,
        (GZIP,): _inflate,
        (SHUFFLE, GZIP): _inflate_unshuffle,
    }
    return known.get(tuple(filters))


def _as_stored(data: Buffer, pointer: int | bytes, buffer: ChunkBuffer, first: int, last: int) -> NDArray[Any]:
    return np.frombuffer(data, buffer.array.dtype).reshape(buffer.array.shape)


def _blosc(data: Buffer, pointer: int | bytes, buffer: ChunkBuffer, first: int, last: int) -> NDArray[Any]:
    blosc.decode(data, pointer, buffer, first, last)
    return buffer.array


def _inflate(data: Buffer, pointer: int | bytes, buffer: ChunkBuffer, first: int, last: int) -> NDArray[Any]:
    return _as_stored(_inflated(data, buffer.nbytes), b"", buffer, first, last)


def _inflate_unshuffle(data: Buffer, pointer: int | bytes, buffer: ChunkBuffer, first: int, last: int) -> NDArray[Any]:
    planes = np.frombuffer(_inflated(data, buffer.nbytes), np.uint8).reshape(buffer.itemsize, -1)
    buffer.array.reshape(-1).view(np.uint8).reshape(-1, buffer.itemsize)[:] = planes.T
    return buffer.array


def _inflated(data: Buffer, size: int) -> bytes:
    """Exactly `size` bytes; a stream that holds more is not read on."""
    stream = zlib.decompressobj()
    inflated = stream.decompress(data, size + 1)
    if len(inflated) != size:
        raise ValueError(f"{len(inflated)} bytes instead of {size}")
    return inflated
