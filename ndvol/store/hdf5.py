"""h5py, opened the one way ndvol opens files: no plug-in search, no locks, no chunk cache, no way out of the file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

# A path of HDF5 plug-ins is a way to run code on a read; "::" turns the search off. It counts only before h5py
# is loaded. The filters that hdf5plugin registers itself keep working.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
from numpy.typing import NDArray

from ndvol.errors import DamageError, StoreError, UnknownNameError, UnsafeFileError

LIBVER = ("v110", "v110")
"""Every piece of metadata of this version carries a checksum, and ITK's HDF5 1.12 still reads it."""

ALLOWED_FILTERS = {
    1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf",
    32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd", 32026: "blosc2",
}  # fmt: skip
"""Filters that h5py and hdf5plugin bring along; others would need a plug-in from a path."""

MAX_CHUNK_BYTES = 2**30
MAX_TABLE_BYTES = 2**32
"""Of a table that is read as a whole: manifest, index, provenance."""
MAX_HANDLES = 64
"""Open files kept per process."""

READ_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
"""What h5py and the use of what it returns raise on damaged or hostile bytes, depending on where they are."""


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


def open_once(path: str | Path) -> h5py.File:
    """The file, open for reading; the caller closes it."""
    if not Path(path).is_file():
        raise UnknownNameError(f"there is no file {path}", hint="has the bundle been moved without its volumes?")
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except READ_ERRORS as error:
        raise DamageError(f"{path} is not a readable HDF5 file", got=error, path=str(path)) from error


def forget(path: str | Path) -> None:
    """Close this process's kept handle, so that the file is read from its bytes again."""
    with _lock:
        handle = _handles.pop((os.getpid(), str(Path(path).absolute())), None)
    if handle is not None:
        handle.file.close()


def get(file: h5py.File, path: str) -> Any:
    """The object at `path`, reached component by component through hard links only.

    External links, external storage and virtual data sets can read any file of the host, so they are refused
    before the first byte is read; so is a filter that would need a plug-in.

    Raises
    ------
    UnsafeFileError, UnknownNameError, DamageError
    """
    node: Any = file
    for part in (p for p in path.split("/") if p):
        if not isinstance(node, h5py.Group):
            raise UnknownNameError(f"{node.name!r} in {file.filename} is no group, so there is no {path!r}")
        try:
            link = node.get(part, getlink=True)
        except READ_ERRORS as error:
            raise DamageError(f"cannot follow {path!r} in {file.filename}", got=error) from error
        if link is None:
            raise UnknownNameError(
                f"there is no {path!r} in {file.filename}", expected=f"one of {', '.join(list(node)[:20])}"
            )
        if not isinstance(link, h5py.HardLink):
            raise UnsafeFileError(
                f"{part!r} on the way to {path!r} in {file.filename} is a {type(link).__name__}",
                expected="hard links only",
                hint="copy the data into the file (h5repack, h5copy) if you trust where it points",
            )
        try:
            node = node[part]
        except READ_ERRORS as error:
            raise DamageError(f"cannot read {path!r} in {file.filename}", got=error) from error
    if isinstance(node, h5py.Dataset):
        _refuse_unsafe(node)
    return node


def _refuse_unsafe(dataset: h5py.Dataset) -> None:
    where = f"{dataset.name!r} in {dataset.file.filename}"
    plist = dataset.id.get_create_plist()
    if plist.get_external_count():
        raise UnsafeFileError(f"{where} keeps its voxels in another file (external storage)")
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise UnsafeFileError(f"{where} is a virtual data set, made of other files")
    for i in range(plist.get_nfilters()):
        number = plist.get_filter(i)[0]
        if number not in ALLOWED_FILTERS:
            raise UnsafeFileError(
                f"{where} is stored through HDF5 filter {number}",
                expected=f"one of {', '.join(ALLOWED_FILTERS.values())}",
                hint="rewrite it with h5repack",
            )
    chunk = dataset.chunks or ()
    if prod(chunk) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
        raise UnsafeFileError(f"{where} has chunks of {chunk} voxels", expected=f"at most {MAX_CHUNK_BYTES} bytes")


def get_dataset(file: h5py.File, path: str) -> h5py.Dataset:
    """The data set at `path`, audited; see `get`."""
    node = get(file, path)
    if not isinstance(node, h5py.Dataset):
        raise UnknownNameError(f"{path!r} in {file.filename} is a group", hint="name the data set in it")
    return node


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
        value = node.attrs[name]
        return value.decode() if isinstance(value, bytes) else str(value)
    except READ_ERRORS as error:
        raise StoreError(f"{node.name!r} in {node.file.filename} has no readable {name!r}", got=error) from error
