"""What the exports that write files case by case share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tqdm import tqdm

from ndvol.catalog import Catalog
from ndvol.errors import GridError, NdvolError, OptionError, SourceError, StoreError
from ndvol.geometry import Grid, Reorientation
from ndvol.selection import MM_PER_UNIT
from ndvol.volumes import ArraySource, Case, Volume

Refused = dict[str, NdvolError]
"""Why a case could not be written, by case."""


def each_case(catalog: Catalog, root: Path, write: Callable[[str, Case, Path], None], progress: bool) -> Refused:
    """Write every case, under a name that is fit for a file; what cannot be written is noted, and the others go on.

    Raises
    ------
    StoreError : when `root` is not empty, or cannot be written.
    """
    refused: Refused = {}
    names: set[str] = set()
    try:
        if root.is_dir() and any(root.iterdir()):
            raise StoreError(f"{root} is not empty", hint="export into another folder, or empty it first")
        for name in tqdm(catalog, unit="case", disable=None if progress else True):
            try:
                write(file_name(name, names), catalog[name], root)
            except (GridError, OptionError, SourceError) as error:
                refused[name] = error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError.from_os(error, root) from error
    return refused


def file_name(name: str, used: set[str]) -> str:
    """A file name for a case, of its own among `used`, where it is added.

    >>> used: set[str] = set()
    >>> [file_name(name, used) for name in ("case-1", "../case 1", "Case-1")]
    ['case-1', 'case-1-2', 'Case-1-3']
    """
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "case"
    tries = chain([plain], (f"{plain}-{k}" for k in count(2)))
    found = next(n for n in tries if n.casefold() not in used)
    used.add(found.casefold())
    return found


def source_grid(volume: Volume) -> Grid:
    """The grid in the order and direction of axes that the volume's source had."""
    return _way_back(volume).grid(volume.grid)


def as_source(volume: Volume) -> Volume:
    """The volume in memory, in the order and direction of axes that its source had."""
    array = np.ascontiguousarray(_way_back(volume).array(np.asarray(volume), axes=volume.axes))
    attributes = {name: fact for name, fact in volume.attributes.items() if name != "reorientation"}
    return Volume(volume.name, source_grid(volume), ArraySource(array), attributes)


def _way_back(volume: Volume) -> Reorientation:
    n = len(volume.grid.spatial)
    turn = volume.attributes.get("reorientation") or {"order": range(n), "flips": [False] * n}
    return Reorientation(tuple(turn["order"]), tuple(turn["flips"])).inverse()


def renumbered(
    array: NDArray[Any], categories: Mapping[int, str], numbers: Mapping[str, int], dtype: DTypeLike
) -> NDArray[Any]:
    """Labels whose values mean `categories`, with the `numbers` of these; 0 stays 0.

    Raises
    ------
    OptionError : for a value without a category.

    >>> renumbered(np.array([0, 7, -1]), {7: "cyst", -1: "organ"}, {"organ": 1, "cyst": 2}, np.uint8)
    array([0, 2, 1], dtype=uint8)
    """
    info = np.iinfo(array.dtype)
    known = sorted({0, *(value for value in categories if info.min <= value <= info.max)})
    values = np.array(known, array.dtype)
    places = np.searchsorted(values, array).clip(max=len(values) - 1)
    if (strange := array[values[places] != array]).size:
        raise OptionError("a label volume holds a value without a category", got=strange[0], expected=f"one of {known}")
    rows = np.array([numbers[categories[value]] if value else 0 for value in known], dtype)
    return np.asarray(rows[places])


def in_mm(grid: Grid) -> Grid:
    """The grid with its world in mm; steps of an unknown unit stay as they are.

    >>> in_mm(Grid.regular("yx", (2, 3), spacing=(500, 250), unit="um")).spacing
    (0.5, 0.25)
    """
    if grid.unit not in MM_PER_UNIT:
        return grid
    affine = grid.affine.copy()
    affine[:-1] *= MM_PER_UNIT[grid.unit]
    return Grid(grid.axes, grid.shape, affine, grid.frame, "mm")


def put(path: Path, data: bytes) -> None:
    """A file that is whole or not there, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def put_json(path: Path, value: Any) -> None:
    """`value` as JSON, by `put`."""
    put(path, json.dumps(value, ensure_ascii=False, indent=1).encode())
