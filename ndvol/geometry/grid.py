"""Grid: axes, shape, affine, frame and unit of a volume, always changed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from operator import index as as_int
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.errors import GridError
from ndvol.geometry.window import Window

CANONICAL_AXES = "tczyx"
SPATIAL_AXES = "zyx"
FRAMES = ("LPS", "LOCAL")
UNITS = ("mm", "um", "unknown")

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's world (x right, y anterior) to DICOM's (x left, y posterior): PS3.3 C.7.6.2, nifti1.h METHOD 2/3."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of a volume lie.

    Attributes
    ----------
    axes : names in storage order, a subsequence of ``tczyx``.
    shape : voxels per axis, in storage order.
    affine : float64 (n+1, n+1) for n spatial axes; maps a storage-order index, e.g. (z, y, x), of a voxel's
        centre to the world point (x, y, z). Oblique and sheared columns are ordinary. Read-only.
    frame : ``LPS`` (patient, +x left, +y posterior, +z superior) or ``LOCAL``.
    unit : of the world, ``mm`` for LPS; ``unknown`` when the source does not state a spacing.

    Raises
    ------
    GridError : when these contradict each other; the message shows the numbers.

    >>> grid = Grid.regular("zyx", (10, 20, 30), spacing=(3, 1, 1), origin=(-15, -10, 0))
    >>> grid.spacing
    (3.0, 1.0, 1.0)
    >>> grid.world((1, 0, 2)).tolist()
    [-13.0, -10.0, 3.0]
    """

    axes: str
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    frame: str = "LPS"
    unit: str = "mm"

    def __post_init__(self) -> None:
        axes = "".join(self.axes)
        try:
            shape = tuple(as_int(n) for n in self.shape)
            # Changes of frame make -0.0, whose bytes would tell equal grids apart.
            affine = np.array(self.affine, np.float64) + 0.0
        except (TypeError, ValueError):
            raise GridError(
                "the shape must be integers and the affine numbers", got=f"{self.shape!r}, {self.affine!r}"
            ) from None
        affine.flags.writeable = False
        for name, value in (("axes", axes), ("shape", shape), ("affine", affine)):
            object.__setattr__(self, name, value)
        if [a for a in CANONICAL_AXES if a in axes] != list(axes):
            raise GridError("axes must be a subsequence of 'tczyx'", got=repr(axes))
        if len(shape) != len(axes) or min(shape, default=0) < 0:
            raise GridError("one length per axis is needed", got=f"shape {shape} for axes {axes!r}")
        n = len(self.spatial)
        if affine.shape != (n + 1, n + 1):
            raise GridError(
                f"the affine of axes {axes!r} must be {n + 1} x {n + 1}",
                got=f"{affine.shape}",
                hint="spatial axes only",
            )
        if not np.isfinite(affine).all() or not np.array_equal(affine[-1], [0.0] * n + [1.0]):
            raise GridError("the affine must be finite and end in the row 0 … 0 1", got=affine.tolist())
        if n and _is_singular(affine[:-1, :-1]):
            raise GridError("the affine is singular: two axes are parallel or one has no length", got=affine.tolist())
        if self.frame not in FRAMES or self.unit not in UNITS:
            raise GridError(
                "unknown frame or unit", got=f"{self.frame!r}, {self.unit!r}", expected=f"{FRAMES}, {UNITS}"
            )
        if self.frame == "LPS" and (n != 3 or self.unit != "mm"):
            raise GridError("the LPS frame needs the axes z, y, x and mm", got=f"axes {axes!r}, unit {self.unit!r}")

    @classmethod
    def regular(
        cls,
        axes: str,
        shape: Sequence[int],
        *,
        spacing: Sequence[float] | None = None,
        origin: Sequence[float] | None = None,
        frame: str | None = None,
        unit: str | None = None,
    ) -> Self:
        """An axis-aligned grid.

        Parameters
        ----------
        spacing : per spatial axis in storage order; None means unit steps of an ``unknown`` unit.
        origin : world point (x, y, z) of voxel 0's centre; zeros by default.
        frame : by default LPS when the axes hold z, y and x and the spacing is given in mm, else LOCAL.
        unit : by default ``mm`` when a spacing is given, else ``unknown``.
        """
        spatial = [a for a in axes if a in SPATIAL_AXES]
        n = len(spatial)
        unit = unit or ("unknown" if spacing is None else "mm")
        frame = frame or ("LPS" if n == 3 and unit == "mm" else "LOCAL")
        steps = (1.0,) * n if spacing is None else tuple(float(s) for s in spacing)
        if len(steps) != n or min(steps, default=1.0) <= 0:
            raise GridError("one positive spacing per spatial axis is needed", got=f"{steps} for axes {axes!r}")
        if origin is not None and len(origin) != n:
            raise GridError("one origin coordinate per spatial axis is needed", got=f"{origin} for axes {axes!r}")
        affine = np.eye(n + 1)
        # Storage order runs from the slowest axis to the fastest, world order from x on: an anti-diagonal.
        affine[:n, :n] = np.diag(steps)[::-1]
        affine[:n, n] = np.zeros(n) if origin is None else origin
        return cls(axes, tuple(shape), affine, frame, unit)

    @classmethod
    def from_nifti(cls, axes: str, shape: Sequence[int], affine: ArrayLike) -> Self:
        """The grid of a NIfTI image whose `affine` maps (x, y, z) to RAS mm; `shape` is in storage order."""
        ras = np.asarray(affine, np.float64)
        if ras.shape != (4, 4):
            raise GridError("a NIfTI affine must be 4 x 4", got=f"{ras.shape}")
        return cls(axes, tuple(shape), (LPS_FROM_RAS @ ras)[:, [2, 1, 0, 3]])

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Positions of the spatial axes in `axes`."""
        return tuple(i for i, a in enumerate(self.axes) if a in SPATIAL_AXES)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxel centres per spatial axis, storage order, in `unit`."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    @property
    def origin(self) -> tuple[float, ...]:
        """World point (x, y, z) of voxel 0's centre."""
        return tuple(float(v) for v in self.affine[:-1, -1])

    @property
    def direction(self) -> NDArray[np.float64]:
        """The unit columns of the affine, one per spatial axis in storage order."""
        return _unit_columns(self.affine[:-1, :-1])

    @property
    def nifti_affine(self) -> NDArray[np.float64]:
        """4 x 4, maps (x, y, z) to RAS mm: the affine of nibabel and NIfTI. Needs the LPS frame."""
        if self.frame != "LPS":
            raise GridError("a NIfTI affine needs patient coordinates", got=f"frame {self.frame}", expected="LPS")
        return np.asarray(LPS_FROM_RAS @ self.affine[:, [2, 1, 0, 3]])

    @property
    def ras_affine(self) -> NDArray[np.float64]:
        """4 x 4, maps a storage-order index (z, y, x) to RAS mm: what MONAI expects beside a (c, z, y, x)
        tensor. A grid that is not in the patient's frame keeps its own world."""
        return np.asarray(LPS_FROM_RAS @ self.affine) if self.frame == "LPS" else self.affine.copy()

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World points of spatial indices; shape (..., n) in storage order to (..., n) in x, y, z."""
        points = np.asarray(index, np.float64)
        return np.asarray(points @ self.affine[:-1, :-1].T + self.affine[:-1, -1])

    def index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Continuous spatial indices of world points; the inverse of `world`."""
        offset = np.asarray(world, np.float64) - self.affine[:-1, -1]
        return np.asarray(np.linalg.solve(self.affine[:-1, :-1], offset[..., None])[..., 0])

    def crop(self, window: Window) -> Grid:
        """The grid of the patch that `window` reads; the window may leave the volume."""
        if window.ndim != self.ndim:
            raise GridError(
                "the window has another number of axes than the grid",
                got=f"window {window.start} + {window.shape}",
                expected=f"axes {self.axes!r}",
            )
        affine = self.affine.copy()
        affine[:-1, -1] = self.world([window.start[i] for i in self.spatial])
        return Grid(self.axes, window.shape, affine, self.frame, self.unit)

    def flip(self, axis: int) -> Grid:
        """The grid of ``np.flip(volume, axis)``; a flipped non-spatial axis leaves the affine alone.

        A negative `axis` counts from the last, as in numpy.
        """
        if not -self.ndim <= axis < self.ndim:
            raise GridError("the grid has no such axis", got=axis, expected=f"an axis of {self.axes!r}")
        axis %= self.ndim
        affine = self.affine.copy()
        if axis in self.spatial:
            k = self.spatial.index(axis)
            affine[:-1, -1] += affine[:-1, k] * (self.shape[axis] - 1)
            affine[:-1, k] *= -1.0
        return Grid(self.axes, self.shape, affine, self.frame, self.unit)

    def permute(self, order: Sequence[int]) -> Grid:
        """The grid of the volume with its spatial axes in another order.

        `order` is a permutation of 0 … n-1 over the n spatial axes. The names stay in place (z, y, x are
        positions in storage, not directions of the body); shape and affine columns move.
        """
        n = len(self.spatial)
        if sorted(order) != list(range(n)):
            raise GridError("not a permutation of the spatial axes", got=tuple(order), expected=f"of {list(range(n))}")
        shape = list(self.shape)
        for position, source in zip(self.spatial, order, strict=True):
            shape[position] = self.shape[self.spatial[source]]
        return Grid(self.axes, tuple(shape), self.affine[:, [*order, n]], self.frame, self.unit)

    def matches(self, other: Grid, *, tolerance: float = 1e-3) -> bool:
        """True when both put every voxel of the spatial box in the same place.

        The corners are compared in world units, to within `tolerance` of the smallest spacing.
        """
        same = (self.frame, [self.shape[i] for i in self.spatial]) == (
            other.frame,
            [other.shape[i] for i in other.spatial],
        )
        if not same:
            return False
        corners = np.array(list(product(*((0, self.shape[i] - 1) for i in self.spatial))), np.float64)
        distance = np.abs(self.world(corners) - other.world(corners)).max(initial=0.0)
        return bool(distance <= tolerance * min(self.spacing, default=1.0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        # Arrays come out of a pickle writeable; the constructor locks the affine again.
        return type(self), (self.axes, self.shape, self.affine, self.frame, self.unit)

    def _key(self) -> tuple[Any, ...]:
        return self.axes, self.shape, self.affine.tobytes(), self.frame, self.unit


def _is_singular(matrix: NDArray[np.float64]) -> bool:
    # Entries near the ends of float64 over- or underflow on the way to a determinant of 0 or nan.
    with np.errstate(all="ignore"):
        return not abs(np.linalg.det(_unit_columns(matrix))) >= 1e-6


def _unit_columns(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(lengths > 0, lengths, 1.0)
