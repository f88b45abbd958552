"""Planes interpolated across gaps, and a sheared stack shifted onto an orthogonal grid. Nothing is extrapolated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GeometryError
from ndvol.geometry.grid import Grid
from ndvol.geometry.planes import ORIENTATION_TOLERANCE

SHEAR_PIXELS = 0.1
"""A shear that shifts no plane by more pixels than this is what rounded direction cosines leave."""
MOST_ENLARGED = 8
"""How many times as many voxels the orthogonal grid may have; a gantry tilted by 30 degrees needs less than three."""
WHOLE_PIXELS = 1e-3
"""A shift this close to whole pixels is one: the decimal strings of positions are rounded."""

Padding = tuple[float, float]
"""The value that stands for no measurement, and the other end of the range of such values (often the same)."""


def resample_planes(
    volume: NDArray[Any], axis: int, indices: Sequence[float], *, nearest: bool = False, padding: Padding | None = None
) -> NDArray[Any]:
    """The planes at 0, 1, 2 … ``indices[-1]``, linear between the two neighbours among planes at `indices`.

    A plane that lies at a whole index is kept as it is.

    Parameters
    ----------
    volume : its planes follow each other along `axis`.
    indices : where they lie, ascending from 0, the last one whole.
    nearest : take the nearer of the neighbours (the lower of two that are as near) and keep the type: for labels.
    padding : where one of two values to be mixed is of this range, the result is ``padding[0]``.

    Returns
    -------
    array : of the type that `blended_type` says, or the volume's for `nearest`; the caller owns it.

    >>> resample_planes(np.array([10, 20, 60], np.int16), 0, [0, 1, 3])
    array([10., 20., 40., 60.], dtype=float32)
    """
    planes = np.moveaxis(volume, axis, 0)
    at = np.asarray(indices, np.float64)
    shape = list(volume.shape)
    shape[axis] = int(at[-1]) + 1
    result = np.empty(shape, volume.dtype if nearest else blended_type(volume.dtype))
    out = np.moveaxis(result, axis, 0)
    for k in range(len(out)):
        low = int(np.searchsorted(at, k, side="right")) - 1
        if at[low] == k:
            out[k] = planes[low]
            continue
        weight = float((k - at[low]) / (at[low + 1] - at[low]))
        if nearest:
            out[k] = planes[low + (weight > 0.5)]
        else:
            out[k] = _blended(planes[low], planes[low + 1], weight, padding)
    return result


def repeat_planes(labels: NDArray[Any], axis: int, indices: Sequence[float]) -> NDArray[Any]:
    """Labels drawn on the planes at `indices`, each in the nearest plane of the volume, for every plane of it.

    Every plane of the result is that of the nearest of `indices` (the lowest of those that are as near).

    >>> repeat_planes(np.array([7, 8, 0, 9]), 0, [0, 1, 3])
    array([7, 8, 8, 9])
    """
    at = np.asarray(indices, np.float64)
    nearest = np.abs(at - np.arange(labels.shape[axis])[:, None]).argmin(1)
    return np.asarray(np.take(labels, np.rint(at).astype(int)[nearest], axis))


def blended_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float32, or float64 where float32 does not hold every value of `dtype`: no rounding but that of mixing.

    >>> blended_type(np.dtype(np.int16)), blended_type(np.dtype(np.int32))
    (dtype('float32'), dtype('float64'))
    """
    return np.dtype(np.result_type(np.float32, dtype))


def _blended(first: NDArray[Any], second: NDArray[Any], weight: float, padding: Padding | None) -> NDArray[np.float64]:
    """``first + weight * (second - first)`` in float64."""
    low = first.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities of a source give nan, as they must
        mixed = low + weight * (second - low)
    if padding is not None:
        empty = np.zeros(mixed.shape, bool)
        for values in (first, second):
            empty |= (values >= min(padding)) & (values <= max(padding))
        mixed[empty] = padding[0]
    return np.asarray(mixed)


