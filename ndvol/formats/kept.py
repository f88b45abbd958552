"""What a process keeps of files: stamps that tell one content from the next, maps of bytes, and arrays last decoded."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError

MAX_MAPS = 256
"""Files mapped per process; each holds a file descriptor."""


class Stamp(NamedTuple):
    """A file as it was: another one at the path, or one that was written again, has another stamp."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int


def stamp_of(path: str | Path) -> Stamp:
    """The stamp of a file; raises `SourceError` when it is not there."""
    try:
        stat = os.stat(path)  # noqa: PTH116  (called for every window)
    except OSError as error:
        raise SourceError(f"cannot read {path}", got=error.strerror, code="missing-file") from error
    return Stamp(str(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def check_unchanged(stamp: Stamp) -> None:
    """Raise unless the file still is what the stamp was taken of."""
    if stamp_of(stamp.path) != stamp:
        raise SourceError(f"{stamp.path} changed since it was opened", hint="open it again", code="changed")


def mapped_bytes(stamp: Stamp) -> NDArray[np.uint8]:
    """The bytes of a file as a memory map, read-only; raises `SourceError` when the file has changed."""
    check_unchanged(stamp)
    return _map(stamp)


@lru_cache(MAX_MAPS)
def _map(stamp: Stamp) -> NDArray[np.uint8]:
    try:
        return np.memmap(stamp.path, np.uint8, "r").view(np.ndarray)
    except (OSError, ValueError) as error:
        raise SourceError(f"{stamp.path} cannot be mapped", got=error, code="unreadable") from error


class Kept:
    """The arrays last used, up to a number of bytes; the last one is kept whatever its size.

    For the module level alone: its lock is renewed in every forked process. Who gets an array must not write to it.

    >>> kept = Kept(16)
    >>> kept.get("a", lambda: np.zeros(16, np.uint8)) is kept.get("a", lambda: np.ones(1))
    True
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array kept under `key`, else what `make` returns; two threads may both make it."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = make()
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self._bytes += array.nbytes
            while self._bytes > self._room and len(self._arrays) > 1:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array
