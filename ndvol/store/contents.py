"""The contents of a case file: all that opening it needs to know, written down in one place.

HDF5 would take some thirty steps from object to object to say the same, each of which costs as much as a chunk.
"""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np

from ndvol.errors import DamageError, StoreError
from ndvol.hdf5 import get, get_dataset
from ndvol.store.arrays import StoredArray
from ndvol.store.hdf5 import get_text, read_table

CONTENTS = "contents"
KINDS = ("images", "labels")


def read_contents(file: h5py.File) -> dict[str, Any]:
    """The contents of an ndvol file, see FORMAT.md.

    Raises
    ------
    DamageError : when they cannot be read.
    """
    return stored_contents(file) if has_contents(file) else describe(file)


def has_contents(file: h5py.File) -> bool:
    """Whether contents are written down; in formats 1.0 and 1.1 they are not."""
    written: bool = file.id.links.exists(CONTENTS.encode())
    return written


def stored_contents(file: h5py.File) -> dict[str, Any]:
    """The contents that are written down in the file."""
    try:
        contents = json.loads(read_table(file, CONTENTS).tobytes())
    except ValueError as error:
        raise DamageError(f"{CONTENTS!r} in {file.filename} is no JSON", got=error, path=file.filename) from error
    if not isinstance(contents, dict):
        raise DamageError(f"{CONTENTS!r} in {file.filename} is no table", got=type(contents), path=file.filename)
    return contents


def describe(file: h5py.File) -> dict[str, Any]:
    """The contents that the objects of a file add up to."""
    volumes = {kind: {n: _describe_volume(file, f"{kind}/{n}") for n in get(file, kind)} for kind in KINDS}
    return {"case": get_text(file, "case"), **volumes}


def _describe_volume(file: h5py.File, path: str) -> dict[str, Any]:
    group = get(file, path)
    levels = sorted(int(n) for n in group if n.isdecimal())
    if levels != list(range(max(1, len(levels)))):
        raise StoreError(f"{path!r} in {file.filename} has other levels than 0, 1, 2 …", got=levels)
    tables = ("reorientation", "attributes", *(["categories"] if path.startswith("labels/") else []))
    return {
        **{name: get_text(group, name) for name in ("axes", "frame", "unit")},
        "affine": np.asarray(group.attrs["affine"]).tolist(),
        **{name: json.loads(get_text(group, name)) for name in tables},
        "levels": [StoredArray.of(get_dataset(file, f"{path}/{n}")).to_json() for n in levels],
    }


def same_contents(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two contents say the same; as texts, since a number that is none is not equal to itself."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
