"""Arrays of other libraries from a volume: SimpleITK, nibabel, dask and xarray.

All voxels and the whole grid go over, or an error says why not. `to_sitk` and `to_nibabel` read the volume at once;
`to_dask` and `to_xarray` are lazy and need the extras ``ndvol[dask]`` and ``ndvol[xarray]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GridError
from ndvol.geometry import Grid, chunk_shape
from ndvol.volumes import Volume

if TYPE_CHECKING:
    import dask.array
    import nibabel
    import SimpleITK
    import xarray

__all__ = ["plain_array", "sitk_geometry", "to_dask", "to_nibabel", "to_sitk", "to_xarray"]

_MM = {"mm": 1.0, "um": 1e-3, "unknown": 1.0}
_BLOCK_BYTES = 32 * 2**20
"""Upper size of a dask block: some ten to a hundred ms of work, beside which dask's own ~1 ms a task is little."""


def to_sitk(volume: Volume) -> SimpleITK.Image:
    """The volume as a SimpleITK image; its world is LPS mm, which is ITK's own.

    Axis c becomes the components of a vector pixel, t the fourth dimension (spacing 1). The axes keep their order, so
    ``SimpleITK.GetArrayViewFromImage`` is the volume's array, with c last. A world in µm becomes mm, and
    unknown steps count as mm; bool becomes uint8 and float16 float32, since ITK has neither.

    Raises
    ------
    GridError : without the axes y and x; with t over pictures.

    >>> from ndvol.volumes import ArraySource
    >>> grid = Grid.regular("zyx", (2, 3, 4), spacing=(5, 1, 0.5), origin=(10, 20, 30))
    >>> image = to_sitk(Volume("CT", grid, ArraySource(np.zeros((2, 3, 4), np.int16))))
    >>> image.GetSize(), image.GetSpacing(), image.TransformIndexToPhysicalPoint((2, 0, 1))
    ((4, 3, 2), (0.5, 1.0, 5.0), (11.0, 20.0, 35.0))
    """
    import SimpleITK

    grid, n = volume.grid, len(volume.grid.spatial)
    if volume.axes.replace("c", "") not in ("yx", "zyx", "tzyx"):
        raise GridError(
            f"volume {volume.name!r} has no form as a SimpleITK image", got=volume.axes, expected="yx, zyx, tzyx, and c"
        )
    array = plain_array(volume)
    if "c" in volume.axes:
        array = np.moveaxis(array, volume.axes.index("c"), -1)
    image = SimpleITK.GetImageFromArray(array, isVector="c" in volume.axes)
    # Time goes on by 1 from 0, and has a direction of its own.
    size = image.GetDimension()
    geometry = sitk_geometry(grid)
    direction = np.eye(size)
    direction[:n, :n] = np.reshape(geometry[2], (n, n))
    image.SetSpacing(geometry[0] + (1.0,) * (size - n))
    image.SetOrigin(geometry[1] + (0.0,) * (size - n))
    image.SetDirection(direction.ravel().tolist())
    return image


