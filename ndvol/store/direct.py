"""Direct reading: windows of a chunked data set without HDF5's one lock and its filter pipeline.

The table of chunks is read once; from then on a window is a hash, a decoder and a copy per chunk, in any number of
processes. What does not qualify is read through h5py; three named predicates decide, and the environment variable
``NDVOL_DIRECT=0`` turns the path off.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import ceil, prod
from typing import Any

import h5py
import numcodecs.blosc
import numpy as np
import xxhash
from numpy.typing import NDArray

from ndvol.errors import DamageError
from ndvol.geometry import Clip, Window
from ndvol.geometry.tiling import chunk_counts, chunk_window
from ndvol.store.codec import BLOSC_FILTER

FLETCHER_BYTES = 4
GZIP, SHUFFLE, FLETCHER32 = 1, 2, 3

_xxh3 = xxhash.xxh3_64_intdigest

Buffer = memoryview | bytes
Decoder = Callable[[Buffer, NDArray[Any]], NDArray[Any]]
"""The chunk in some stored bytes: decoded into the array given, or a view of the bytes that are one already."""
Bytes = Callable[[int, int], Buffer]
Slices = tuple[slice, ...]
_Part = tuple[NDArray[Any], Slices, Slices]
"""An array, the part of a chunk that it takes, and where."""


def direct_reader(dataset: h5py.Dataset, hashes: Mapping[int, int] | None) -> DirectReader | None:
    """A reader for `dataset`, or None when h5py has to read it.

    Parameters
    ----------
    hashes : xxh3-64 of the stored bytes by chunk number, from the manifest; None for other people's files.
    """
    if os.environ.get("NDVOL_DIRECT") == "0":
        return None
    if not (is_chunked(dataset) and has_known_filters(dataset) and is_guarded(dataset, hashes)):
        return None
    table = _chunk_table(dataset)
    return DirectReader(dataset, table, hashes) if table is not None else None


def is_chunked(dataset: h5py.Dataset) -> bool:
    """True for a chunked data set of numbers that is not empty."""
    return bool(dataset.chunks) and dataset.dtype.kind in "iuf" and prod(dataset.shape) > 0


def has_known_filters(dataset: h5py.Dataset) -> bool:
    """True when the filters are those that `_decoder` undoes: none, Blosc, gzip or shuffle and gzip."""
    return _decoder(dataset) is not None


def is_guarded(dataset: h5py.Dataset, hashes: Mapping[int, int] | None) -> bool:
    """True when no checksum is passed over: the manifest has one, or the data set has none."""
    return hashes is not None or not dataset.fletcher32


class DirectReader:
    """Windows of one data set, chunk by chunk; see `direct_reader`."""

    def __init__(
        self, dataset: h5py.Dataset, table: Mapping[int, tuple[int, int]], hashes: Mapping[int, int] | None
    ) -> None:
        self._path, self._name = dataset.file.filename, dataset.name
        self._shape: tuple[int, ...] = dataset.shape
        self._dtype: np.dtype[Any] = dataset.dtype
        self._chunk: tuple[int, ...] = dataset.chunks
        self._fill = dataset.fillvalue
        self._trailer = FLETCHER_BYTES if dataset.fletcher32 else 0
        self._strides = _strides(chunk_counts(self._shape, self._chunk))
        self._table = table
        self._hashes = hashes
        decoder = _decoder(dataset)
        assert decoder is not None  # has_known_filters
        self._decode = decoder
        # HDF5's own descriptor: the same file, whatever has been put at its path since.
        descriptor = dataset.file.id.get_vfd_handle()
        self._bytes = _mapped(descriptor) if hashes is not None else _read_by_position(self, descriptor)
        self._local = threading.local()

    def read(self, clips: Sequence[Clip], outs: Sequence[NDArray[Any]]) -> None:
        """Fill ``outs[k][clips[k].placement]`` with ``dataset[clips[k].inside]``, cast to the type of the array.

        A chunk that several windows share is checked and decoded once.

        Raises
        ------
        DamageError : when the bytes of a chunk are not those that were written.
        """
        buffer = self._buffer()
        for number, parts in self._shared(clips, outs):
            if (where := self._table.get(number)) is not None:
                chunk = self._load(number, where, buffer)
                for out, source, target in parts:
                    out[target] = chunk[source]
            elif self._hashes is not None and number in self._hashes:
                raise self._damage(number, "is missing")
            else:
                for out, _, target in parts:
                    out[target] = self._fill

    def _shared(self, clips: Sequence[Clip], outs: Sequence[NDArray[Any]]) -> Iterable[tuple[int, Sequence[_Part]]]:
        """The chunks that windows touch, by number, with all that is to be copied out of each."""
        if len(clips) == 1:
            return ((number, ((outs[0], source, target),)) for number, source, target in self._parts(clips[0]))
        shared: dict[int, list[_Part]] = {}
        for clip, out in zip(clips, outs, strict=True):
            for number, source, target in self._parts(clip):
                shared.setdefault(number, []).append((out, source, target))
        return sorted(shared.items())

    def cost(self, clip: Clip) -> tuple[int, int]:
        """Bytes that `clip` takes from the file, and bytes that they decode to."""
        sizes = [self._table[number][1] for number, _, _ in self._parts(clip) if number in self._table]
        return sum(sizes), len(sizes) * prod(self._chunk) * self._dtype.itemsize

    def _parts(self, clip: Clip) -> Iterator[tuple[int, Slices, Slices]]:
        """Number of each chunk that `clip` touches, the part within the chunk, and the part in the patch."""
        axes = [
            _parts(inside, placement, chunk, stride)
            for inside, placement, chunk, stride in zip(
                clip.inside, clip.placement, self._chunk, self._strides, strict=True
            )
        ]
        # Some ten thousand chunks a second pass here: what can be made for all of them at once is.
        numbers = map(sum, product(*(parts[0] for parts in axes)))
        sources, targets = product(*(parts[1] for parts in axes)), product(*(parts[2] for parts in axes))
        return zip(numbers, sources, targets, strict=True)

    def _buffer(self) -> NDArray[Any]:
        """Room for a decoded chunk, one per thread."""
        buffer: NDArray[Any] | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = np.empty(self._chunk, self._dtype)
        return buffer

    def _load(self, number: int, where: tuple[int, int], buffer: NDArray[Any]) -> NDArray[Any]:
        """A chunk, checked; `buffer` is room for it."""
        offset, size = where
        data = self._bytes(offset, size)
        if self._hashes is not None and _xxh3(data) != self._hashes.get(number):
            raise self._damage(number, "has other bytes than were written")
        try:
            return self._decode(data[: size - self._trailer] if self._trailer else data, buffer)
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


def _mapped(descriptor: int) -> Bytes:
    """Bytes of a published file, mapped: it never changes, and all processes share its pages."""
    view = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    return lambda offset, size: view[offset : offset + size]


def _read_by_position(owner: object, descriptor: int) -> Bytes:
    """Bytes of a file that others may cut: reading past its end is an error, where a map would end the process."""
    own = os.dup(descriptor)
    weakref.finalize(owner, os.close, own)
    return lambda offset, size: os.pread(own, size, offset)


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


def _chunk_table(dataset: h5py.Dataset) -> dict[int, tuple[int, int]] | None:
    """Chunk number -> (offset in the file, stored bytes); None when a chunk was stored without one of the filters,
    as HDF5 does where an optional filter did not make it smaller."""
    found: list[Any] = []
    # No function of ours: one call per chunk would be most of the time that opening a file takes.
    dataset.id.chunk_iter(found.append)
    if any(info.filter_mask for info in found):
        return None
    offsets = np.array([info.chunk_offset for info in found], np.int64).reshape(-1, dataset.ndim)
    chunk = np.array(dataset.chunks)
    numbers = offsets // chunk @ np.array(_strides(chunk_counts(dataset.shape, dataset.chunks)))
    return {n: (info.byte_offset, info.size) for n, info in zip(numbers.tolist(), found, strict=True)}


def _decoder(dataset: h5py.Dataset) -> Decoder | None:
    """What undoes the filters of a data set; None when they are not among those known here."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters and filters[-1] == FLETCHER32:
        filters.pop()
    known: dict[tuple[int, ...], Decoder] = {
        (): _as_stored,
        (BLOSC_FILTER,): _blosc,
        (GZIP,): _inflate,
        (SHUFFLE, GZIP): _inflate_unshuffle,
    }
    return known.get(tuple(filters))


def _as_stored(data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    return np.frombuffer(data, out.dtype).reshape(out.shape)


def _blosc(data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    numcodecs.blosc.decompress(data, out)
    return out


def _inflate(data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    return _as_stored(_inflated(data, out.nbytes), out)


def _inflate_unshuffle(data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    planes = np.frombuffer(_inflated(data, out.nbytes), np.uint8).reshape(out.itemsize, -1)
    out.reshape(-1).view(np.uint8).reshape(-1, out.itemsize)[:] = planes.T
    return out


def _inflated(data: Buffer, size: int) -> bytes:
    """Exactly `size` bytes; a stream that holds more is not read on."""
    stream = zlib.decompressobj()
    inflated = stream.decompress(data, size + 1)
    if len(inflated) != size:
        raise ValueError(f"{len(inflated)} bytes instead of {size}")
    return inflated
