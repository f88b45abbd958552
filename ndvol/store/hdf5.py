"""Case files, open and kept open; tables and texts in them."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
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
    stamp: tuple[int, ...]
    """Which file it was when it was opened: an import may have put another one at the path since."""
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    """Data sets that were audited once; walking to one again would cost more than reading a small window."""
    derived: dict[str, Any] = field(default_factory=dict)
    """What the store keeps beside the file for as long as it is open: chunk tables, hashes."""


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


def open_dataset(path: str | Path, dataset: str) -> h5py.Dataset:
    """A data set of the file that `open_file` keeps, audited once; see `get`."""
    return open_with_notes(path, dataset)[0]


def open_with_notes(path: str | Path, dataset: str) -> tuple[h5py.Dataset, dict[str, Any]]:
    """A data set like `open_dataset`, and a dictionary that lives as long as the file stays open."""
    known = _handle(path)
    if dataset not in known.datasets:
        known.datasets[dataset] = get_dataset(known.file, dataset)
    return known.datasets[dataset], known.derived


def _handle(path: str | Path) -> _Handle:
    key = os.getpid(), str(Path(path).absolute())
    with _lock:
        known = _handles.get(key)
        if known is not None and known.stamp == _stamp(path):
            _handles.move_to_end(key)
            return known
        # Not closed here: another thread may be reading. The last reference that goes closes the file.
        _handles[key] = known = _Handle(open_once(path), _stamp(path))
        _handles.move_to_end(key)
        mine = [k for k in _handles if k[0] == key[0]]
        if len(mine) > MAX_HANDLES:
            del _handles[mine[0]]
        return known


def _stamp(path: str | Path) -> tuple[int, ...]:
    try:
        stat = Path(path).stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def forget(path: str | Path) -> None:
    """Close this process's kept handle, so that the file is read from its bytes again."""
    with _lock:
        handle = _handles.pop((os.getpid(), str(Path(path).absolute())), None)
    if handle is not None:
        handle.file.close()


def read_table(file: h5py.File, path: str) -> NDArray[Any]:
    """A whole data set of moderate size, audited."""
    dataset = get_dataset(file, path)
    if (dataset.size or 0) * dataset.dtype.itemsize > MAX_TABLE_BYTES:
        raise UnsafeFileError(f"the table {path!r} in {file.filename} declares {dataset.shape} entries")
    try:
        return np.asarray(dataset[...])
    except READ_ERRORS as error:
        raise DamageError(f"cannot read {path!r} in {file.filename}", got=error, path=file.filename) from error


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
