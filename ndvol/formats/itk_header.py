"""What a header of NRRD or MetaImage comes to, in the words of this package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.errors import SourceError
from ndvol.formats.bulk import Layout
from ndvol.geometry import Grid

CANONICAL_AXES = "tczyx"
MAX_HEADER = 2**22
"""Bytes read of a text header; real ones, with a name per slice and segment, stay far below."""
MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3}
MM_PER_UNIT |= {"microns": 1e-3, "micrometer": 1e-3, "millimeters": 1.0, "meter": 1000.0, "nm": 1e-6}
MM_PER_UNIT |= {"micrometers": 1e-3, "μm": 1e-3, "nanometer": 1e-6, "nanometers": 1e-6}


@dataclass(frozen=True, slots=True)
class Text:
    """A header as text.

    Attributes
    ----------
    fields : lower-case field -> value.
    pairs : key/value pairs that are the writer's own (NRRD only).
    names : of detached data files, as the header has them; empty when the voxels follow in the same file.
    end : offset of the first byte after the header.
    """

    path: str
    fields: dict[str, str]
    names: tuple[str, ...]
    end: int
    pairs: dict[str, str] = field(default_factory=dict)

    def fault(self, what: str, got: object, *, code: str = "header", hint: str = "", expected: str = "") -> SourceError:
        """The error for a header that cannot be followed."""
        return SourceError(f"{self.path}: {what}", got=got, expected=expected or None, hint=hint, code=code)

    def numbers(self, name: str, count: int) -> NDArray[np.float64]:
        """The `count` numbers of a field."""
        try:
            values = np.array([float(word) for word in self.fields[name].split()])
        except ValueError:
            values = np.empty(0)
        if len(values) != count:
            raise self.fault(f"the field '{name}' needs {count} numbers", repr(self.fields[name][:100]))
        return values

    def lengths(self, name: str) -> list[int]:
        """The lengths of the axes, all at least 1."""
        try:
            sizes = [int(word) for word in self.fields.get(name, "").split()]
        except ValueError:
            sizes = []
        if not sizes or min(sizes) < 1:
            got = repr(self.fields.get(name, "")[:100])
            raise self.fault("declares an empty or impossible shape", got, code="shape")
        return sizes


@dataclass(frozen=True, slots=True)
class Head:
    """A header understood: where the voxels are, what they are, and where they lie.

    Attributes
    ----------
    file_axes, file_shape : names and lengths in the file's order, the fastest last (that of a C array).
    segments : value -> name for each layer of a segmentation; empty where the header describes no segments.
    """

    path: str
    layout: Layout
    file_axes: str
    file_shape: tuple[int, ...]
    grid: Grid
    modality: str = ""
    attributes: dict[str, float | int | str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    segments: tuple[dict[int, str], ...] = ()

    def canonical(self, flat: NDArray[Any]) -> NDArray[Any]:
        """The values in the storage order of the grid."""
        return flat.reshape(self.file_shape).transpose([self.file_axes.index(a) for a in self.grid.axes])


def canonical_axes(names: str, sizes: list[int]) -> tuple[str, tuple[int, ...]]:
    """Axes and shape in storage order, from any order.

    >>> canonical_axes("cxyz", [3, 30, 20, 10])
    ('czyx', (3, 10, 20, 30))
    """
    axes = "".join(a for a in CANONICAL_AXES if a in names)
    return axes, tuple(sizes[names.index(a)] for a in axes)


def placed_grid(axes: str, shape: tuple[int, ...], columns: ArrayLike, origin: ArrayLike, frame: str) -> Grid:
    """The grid from one world vector per spatial axis, fastest axis (x) first, in mm."""
    steps = np.asarray(columns, np.float64)
    n = len(steps)
    affine = np.eye(n + 1)
    affine[:n, :n] = steps[::-1].T
    affine[:n, n] = origin
    return Grid(axes, shape, affine, frame, "mm")
