"""What the exports that write files case by case share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ndvol.catalog import Catalog
from ndvol.errors import GridError, NdvolError, OptionError, StoreError
from ndvol.geometry import Reorientation
from ndvol.volumes import ArraySource, Case, Volume

Refused = dict[str, NdvolError]
"""Why a case could not be written, by case."""


def each_case(catalog: Catalog, root: Path, write: Callable[[str, Case, Path], None], progress: bool) -> Refused:
    """Write every case; what cannot be written is noted, and the others go on.

    Raises
    ------
    StoreError : when `root` is not empty, or cannot be written.
    """
    refused: Refused = {}
    try:
        if root.is_dir() and any(root.iterdir()):
            raise StoreError(f"{root} is not empty", hint="export into another folder, or empty it first")
        for name in tqdm(catalog, unit="case", disable=None if progress else True):
            try:
                write(name, catalog[name], root)
            except (GridError, OptionError) as error:
                refused[name] = error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError.from_os(error, root) from error
    return refused


def as_source(volume: Volume) -> Volume:
    """The volume in memory, in the order and direction of axes that its source had."""
    array, grid = np.asarray(volume), volume.grid
    if turn := volume.attributes.get("reorientation"):
        back = Reorientation(tuple(turn["order"]), tuple(turn["flips"])).inverse()
        array, grid = np.ascontiguousarray(back.array(array, axes=volume.axes)), back.grid(grid)
    return Volume(volume.name, grid, ArraySource(array))


def put(path: Path, data: bytes) -> None:
    """A file that is whole or not there, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def put_json(path: Path, value: Any) -> None:
    """`value` as JSON, by `put`."""
    put(path, json.dumps(value, ensure_ascii=False, indent=1).encode())
