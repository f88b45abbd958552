"""h5py, opened the one way ndvol opens files: no plug-in search, no locks, no chunk cache, no way out of the file.

Below the store and the readers of formats: the files of ndvol and those of others are opened alike.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

# A path of HDF5 plug-ins is a way to run code on a read; "::" turns the search off. It counts only before h5py
# is loaded. The filters that hdf5plugin registers itself keep working.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)

from ndvol.errors import DamageError, UnknownNameError, UnsafeFileError

ALLOWED_FILTERS = {
    1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf",
    32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd", 32026: "blosc2",
}  # fmt: skip
"""Filters that h5py and hdf5plugin bring along; others would need a plug-in from a path."""

MAX_CHUNK_BYTES = 2**30
READ_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
"""What h5py and the use of what it returns raise on damaged or hostile bytes, depending on where they are."""


def open_once(path: str | Path) -> h5py.File:
    """The file, open for reading; the caller closes it."""
    if not Path(path).is_file():
        raise UnknownNameError(f"there is no file {path}", hint="has the bundle been moved without its volumes?")
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    except READ_ERRORS as error:
        hint = "copy it again, or make it again by an import"
        raise DamageError(f"{path} is not a readable HDF5 file", got=error, hint=hint, path=str(path)) from error


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
        refuse_unsafe(node)
    return node


def refuse_unsafe(dataset: h5py.Dataset) -> None:
    """Raise `UnsafeFileError` where reading `dataset` would read other files, need a plug-in, or chunks too large."""
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
