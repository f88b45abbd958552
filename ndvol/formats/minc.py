"""MINC 1 (NetCDF) and MINC 2 (HDF5) through nibabel."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import Minc1Image, Minc2Image
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.bulk import DEFLATE_RATIO, truncated
from ndvol.formats.itk_header import canonical_axes
from ndvol.formats.values import StoredRange, lossless_float32, volume_type
from ndvol.geometry import Grid
from ndvol.geometry.grid import LPS_FROM_RAS

# A file must not be able to name code to load as a filter; see the HDF5 documentation of the variable.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"
NETCDF_MAGICS = (b"CDF\x01", b"CDF\x02")
_SPATIAL = ("xspace", "yspace", "zspace")
_OTHERS = {"time": "t", "vector_dimension": "c"}


@dataclass(frozen=True, slots=True)
class MincHead:
    """What the header of one file says; `order` takes the file's axes to storage order."""

    grid: Grid
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    warnings: tuple[str, ...]


def is_minc(file: Path) -> bool:
    """By content: NetCDF, or HDF5 with the group ``minc-2.0``; what cannot be opened as HDF5 counts as damaged MINC."""
    with file.open("rb") as stream:
        magic = stream.read(8)
    if not magic.startswith(HDF5_MAGIC):
        return magic[:4] in NETCDF_MAGICS
    try:
        with _opened(file):
            return True
    except KeyError as error:
        return "minc-2.0" not in str(error)
    except Exception:  # whatever else is wrong with it is told when its header is read
        return True


def read_minc_head(path: str, file: Path) -> MincHead:
    """The header of `file`, which errors call `path`."""
    with _opened(file) as image:
        return _head(path, file, image)


def read_minc(path: str, file: Path) -> tuple[MincHead, NDArray[Any]]:
    """The header and the real values, in storage order."""
    with _opened(file) as image:
        head = _head(path, file, image)
        values = np.asarray(image.dataobj).transpose(head.order)
    if head.dtype.kind != "f":
        return head, np.rint(values).astype(head.dtype)
    return head, values.astype(head.dtype) if head.dtype == np.float32 else lossless_float32(values)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    with file.open("rb") as stream:
        is_hdf5 = stream.read(8) == HDF5_MAGIC
    if not is_hdf5:
        yield Minc1Image.from_filename(file)
        return
    _check_heaps(file)
    image = Minc2Image.from_filename(file)
    # nibabel keeps the handle, and publishes neither it nor the names of the dimensions.
    handle = image.dataobj.minc_file._mincfile
    try:
        yield image
    finally:
        handle.close()


def _check_heaps(file: Path) -> None:
    """Raise ValueError where objects of a global heap (HDF5 file format, III.E) do not fill it one after the other.

    HDF5 2.0 looks for the next object for ever where one has no length.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = -1
        while (start := data.find(_HEAP, start + 1)) >= 0:
            end = start + int.from_bytes(data[start + 8 : start + 16], "little")
            at = start + 16
            while at + 16 <= min(end, len(data)):
                index, size = (
                    int.from_bytes(data[at : at + 2], "little"),
                    int.from_bytes(data[at + 8 : at + 16], "little"),
                )
                # Object 0 is the free space at the end; its size counts its header.
                length = size if index == 0 else 16 + (size + 7) // 8 * 8
                if not 16 <= length <= end - at:
                    raise ValueError("its HDF5 heap is damaged")
                at += length


def _head(path: str, file: Path, image: Any) -> MincHead:
    minc = image.dataobj.minc_file
    names = [_OTHERS.get(n, n) for n in minc._dim_names]
    spatial = iter("zyx")
    letters = "".join(next(spatial, "?") if n in _SPATIAL else n if n in ("t", "c") else "?" for n in names)
    shape = [int(n) for n in image.shape]
    if "?" in letters or len(set(letters)) < len(letters) or "x" not in letters or len(letters) != len(shape):
        raise SourceError(f"{path} has axes that are not supported", got=list(minc._dim_names), code="axes")
    if min(shape) < 1:
        raise SourceError(f"{path} declares an empty or impossible shape", got=shape, code="shape")
    stored = np.dtype(minc.get_data_dtype())
    if stored.kind not in "iuf" or stored.itemsize > 8:
        raise SourceError(f"{path} holds voxels of type {stored}; not supported", code="voxel-type")
    size, needed = file.stat().st_size, prod(shape) * stored.itemsize
    if isinstance(image, Minc2Image):
        _refuse_outside(path, minc)
        size *= DEFLATE_RATIO
    if needed > size:
        raise truncated(path, f"{file.stat().st_size} bytes on disk", needed)
    axes, stored_shape = canonical_axes(letters, shape)
    # nibabel's affine takes the spatial axes in the file's order, slowest first, to RAS.
    grid = Grid(axes, stored_shape, LPS_FROM_RAS @ image.affine)
    warnings = ()
    if not all(hasattr(dim, "step") for dim, name in zip(minc._dims, minc._dim_names, strict=True) if name in _SPATIAL):
        raise SourceError(f"{path} does not state its spacing", hint="set `step` of every axis", code="geometry")
    return MincHead(grid, _value_type(minc, stored), tuple(letters.index(a) for a in axes), warnings)


def _refuse_outside(path: str, minc: Any) -> None:
    """Raise when the voxels or their ranges are not in the file itself: HDF5 can point to any file of the host."""
    for data in (minc._image, minc._image_min, minc._image_max):
        if data.file.id != minc._mincfile.id or getattr(data, "external", None) or getattr(data, "is_virtual", False):
            raise SourceError(
                f"{path} keeps its values in another file",
                hint="write it again as one file",
                code="path-escape",
            )


def _value_type(minc: Any, stored: np.dtype[Any]) -> np.dtype[Any]:
    """The type of the real values: ``image-min`` and ``image-max`` are those of the ends of the valid range."""
    native = stored.newbyteorder("=")
    if native.kind == "f":
        return native
    low, high = minc._get_valid_range()
    ends = [
        np.atleast_1d(np.asarray(minc._get_array(v) if minc._get_dimensions(v) else minc._get_scalar(v), np.float64))
        for v in (minc._image_min, minc._image_max)
    ]
    slopes = (ends[1] - ends[0]) / (high - low)
    inters = ends[0] - low * slopes
    pairs = np.unique(np.stack([slopes.ravel(), inters.ravel()], axis=1), axis=0)
    return volume_type(StoredRange(native, int(low), int(high), float(s), float(i)) for s, i in pairs)
