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
_LINKS = {h5py.h5l.TYPE_SOFT: "SoftLink", h5py.h5l.TYPE_EXTERNAL: "ExternalLink"}
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
    # h5py's own objects on the way would take most of the time that opening a case takes.
    node: Any = file.id
    for part in (p for p in path.split("/") if p):
        if not isinstance(node, h5py.h5g.GroupID):
            raise UnknownNameError(f"{_name(node)!r} in {file.filename} is no group, so there is no {path!r}")
        try:
            name = part.encode()
            link = node.links.get_info(name).type if node.links.exists(name) else None
        except READ_ERRORS as error:
            raise DamageError(f"cannot follow {path!r} in {file.filename}", got=error) from error
        if link is None:
            raise UnknownNameError(
                f"there is no {path!r} in {file.filename}", expected=f"one of {', '.join(list(h5py.Group(node))[:20])}"
            )
        if link != h5py.h5l.TYPE_HARD:
            raise UnsafeFileError(
                f"{part!r} on the way to {path!r} in {file.filename} is a {_LINKS.get(link, 'link of unknown type')}",
                expected="hard links only",
                hint="copy the data into the file (h5repack, h5copy) if you trust where it points",
            )
        try:
            node = h5py.h5o.open(node, name)
        except READ_ERRORS as error:
            raise DamageError(f"cannot read {path!r} in {file.filename}", got=error) from error
    if isinstance(node, h5py.h5d.DatasetID):
        dataset = h5py.Dataset(node, readonly=True)
        refuse_unsafe(dataset)
        return dataset
    return h5py.Group(node) if isinstance(node, h5py.h5g.GroupID) else h5py.Datatype(node)


def _name(node: Any) -> str:
    name: bytes = h5py.h5i.get_name(node)
    return name.decode(errors="replace")


def refuse_unsafe(dataset: h5py.Dataset) -> None:
    """Raise `UnsafeFileError` where reading `dataset` would read other files, need a plug-in, or chunks too large."""
    plist = dataset.id.get_create_plist()
    if plist.get_external_count():
        raise UnsafeFileError(f"{_where(dataset)} keeps its voxels in another file (external storage)")
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise UnsafeFileError(f"{_where(dataset)} is a virtual data set, made of other files")
    for i in range(plist.get_nfilters()):
        number = plist.get_filter(i)[0]
        if number not in ALLOWED_FILTERS:
            raise UnsafeFileError(
                f"{_where(dataset)} is stored through HDF5 filter {number}",
                expected=f"one of {', '.join(ALLOWED_FILTERS.values())}",
                hint="rewrite it with h5repack",
            )
    chunk = plist.get_chunk() if plist.get_layout() == h5py.h5d.CHUNKED else ()
    if prod(chunk) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
        raise UnsafeFileError(
            f"{_where(dataset)} has chunks of {chunk} voxels", expected=f"at most {MAX_CHUNK_BYTES} bytes"
        )


def _where(dataset: h5py.Dataset) -> str:
    return f"{dataset.name!r} in {dataset.file.filename}"


def get_dataset(file: h5py.File, path: str) -> h5py.Dataset:
    """The data set at `path`, audited; see `get`."""
    node = get(file, path)
    if not isinstance(node, h5py.Dataset):
        raise UnknownNameError(f"{path!r} in {file.filename} is a group", hint="name the data set in it")
    return node