def sitk_geometry(grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing, origin and direction of the spatial axes as SimpleITK has them: x first, in mm."""
    scale = _MM[grid.unit]
    # ITK counts x first, and the columns of its direction with it; its world is x, y, z as ours.
    direction = tuple(grid.direction[:, ::-1].ravel().tolist())
    return tuple(scale * s for s in grid.spacing[::-1]), tuple(scale * o for o in grid.origin), direction


def to_nibabel(volume: Volume) -> nibabel.Nifti1Image:
    """The volume as a NIfTI-1 image in memory: axes x, y, z, then t, then c; affine to RAS mm.

    The affine is the sform, since a qform cannot hold a shear; its code is the volume's attribute ``sform_code`` or
    ``qform_code``, else 1 (scanner). The attribute ``t_spacing_s`` becomes the time step.

    Raises
    ------
    GridError : when the grid is not in the patient's frame.

    >>> from ndvol.volumes import ArraySource
    >>> grid = Grid.regular("zyx", (2, 3, 4), spacing=(5, 1, 0.5), origin=(10, 20, 30))
    >>> image = to_nibabel(Volume("CT", grid, ArraySource(np.zeros((2, 3, 4), np.int16))))
    >>> image.shape, image.affine.diagonal().tolist(), image.affine[:3, 3].tolist()
    ((4, 3, 2), [-0.5, -1.0, 5.0, 1.0], [-10.0, -20.0, 30.0])
    """
    import nibabel

    affine = volume.grid.nifti_affine
    array = plain_array(volume)
    if "c" in volume.axes and "t" not in volume.axes:
        # NIfTI's fifth axis is the vector's; the fourth is always time.
        array = array[None]
    lead = array.ndim - 3
    array = array.transpose(*range(array.ndim - 1, lead - 1, -1), *range(lead))
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    facts = volume.attributes
    image.set_sform(affine, code=facts.get("sform_code") or facts.get("qform_code") or 1)
    image.header.set_xyzt_units("mm")
    if "t" in volume.axes and "t_spacing_s" in facts:
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = facts["t_spacing_s"]
    return image


def to_dask(volume: Volume) -> dask.array.Array:
    """The volume as a lazy dask array, whose blocks are whole chunks of the file: none is decoded for two of them.

    A block has up to 32 MiB. It can be computed by threads and, for a stored volume, by other processes.
    """
    import dask.array

    chunk = getattr(volume.source, "chunk", None) or chunk_shape(volume.axes, volume.shape)
    blocks = _whole_chunks(volume.shape, chunk, volume.dtype.itemsize)
    # Volumes know numpy's basic indexing only (fancy=False), and their reads need no lock.
    meta = np.empty((0,) * volume.ndim, volume.dtype)
    return dask.array.from_array(volume, blocks, name=False, fancy=False, asarray=False, meta=meta)


def to_xarray(volume: Volume) -> xarray.DataArray:
    """The volume as a lazy `xarray.DataArray` with the axes' names, and coordinates in mm where there are any.

    Axis z has the world's z as its coordinate when that depends on the index along z alone; so do y and x. On an
    oblique grid it does not, and the axis has no coordinate rather than a wrong one. The attributes hold the whole
    grid: ``affine`` (storage order to world, row by row), ``frame`` and ``unit``.

    >>> from ndvol.volumes import ArraySource
    >>> grid = Grid.regular("zyx", (2, 3, 4), spacing=(5, 1, 0.5), origin=(10, 20, 30))
    >>> array = to_xarray(Volume("CT", grid, ArraySource(np.arange(24).reshape(2, 3, 4))))  # doctest: +SKIP
    >>> array.sel(z=35, x=11).values.tolist()                                               # doctest: +SKIP
    [14, 18, 22]
    """
    import xarray

    grid = volume.grid
    attributes = {"affine": grid.affine.ravel().tolist(), "frame": grid.frame, "unit": grid.unit}
    array = xarray.DataArray(to_dask(volume), dims=list(grid.axes), name=volume.name, attrs=attributes)
    return array.assign_coords(_coordinates(grid))


def _whole_chunks(shape: Sequence[int], chunk: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The shape of blocks of whole chunks: the shortest side is doubled as long as a block stays small enough."""
    block = [min(c, max(1, n)) for c, n in zip(chunk, shape, strict=True)]
    while shorter := [i for i, n in enumerate(shape) if block[i] < n]:
        i = min(shorter, key=block.__getitem__)
        if 2 * prod(block) * itemsize > _BLOCK_BYTES:
            break
        block[i] *= 2
    return tuple(block)


def _coordinates(grid: Grid) -> dict[str, Any]:
    """By spatial axis the world coordinate of the same name, where the index along that axis alone makes it."""
    names = [grid.axes[i] for i in grid.spatial]
    coordinates = {}
    for k, name in enumerate(names):
        # The world's order is x, y, z: that of the names reversed.
        row = grid.affine[len(names) - 1 - k]
        if np.count_nonzero(row[:-1]) == 1 and row[k]:
            scale = _MM[grid.unit]
            values = (row[-1] + row[k] * np.arange(grid.shape[grid.spatial[k]])) * scale
            coordinates[name] = (name, values, {"units": "mm"} if grid.unit != "unknown" else {})
    return coordinates


def plain_array(volume: Volume) -> NDArray[Any]:
    """The whole volume in a type that ITK and NIfTI have."""
    array = np.asarray(volume)
    other = {"bool": np.uint8, "float16": np.float32}.get(array.dtype.name)
    return array if other is None else array.astype(other)
