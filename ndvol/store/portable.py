"""A volume as an HDF5 file that ITK (3D Slicer) and VTK (ParaView) open, each by its own layout.

ITK reads ``/ITKImage/0`` (itkHDF5ImageIO), VTK ``/VTKHDF`` (its specification of the type ImageData). Both name the
same data set of voxels.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError
from ndvol.geometry import Grid, chunk_shape
from ndvol.store.chunked import ChunkedDataset
from ndvol.store.codec import CODECS
from ndvol.store.publishing import compare_written, new_file
from ndvol.volumes import Volume

_ITK_TYPES = {
    "int8": "CHAR",
    "uint8": "UCHAR",
    "int16": "SHORT",
    "uint16": "USHORT",
    "int32": "INT",
    "uint32": "UINT",
    "int64": "LONG",
    "uint64": "ULONG",
    "float32": "FLOAT",
    "float64": "DOUBLE",
}


def write_portable(path: str | Path, volume: Volume) -> None:
    """Write the volume, whole or not at all; the same voxels and grid make the same bytes.

    The voxels are one data set in the order t, z, y, x, c with gzip, byte shuffle and Fletcher-32, linked hard as
    ``/ITKImage/0/VoxelData`` and ``/VTKHDF/PointData/<name>``. Only where an axis other than c has length 1 there are
    two: ITK counts it, VTK does not. A lone c axis is left out. Time is ITK's last axis, with the spacing 1, and VTK's
    steps 0, 1, 2 …; spacing, origin and direction are the grid's own.

    Raises
    ------
    OptionError : for a type of voxels that ITK does not have. StoreError : when the file cannot be written.
    """
    if volume.dtype.name not in _ITK_TYPES:
        raise OptionError(f"volume {volume.name!r} is of a type that ITK does not read", got=volume.dtype)
    grid = volume.grid
    axes = grid.axes.replace("c", "")
    array = _components_last(volume)
    written: list[ChunkedDataset] = []
    with new_file(Path(path), partial(compare_written, written)) as file:
        group = _itk_group(file, axes, grid, volume.dtype)
        written.append(_put(group, "VoxelData", axes, array))
        points = _vtk_group(file, axes, grid, volume.name)
        longer = "".join(a for a, n in zip(axes, array.shape, strict=False) if n > 1)
        if longer == axes:
            points[volume.name] = group["VoxelData"]
        else:
            # VTK wants one spatial axis at least.
            own = longer if longer.strip("t") else longer + "x"
            lengths = [array.shape[axes.index(a)] for a in own]
            written.append(_put(points, volume.name, own, array.reshape(*lengths, *array.shape[len(axes) :])))
        points[volume.name].attrs["Attribute"] = np.bytes_("Scalars")


def _components_last(volume: Volume) -> NDArray[Any]:
    """The voxels with c last, or without it where it is alone."""
    array = np.asarray(volume)
    if "c" not in volume.axes:
        return array
    at = volume.axes.index("c")
    return array.squeeze(at) if array.shape[at] == 1 else np.moveaxis(array, at, -1)


def _put(group: h5py.Group, name: str, axes: str, array: NDArray[Any]) -> ChunkedDataset:
    """The voxels over `axes`, and components after them."""
    n = len(axes)
    chunk = (*chunk_shape(axes, array.shape[:n]), *array.shape[n:])
    dataset = ChunkedDataset(group, name, array.shape, array.dtype, chunk, CODECS["portable"][0], fill=None)
    dataset.put((0,) * array.ndim, array)
    return dataset


def _itk_group(file: h5py.File, axes: str, grid: Grid, dtype: np.dtype[Any]) -> h5py.Group:
    """``/ITKImage/0`` but for the voxels; ITK counts x first, and the rows of its directions are the axes'."""
    group = file.create_group("ITKImage/0")
    group.create_group("MetaData")
    n, size = len(grid.spatial), len(axes)
    lengths = dict(zip(grid.axes, grid.shape, strict=True))
    directions = np.eye(size)
    directions[:n, :n] = grid.direction[:, ::-1].T
    facts = {
        "Dimension": np.array([lengths[a] for a in axes[::-1]], np.uint64),
        "Directions": directions,
        "Origin": np.array([*grid.origin, *[0.0] * (size - n)]),
        "Spacing": np.array([*grid.spacing[::-1], *[1.0] * (size - n)]),
        "VoxelType": np.array([_ITK_TYPES[dtype.name].encode()]),
    }
    for name, value in facts.items():
        group.create_dataset(name, data=value, chunks=value.shape, fletcher32=True)
    return group


def _vtk_group(file: h5py.File, axes: str, grid: Grid, name: str) -> h5py.Group:
    """``/VTKHDF``, with the group for the voxels, which is returned; VTK has three spatial axes, x first."""
    group = file.create_group("VTKHDF")
    n = len(grid.spatial)
    lengths = [*(grid.shape[i] for i in reversed(grid.spatial)), 1, 1][:3]
    steps = grid.shape[0] if axes.startswith("t") else 1
    direction = np.eye(3)
    direction[:n, :n] = grid.direction[:, ::-1]
    attributes = {
        # Steps need version 2; what is still is for readers of version 1, too.
        "Version": np.array([2 if steps > 1 else 1, 0], np.int64),
        "Type": np.bytes_("ImageData"),
        "WholeExtent": np.array([end for length in lengths for end in (0, length - 1)], np.int64),
        "Origin": np.array([*grid.origin, 0.0, 0.0][:3]),
        "Spacing": np.array([*grid.spacing[::-1], 1.0, 1.0][:3]),
        "Direction": direction.ravel(),
    }
    group.attrs.update(attributes)
    if steps > 1:
        times = group.create_group("Steps")
        times.attrs["NSteps"] = np.int64(steps)
        times["Values"] = np.arange(steps, dtype=np.float64)
        times.create_group("PointDataOffsets")[name] = np.arange(steps, dtype=np.int64)
    return group.create_group("PointData")