@dataclass(frozen=True, slots=True)
class Deskew:
    """How the planes of a sheared stack move in their own plane until they lie straight above each other.

    Attributes
    ----------
    grid : orthogonal, with the planes, the pixels and the first plane's voxels of the sheared one; larger along y and
        x by what the planes move, so that no voxel's centre lies outside.
    shifts : (planes, 2), where the first voxel of each plane lies along y and x of `grid`; not negative.
    degrees : angle between the stacking direction and the normal of the planes.
    """

    grid: Grid
    shifts: NDArray[np.float64]
    degrees: float

    @property
    def is_exact(self) -> bool:
        """True when all planes move by whole pixels: the values and their type stay."""
        return bool((self.shifts == np.rint(self.shifts)).all())

    def array(
        self, volume: NDArray[Any], *, fill_value: float, nearest: bool = False, padding: Padding | None = None
    ) -> NDArray[Any]:
        """The voxels of `grid`, linear along y and x within each plane.

        Parameters
        ----------
        volume : voxels of the sheared grid.
        fill_value : where `grid` reaches beyond the planes.
        nearest : move each plane by the nearest number of whole pixels, and keep the type: for labels.
        padding : as for `resample_planes`.

        Returns
        -------
        array : of the type that `blended_type` says; the volume's for `nearest` and where the shifts are exact.
        """
        shifts = np.floor(self.shifts + 0.5) if nearest else self.shifts
        dtype = volume.dtype if nearest or self.is_exact else blended_type(volume.dtype)
        result = np.full(self.grid.shape, fill_value, dtype)
        for k, shift in enumerate(shifts):
            plane = volume[..., k, :, :]
            start = np.ceil(shift).astype(int)
            for axis, fraction in zip((-2, -1), start - shift, strict=True):
                if fraction:
                    # The voxel at `start` lies this fraction beyond the first one of the plane.
                    lines = np.moveaxis(plane, axis, -1)
                    plane = np.moveaxis(_blended(lines[..., :-1], lines[..., 1:], float(fraction), padding), -1, axis)
            rows, columns = (slice(at, at + n) for at, n in zip(start, plane.shape[-2:], strict=True))
            result[..., k, rows, columns] = plane
        return result


def deskewing(grid: Grid) -> Deskew | None:
    """How to make `grid` orthogonal by shifting its planes (along z) against each other; None when it is, or is flat.

    The first plane stays, and so do direction and spacing within the planes.

    Raises
    ------
    GeometryError : code ``in-plane-shear`` when rows and columns are not at right angles, which no shift mends;
        ``too-sheared`` when the planes move so far that most of the volume would be empty.
    """
    if len(grid.spatial) < 3:
        return None
    step, across = grid.affine[:3, 0], grid.affine[:3, 1:3]
    down, right = grid.direction[:, 1:3].T
    cosine = float(down @ right)
    if abs(cosine) > ORIENTATION_TOLERANCE:
        raise GeometryError(
            "the rows and columns of the planes are not at right angles, so shifting planes does not undo the shear",
            got=f"a cosine of {cosine:.4f}",
            expected=f"at most {ORIENTATION_TOLERANCE}",
            hint="import it without deskewing: the affine keeps the shear",
            code="in-plane-shear",
        )
    drift = np.linalg.lstsq(across, step, rcond=None)[0]
    planes, *size = (max(grid.shape[i], 1) for i in grid.spatial)
    shifts = np.outer(np.arange(planes), drift)
    if np.abs(shifts).max(initial=0.0) <= SHEAR_PIXELS:
        return None
    near = np.rint(shifts)
    shifts = np.where(np.abs(shifts - near) <= WHOLE_PIXELS, near, shifts)
    low, high = np.floor(shifts.min(0)), np.ceil(shifts.max(0))
    needed = float(np.prod((high - low) / size + 1))
    if needed > MOST_ENLARGED:
        raise GeometryError(
            "the planes are sheared so far that the orthogonal grid would be mostly empty",
            got=f"{needed:.1f} times as many voxels",
            expected=f"at most {MOST_ENLARGED} times",
            hint="import it without deskewing: the affine keeps the shear",
            code="too-sheared",
        )
    affine = grid.affine.copy()
    affine[:3, 0] -= across @ drift
    affine[:3, 3] += across @ low
    shape = list(grid.shape)
    for i, more in zip(grid.spatial[1:], high - low, strict=True):
        shape[i] += int(more)
    straight = float(np.linalg.norm(affine[:3, 0]))
    degrees = float(np.degrees(np.arccos(min(1.0, straight / float(np.linalg.norm(step))))))
    return Deskew(Grid(grid.axes, tuple(shape), affine, grid.frame, grid.unit), shifts - low, degrees)
