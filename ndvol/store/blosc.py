"""Blosc's chunks: compressed in blocks of whole planes, and decoded no further than a window needs.

numcodecs hands out c-blosc's functions for whole chunks. Two more of the library that its extension module carries are
called here by their names in C: `blosc_getitem` decodes the blocks around some items and leaves the others, and
`blosc_set_splitmode` lets blocks be smaller than 64 KiB. See c-blosc's header blosc.h for both.
"""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

# Several threads would write a chunk's blocks in the order they finish: other bytes on every run.
numcodecs.blosc.use_threads = False

BLOCK = 2**14
"""Bytes of a block that can be decoded alone, rounded to whole planes: a sixteenth (float64) to a half (uint8) of a
chunk of 32^3."""
SHUFFLES = {"byte": numcodecs.blosc.SHUFFLE, "bit": numcodecs.blosc.BITSHUFFLE}
_NEVER_SPLIT = 2
_TYPESIZE, _BLOCKSIZE = 3, 8
"""Where in a chunk's header the sizes of its items and blocks are."""


def _functions() -> tuple[Any, Any, Any] | None:
    """c-blosc's checks, decoder of chunks and decoder of items; None where a build of numcodecs hides them."""
    # Python's lock is kept: a chunk is decoded in less time than it takes to hand the lock on and have it back.
    library = ctypes.PyDLL(numcodecs.blosc.__file__)
    try:
        validate, decompress, getitem = (
            library.blosc_cbuffer_validate,
            library.blosc_decompress_ctx,
            library.blosc_getitem,
        )
        # Else the bytes of an item lie apart in streams of their own, and c-blosc makes no block smaller than 64 KiB.
        library.blosc_set_splitmode(_NEVER_SPLIT)
    except AttributeError:
        return None
    validate.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    decompress.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    getitem.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    return validate, decompress, getitem


_C = _functions()


class ChunkBuffer:
    """Room for a decoded chunk; of one thread."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.array: NDArray[Any] = np.empty(shape, dtype)
        self.address = self.array.ctypes.data
        self.size, self.itemsize, self.nbytes = self.array.size, dtype.itemsize, self.array.nbytes
        self.announced = ctypes.c_size_t()
        self.announced_at = ctypes.addressof(self.announced)


def compress(chunk: NDArray[Any], compressor: str, level: int, shuffle: int, *, in_planes: bool) -> bytes:
    """The bytes of a C-contiguous chunk; `in_planes`: in blocks of `BLOCK` bytes, else as c-blosc chooses."""
    plane = plane_size(chunk.shape) * chunk.itemsize
    block = max(1, BLOCK // plane) * plane if in_planes else 0
    data: bytes = numcodecs.blosc.compress(chunk, compressor.encode(), level, shuffle, block)
    return data


def plane_axis(chunk: tuple[int, ...]) -> int:
    """The axis along which a chunk consists of planes: its first one longer than 1."""
    return next((axis for axis, n in enumerate(chunk) if n > 1), 0)


def plane_size(chunk: tuple[int, ...]) -> int:
    """Voxels of a plane of a chunk."""
    return prod(chunk[plane_axis(chunk) + 1 :])


def decode(data: memoryview | bytes, pointer: int | bytes, buffer: ChunkBuffer, first: int, last: int) -> None:
    """Items first … last - 1 of a chunk, into their places in `buffer`; the others there are then of no use.

    Parameters
    ----------
    data, pointer : the chunk's bytes, and where they are, for C.

    Raises
    ------
    RuntimeError : when they are not those of a chunk of the size of the buffer.
    """
    if _C is None:
        numcodecs.blosc.decompress(data, buffer.array)
        return
    validate, decompress, getitem = _C
    if validate(pointer, len(data), buffer.announced_at) < 0 or buffer.announced.value != buffer.nbytes:
        raise RuntimeError("no Blosc chunk of this size")
    if (first, last) == (0, buffer.size) or data[_TYPESIZE] != buffer.itemsize:
        done, wanted = decompress(pointer, buffer.address, buffer.nbytes, 1), buffer.nbytes
    else:
        count = last - first
        done, wanted = getitem(pointer, first, count, buffer.address + first * buffer.itemsize), count * buffer.itemsize
    if done != wanted:
        raise RuntimeError("Blosc cannot decode it")


def decoded_bytes(data: memoryview | bytes, buffer: ChunkBuffer, first: int, last: int) -> int:
    """How many bytes `decode` decodes for these items: those of whole blocks."""
    if _C is None or data[_TYPESIZE] != buffer.itemsize or last <= first:
        return buffer.nbytes
    block = int.from_bytes(data[_BLOCKSIZE : _BLOCKSIZE + 4], "little")
    start, stop = first * buffer.itemsize // block * block, -(-last * buffer.itemsize // block) * block
    return min(stop, buffer.nbytes) - start
