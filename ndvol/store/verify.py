"""Verification: every stored byte of an ndvol file against its manifest."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import xxhash

from ndvol.errors import NdvolError, StoreError
from ndvol.geometry import Window
from ndvol.geometry.tiling import chunk_window
from ndvol.hdf5 import READ_ERRORS, get_dataset, open_once
from ndvol.store.contents import CONTENTS, describe, has_contents, same_contents, stored_contents
from ndvol.store.hdf5 import forget, get_text, read_table
from ndvol.store.manifest import CHUNKS, MANIFEST, Rows, read_manifest, stored_chunks

FORMAT_VERSION = "1.2"
ATTRIBUTES_DIGEST = "attributes_xxh3"


@dataclass(frozen=True, slots=True)
class Damage:
    """One fault in a file: what it is, and the data set and box that it concerns where that is known."""

    what: str
    dataset: str = ""
    box: Window | None = None


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify_file(path: str | Path, *, sha256: str = "") -> list[Damage]:
    """Compare a file with its manifest and, when the catalogue's `sha256` is given, with that.

    The manifest holds the hash of every stored chunk, so it also finds chunks that were swapped, zeroed or
    lost, which a checksum inside the chunk does not. Only the digest of the whole file covers unused bytes.

    Returns
    -------
    the faults found; empty when the file is exactly as written.
    """
    # HDF5 would answer for a file that is still open here from its memory.
    forget(path)
    damage = []
    try:
        if sha256 and Path(path).is_file() and file_sha256(path) != sha256:
            damage.append(Damage("the file is not the one that the catalogue names (SHA-256 differs)"))
        with open_once(path) as file:
            check_format(file)
            damage += _compare_chunks(file)
            damage += _compare_contents(file)
    except NdvolError as error:
        damage.append(Damage(str(error)))
    except READ_ERRORS as error:
        damage.append(Damage(f"HDF5 cannot read it: {error}"))
    return damage


def is_ours(file: h5py.File) -> bool:
    """Whether `file` says that it is an ndvol file."""
    ours: bool = h5py.h5a.exists(file.id, b"ndvol_format")
    return ours


def check_format(file: h5py.File) -> None:
    """Raise unless `file` is an ndvol file of a version that this release reads."""
    if not is_ours(file):
        raise not_ours(file)
    version = get_text(file, "ndvol_format")
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise StoreError(
            f"{file.filename} has format {version}",
            expected=f"format {FORMAT_VERSION.split('.')[0]}.x",
            hint="install a newer ndvol",
        )


def not_ours(file: h5py.File) -> StoreError:
    """The error for a file that is not an ndvol file."""
    return StoreError(
        f"{file.filename} is not an ndvol file",
        hint="open a data set of any other HDF5 file with ndvol.open_hdf5(path, dataset, axes=…)",
    )


def _compare_chunks(file: h5py.File) -> list[Damage]:
    rows = read_table(file, MANIFEST)
    if xxhash.xxh3_64_hexdigest(rows.astype("<u8").tobytes()) != get_text(file, "manifest_xxh3"):
        return [Damage("the manifest is damaged", MANIFEST)]
    damage = []
    if attributes_digest(file) != get_text(file, ATTRIBUTES_DIGEST):
        damage.append(Damage("an attribute has changed"))
    manifest = read_manifest(file)
    if sorted(manifest) != _datasets(file):
        damage.append(Damage("the data sets are not those that the manifest names"))
    for name, listed in manifest.items():
        damage += compare_dataset(get_dataset(file, name), name, listed)
    return damage


def _compare_contents(file: h5py.File) -> list[Damage]:
    if not has_contents(file) or same_contents(stored_contents(file), describe(file)):
        return []
    return [Damage("the contents are not those that the attributes and data sets add up to", CONTENTS)]


def compare_dataset(dataset: h5py.Dataset, name: str, listed: Rows) -> list[Damage]:
    """What differs between a data set, found through HDF5's own index, and the chunks that are `listed`.

    Parameters
    ----------
    listed : number, hash and, where it is known, offset and size of every chunk that must be there.
    """
    # The file that HDF5 has open: an import may have put another one at its path since.
    descriptor = dataset.file.id.get_vfd_handle()
    stored = {number: (size, offset) for number, offset, size, _ in stored_chunks(dataset).tolist()}
    expected = {row[0]: row[1:] for row in listed.tolist()}
    damage = []
    for chunk in sorted(expected.keys() | stored.keys()):
        box = chunk_window(chunk, dataset.shape, dataset.chunks)
        if chunk not in stored:
            damage.append(Damage("a chunk is missing", name, box))
        elif chunk not in expected:
            damage.append(Damage("a chunk is there that was never written", name, box))
        elif xxhash.xxh3_64_intdigest(os.pread(descriptor, *stored[chunk])) != expected[chunk][0]:
            damage.append(Damage("a chunk's bytes have changed", name, box))
        elif expected[chunk][1:] not in ([], [*reversed(stored[chunk])]):
            damage.append(Damage("a chunk lies elsewhere than the file says", name, box))
    return damage


def attributes_digest(file: h5py.File) -> str:
    """xxh3-64 of all attributes of all objects, but for itself; large ones lie outside HDF5's own checksums."""
    digest = xxhash.xxh3_64()

    def visit(name: str, node: h5py.HLObject) -> None:
        for key in sorted(node.attrs):
            if key != ATTRIBUTES_DIGEST:
                digest.update(f"{name}\0{key}\0".encode())
                digest.update(np.asarray(node.attrs[key]).tobytes())

    visit("", file)
    file.visititems(visit)
    return digest.hexdigest()


def _datasets(file: h5py.File) -> list[str]:
    """Paths of all data sets that the manifest covers, sorted."""
    names: list[str] = []
    file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return sorted(set(names) - {MANIFEST, CHUNKS})
