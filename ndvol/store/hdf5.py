"""Case files, open and kept open; tables and texts in them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ndvol.errors import DamageError, StoreError, UnsafeFileError
from ndvol.hdf5 import READ_ERRORS, get_dataset, open_once

LIBVER = ("v110", "v110")
"""Every piece of metadata of this version carries a checksum, and ITK's HDF5 1.12 still reads it."""

MAX_TABLE_BYTES = 2**32
"""Of a table that is read as a whole: manifest, index, provenance."""
MAX_HANDLES = 160
"""Open files kept per process."""


@dataclass(slots=True)
class _Handle:
    file: h5py.File
    path: Path
    """Absolute."""
    stamp: tuple[int, ...]
    """Which file it was when it was opened: an import may have put another one at the path since."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the store keeps beside the file for as long as it is open."""


_handles: OrderedDict[tuple[int, str], _Handle] = OrderedDict()
_lock = threading.RLock()


def _new_lock() -> None:
    """A thread of the parent may have held the lock when it forked; its child starts with one of its own."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_new_lock)


def open_file(path: str | Path) -> h5py.File:
    """The file, open for reading in this process; kept open and shared by later calls.

    Keyed by process id, so that a forked worker never uses its parent's handle. Published files never change,
    so no lock is taken (NFS and Lustre often have none to give).
    """
    return _handle(path).file


def open_with_notes(path: str | Path) -> tuple[h5py.File, dict[str, Any]]:
    """The file like `open_file`, and a dictionary that lives as long as it stays open."""
    known = _handle(path)
    return known.file, known.notes


def _handle(path: str | Path) -> _Handle:
    with _lock:
        # The keys are absolute. Nearly always `path` is one of them, which is cheaper to see than to make.
        key = os.getpid(), str(path)
        known = _handles.get(key)
        if known is None:
            key = _key(path)
            known = _handles.get(key)
        if known is not None and known.stamp == _stamp(known.path):
            _handles.move_to_end(key)
            return known
        # Not closed here: another thread may be reading. The last reference that goes closes the file.
        _handles[key] = known = _Handle(open_once(path), Path(key[1]), _stamp(Path(key[1])))
        _handles.move_to_end(key)
        mine = [k for k in _handles if k[0] == key[0]]
        if len(mine) > MAX_HANDLES:
            del _handles[mine[0]]
        return known


def _key(path: str | Path) -> tuple[int, str]:
    return os.getpid(), str(Path(path).absolute())


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def forget(path: str | Path) -> None:
    """Close this process's kept handle, so that the file is read from its bytes again."""
    with _lock:
        handle = _handles.pop(_key(path), None)
    if handle is not None:
        handle.file.close()


def read_table(file: h5py.File, path: str) -> NDArray[Any]:
    """A whole data set of moderate size, audited."""
    return read_whole(get_dataset(file, path))


def read_whole(dataset: h5py.Dataset) -> NDArray[Any]:
    """All numbers of an audited data set of moderate size."""
    shape, dtype = dataset.shape, dataset.dtype
    if shape is None or dtype.kind not in "biuf":
        raise _unreadable(dataset, f"it is no table of numbers but {dtype}")
    if prod(shape) * dtype.itemsize > MAX_TABLE_BYTES:
        raise UnsafeFileError(f"the table {dataset.name!r} in {dataset.file.filename} declares {shape} entries")
    try:
        table = np.empty(shape, dtype)
        # `dataset[...]` takes longer than all the rest of reading a small table. The array must have the data set's own
        # shape: nothing checks that it is large enough.
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, table)
    except READ_ERRORS as error:
        raise _unreadable(dataset, error) from error
    return table


def _unreadable(dataset: h5py.Dataset, why: object) -> DamageError:
    where = dataset.file.filename
    return DamageError(f"cannot read {dataset.name!r} in {where}", got=why, path=where)


def put_text(node: h5py.HLObject, name: str, text: str) -> None:
    """Write a fixed-length UTF-8 attribute; variable-length strings live in a heap without checksum."""
    data = text.encode()
    node.attrs.create(name, np.array(data, h5py.string_dtype("utf-8", max(1, len(data)))))


def get_text(node: h5py.HLObject, name: str) -> str:
    """Read an attribute written by `put_text`."""
    try:
        # h5py's `attrs` takes four times as long, and opening a case reads some twenty.
        attribute = h5py.h5a.open(node.id, name.encode())
        value = np.empty(attribute.shape, attribute.dtype)
        attribute.read(value)
        text = value.item()
        return text.decode() if isinstance(text, bytes) else str(text)
    except READ_ERRORS as error:
        raise StoreError(f"{node.name!r} in {node.file.filename} has no readable {name!r}", got=error) from error
