"""Tiles: pieces of a cutting plane, small whatever the size of the volume, as bytes for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window
from ndvol.geometry.grid import SPATIAL_AXES
from ndvol.volumes import LabelVolume, Volume

TILE = 256
"""Samples of a tile's side: 128 KiB of int16, and eight 32^3 chunks a side."""
MAX_STEP = 1024
"""Voxels from one sample to the next; planes of 2^18 voxels a side still fit a screen."""
BAND_VOXELS = 2**20
"""Voxels read at once on the way to a tile whose samples lie apart; one row of them where that is longer."""

_WIRE = {"u1": "uint8", "b1": "uint8", "i1": "int8", "u2": "uint16", "i2": "int16"}


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a tile lies.

    Attributes
    ----------
    across : the axis along which the planes follow each other; empty where the volume is a single plane.
    at : the plane's index on that axis, in voxels of the level.
    number : row and column among the tiles of the plane.
    steps : voxels of the level that a sample stands for, along rows and columns; it is the one in their middle.
    others : index on the axes t and c.
    level : pyramid level.
    """

    across: str
    at: int
    number: tuple[int, int]
    steps: tuple[int, int]
    others: Mapping[str, int]
    level: int = 0


def plane_axes(axes: str, across: str) -> tuple[str, str]:
    """The axes of a plane's tiles, rows before columns: always in storage order, however the plane is drawn.

    >>> plane_axes("tzyx", "y"), plane_axes("cyx", "")
    (('z', 'x'), ('y', 'x'))
    """
    rows, columns = (a for a in axes if a in SPATIAL_AXES and a != across)
    return rows, columns


def is_colour(volume: Volume) -> bool:
    """True for an image whose c axis is red, green and blue (and transparency), to be shown as it is."""
    return "c" in volume.axes and volume.shape[volume.axes.index("c")] in (3, 4) and volume.dtype == np.uint8


def wire_type(volume: Volume) -> str:
    """The type in which tiles of `volume` travel: its own where a browser can window it quickly, else float32.

    Labels travel as 0 for background and 1, 2, … for the values in the order of `label_values`; one more says that
    the table of the volume does not name the value.
    """
    if isinstance(volume, LabelVolume):
        return "uint8" if len(volume.categories) < 255 else "uint16"
    return _WIRE.get(volume.dtype.str[1:], "float32")


def label_values(volume: LabelVolume) -> list[int]:
    """The values that a label volume names, ascending."""
    return sorted(volume.categories)


def read_tile(volume: Volume, tile: Tile) -> NDArray[Any]:
    """The samples of a tile as (rows, columns), with (red, green, blue) last for `is_colour`; cut at the border.

    Raises
    ------
    WindowError : for a level that is not there. DamageError : when the stored bytes are not those written.
    """
    shape = dict(zip(volume.axes, volume.level_grid(tile.level).shape, strict=True))
    axes = plane_axes(volume.axes, tile.across)
    rows, columns = (
        _samples(shape[axis], number, step) for axis, number, step in zip(axes, tile.number, tile.steps, strict=True)
    )
    colour = is_colour(volume)
    out = np.zeros((len(rows), len(columns), *((3,) if colour else ())), volume.dtype)
    if not out.size:
        return _for_the_wire(volume, out)
    width = int(columns[-1] - columns[0]) + 1
    band = max(1, BAND_VOXELS // (width * tile.steps[0]))
    for first in range(0, len(rows), band):
        part = rows[first : first + band]
        spans = {axis: (tile.others.get(axis, tile.at), 1) for axis in volume.axes}
        if colour:
            spans["c"] = (0, 3)
        spans |= {axes[0]: (int(part[0]), int(part[-1] - part[0]) + 1), axes[1]: (int(columns[0]), width)}
        window = Window(tuple(spans[a][0] for a in volume.axes), tuple(spans[a][1] for a in volume.axes))
        voxels = volume.read(window, level=tile.level)
        kept = [n for a, n in zip(volume.axes, window.shape, strict=True) if a in axes or (colour and a == "c")]
        plane = voxels.reshape(kept)
        plane = np.moveaxis(plane, 0, -1) if colour else plane
        out[first : first + band] = plane[part - part[0]][:, columns - columns[0]]
    return _for_the_wire(volume, out)


def _samples(length: int, number: int, step: int) -> NDArray[np.int64]:
    """Indices of the samples of tile `number` along an axis."""
    numbers = np.arange(number * TILE, min((number + 1) * TILE, -(-length // step)))
    # One that stands for a block cut at the border is the block's last voxel.
    return np.minimum(numbers * step + step // 2, length - 1)


def _for_the_wire(volume: Volume, samples: NDArray[Any]) -> NDArray[Any]:
    """Samples in the type of `wire_type`, little endian."""
    wire = np.dtype(wire_type(volume)).newbyteorder("<")
    if not isinstance(volume, LabelVolume):
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(samples, wire)
    values = np.array(label_values(volume) or [0], samples.dtype if samples.dtype.kind != "b" else np.uint8)
    samples = samples.astype(values.dtype)
    found = np.searchsorted(values, samples).clip(max=len(values) - 1)
    named = np.where(values[found] == samples, found + 1, len(volume.categories) + 1)
    return np.where(samples == 0, 0, named).astype(wire)
