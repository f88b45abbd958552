"""What has been found in an open file, each thing on first use and for as long as the file stays open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from ndvol.errors import DamageError, GridError, StoreError
from ndvol.hdf5 import READ_ERRORS, get_dataset
from ndvol.store.arrays import StoredArray
from ndvol.store.contents import KINDS, read_contents
from ndvol.store.contiguous import ContiguousReader
from ndvol.store.direct import DirectReader, direct_reader
from ndvol.store.hdf5 import open_with_notes
from ndvol.store.manifest import Rows, read_manifest
from ndvol.store.verify import check_format, is_ours


class FileFacts:
    """An open file: ours with its contents and manifest, or any other.

    Nothing here is locked: what two threads find at once is the same.
    """

    def __init__(self, file: h5py.File) -> None:
        self.file = file
        self.contents: dict[str, Any] | None = None
        """See FORMAT.md; None for a file that is not ours."""
        self._arrays: dict[str, StoredArray] = {}
        self._datasets: dict[str, h5py.Dataset] = {}
        self._readers: dict[str, DirectReader | ContiguousReader | None] = {}
        self._manifest: dict[str, Rows] | None = None
        if is_ours(file):
            check_format(file)
            self.contents = read_contents(file)
            volumes = [(f"/{kind}/{name}", facts) for kind in KINDS for name, facts in self.contents[kind].items()]
            for path, facts in volumes:
                for level, stored in enumerate(facts["levels"]):
                    self._arrays[f"{path}/{level}"] = StoredArray.from_json(file, f"{path}/{level}", stored)

    def array(self, name: str) -> StoredArray:
        """How the data set at `name` is stored: a level of one of our volumes, or any data set, audited."""
        name = f"/{name.strip('/')}"
        if name not in self._arrays:
            self._arrays[name] = StoredArray.of(get_dataset(self.file, name))
        return self._arrays[name]

    def dataset(self, name: str) -> h5py.Dataset:
        """The data set at `name`, audited; see `StoredArray.open`."""
        if name not in self._datasets:
            self._datasets[name] = self.array(name).open()
        return self._datasets[name]

    def reader(self, name: str) -> DirectReader | ContiguousReader | None:
        """The direct reader of a data set; None where h5py reads it."""
        if name not in self._readers:
            try:
                if self._manifest is None and self.contents is not None:
                    self._manifest = read_manifest(self.file)
                listed = None if self._manifest is None else self._manifest.get(name.strip("/"))
                self._readers[name] = direct_reader(self.array(name), listed)
            except READ_ERRORS as error:
                raise as_damage(error, self.file.filename) from error
        return self._readers[name]


def file_facts(path: str | Path) -> FileFacts:
    """What is known of the file that is kept open for `path`."""
    file, notes = open_with_notes(path)
    if "facts" not in notes:
        try:
            notes["facts"] = FileFacts(file)
        except READ_ERRORS as error:
            raise as_damage(error, path) from error
    facts: FileFacts = notes["facts"]
    return facts


def as_damage(error: Exception, path: str | Path) -> Exception:
    """The error itself when it is ours already, else a `DamageError` that names the file."""
    if isinstance(error, StoreError | GridError):
        return error
    return DamageError(f"{path} cannot be read", got=error, hint="run `ndvol verify`", path=str(path))
