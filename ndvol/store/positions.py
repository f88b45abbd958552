"""Bytes of an open file by position, and word ahead of those that will be wanted."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterable
from typing import Protocol

import numpy as np

Buffer = memoryview | bytes
Run = tuple[int, int]
"""First byte, and the byte behind the last."""


class FileBytes(Protocol):
    """How a reader gets at a file."""

    def read(self, offset: int, size: int) -> Buffer: ...

    def pointer(self, offset: int, data: Buffer) -> int | bytes:
        """Where `data`, which was read at `offset`, is, for functions in C."""
        ...

    def expect(self, runs: Iterable[Run]) -> None:
        """Tell the system which bytes come next: a disk then fetches them side by side, ahead of the reader."""
        ...


class MappedBytes:
    """Of a published file: it never changes, and all processes share its pages."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        self._address = int(np.frombuffer(self._map, np.uint8).ctypes.data)

    def read(self, offset: int, size: int) -> Buffer:
        return self._view[offset : offset + size]

    def pointer(self, offset: int, data: Buffer) -> int | bytes:
        return self._address + offset

    def expect(self, runs: Iterable[Run]) -> None:
        for start, stop in runs:
            page = start - start % mmap.PAGESIZE
            # A file that was cut has no such bytes to be announced; reading them is what fails.
            if stop <= len(self._map):
                self._map.madvise(mmap.MADV_WILLNEED, page, stop - page)


class PositionedBytes:
    """Of a file that others may cut: reading past its end is an error, where a map would end the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, offset: int, size: int) -> Buffer:
        return os.pread(self._descriptor, size, offset)

    def pointer(self, offset: int, data: Buffer) -> int | bytes:
        return bytes(data)

    def expect(self, runs: Iterable[Run]) -> None:
        if hasattr(os, "posix_fadvise"):  # not on macOS
            for start, stop in runs:
                os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)
