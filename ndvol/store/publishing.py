"""A new HDF5 file: written beside its place, read back, synced, and then put there whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from ndvol.errors import NdvolError, StoreError
from ndvol.hdf5 import get_dataset, open_once
from ndvol.store.chunked import ChunkedDataset
from ndvol.store.hdf5 import LIBVER, forget
from ndvol.store.verify import Damage, compare_dataset

_METADATA_ROOM = 2**20


@contextmanager
def new_file(path: Path, verify: Callable[[Path], list[Damage]]) -> Iterator[h5py.File]:
    """``<path>.part``, open for writing, which becomes `path` when the block ends well.

    Whatever is raised inside the block, nothing is published then, and an older file at `path` is left as it was.

    Parameters
    ----------
    verify : what is wrong with the closed file; it is published when that is nothing.

    Raises
    ------
    StorageFullError : when the device or quota is full; StoreError for other trouble with the device, and for a file
        that does not read back as it was written.
    """
    part = path.with_name(path.name + ".part")
    try:
        file = h5py.File(part, "w", libver=LIBVER, locking=False, rdcc_nbytes=0)
    except OSError as error:
        raise StoreError.from_os(error, part) from error
    try:
        yield file
        _reserve_metadata(part)
        file.close()
        if damage := verify(part):
            raise StoreError(f"{part} does not read back as it was written", got=damage[0].what)
        _sync(part)
        part.replace(path)
        forget(path)
        sync_folder(path.parent)
    except BaseException as error:
        # The file is thrown away; the error that led here is the one to report.
        with suppress(OSError, RuntimeError):
            file.close()
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, NdvolError):
            raise StoreError.from_os(error, part) from error
        raise


def compare_written(datasets: Sequence[ChunkedDataset], path: Path) -> list[Damage]:
    """What differs between the chunks that were written and those in the file at `path`."""
    damage = []
    with open_once(path) as file:
        for written in datasets:
            listed = np.array(sorted(written.hashes.items()), np.uint64).reshape(-1, 2)
            damage += compare_dataset(get_dataset(file, written.path), written.path, listed)
    return damage


def _reserve_metadata(part: Path) -> None:
    """Prove that there is room for HDF5's last metadata, so that a full disk shows here: an error while the
    library closes a file leaves it in a state that crashes the process at exit."""
    room = part.with_suffix(".room")
    try:
        room.write_bytes(bytes(_METADATA_ROOM))
    finally:
        room.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power failure, where the file system can."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
