"""The HDF5 side: one immutable file per case. FORMAT.md beside this file describes what is in it."""

import ndvol.hdf5  # noqa: F401  (before h5py: it turns the search for plug-ins off)
from ndvol.store.codec import CODECS, FAST, Codec
from ndvol.store.hdf5 import forget
from ndvol.store.objects import object_mask
from ndvol.store.portable import write_portable
from ndvol.store.publishing import sync_folder
from ndvol.store.reader import Hdf5Source, open_case, open_hdf5, read_identity, read_objects, read_provenance
from ndvol.store.verify import FORMAT_VERSION, Damage, file_sha256, verify_file
from ndvol.store.writer import CaseWriter

__all__ = [
    "CODECS",
    "FAST",
    "FORMAT_VERSION",
    "CaseWriter",
    "Codec",
    "Damage",
    "Hdf5Source",
    "file_sha256",
    "forget",
    "object_mask",
    "open_case",
    "open_hdf5",
    "read_identity",
    "read_objects",
    "read_provenance",
    "sync_folder",
    "verify_file",
    "write_portable",
]
