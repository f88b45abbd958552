"""From the positions of parallel planes to one affine, or the reason why they are not one regular volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.errors import GeometryError
from ndvol.geometry.gaps import DUPLICATE_SHARE, OnGap, place_planes

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines that differ by less are one orientation; scanners write 5 to 7 digits."""
RESIDUAL_MM, RESIDUAL_SHARE = 0.05, 0.02
"""A plane may lie this far (mm, or share of the spacing) off the straight line: real PET jitters by 0.04 mm."""
SAME_PLACE_MM = 1e-4
"""Planes closer than this lie at the same position: what decimal strings and float32 leave of equal numbers."""


@dataclass(frozen=True, slots=True)
class PlaneStack:
    """Planes in order along their normal, and where they lie.

    Attributes
    ----------
    order : the k-th plane of the volume is plane ``order[k]`` of the input.
    affine : (4, 4) float64, storage-order index (z, y, x) to LPS mm.
    residual_mm : largest distance of a plane's stated position from ``affine @ (k, 0, 0, 1)``.
    tilt_deg : angle between the stacking direction and the normal of the planes (gantry tilt, kept as shear).
    indices : where along z of the volume each plane of `order` lies, ascending; see `ndvol.geometry.gaps.place_planes`.
    resampled : whether planes of the volume are to be interpolated between those of `order`.
    """

    order: tuple[int, ...]
    affine: NDArray[np.float64]
    residual_mm: float
    tilt_deg: float
    indices: tuple[float, ...]
    resampled: bool = False

    @property
    def count(self) -> int:
        """Planes of the volume, with those that are missing."""
        return int(self.indices[-1]) + 1

    @property
    def missing(self) -> tuple[int, ...]:
        """Ascending indices of the volume at which no plane lies; they are to be masked or interpolated."""
        return tuple(sorted(set(range(self.count)) - set(self.indices)))


def stack_planes(
    positions: ArrayLike,
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    *,
    thickness: float | None = None,
    names: Sequence[str] | None = None,
    on_gap: OnGap = "refuse",
) -> PlaneStack:
    """Order planes and fit their affine.

    Parameters
    ----------
    positions : (n, 3), ImagePositionPatient of each plane, LPS mm.
    orientation : the 6 cosines of ImageOrientationPatient (PS3.3 C.7.6.2.1.1): direction of a row, of a column.
    pixel_spacing : PixelSpacing (PS3.3 10.7.1.3): distance between rows, then between columns, mm.
    thickness : extent of a single plane along its normal; used only when n = 1, never between planes.
    names : what messages call the planes; ``plane 1`` … in the order of `positions` when None.
    on_gap : ``mask`` leaves room for missing planes (`PlaneStack.missing`) where ``refuse`` raises; gaps that are no
        whole multiple of the usual one, and more missing planes than there are, are refused all the same.
        ``resample`` gives unevenly spaced planes a place in an even volume, too (`PlaneStack.indices`).

    Raises
    ------
    GeometryError : with code ``bad-orientation``, ``bad-spacing``, ``duplicate-slices``, ``missing-slices``,
        ``uneven-slices`` or ``single-slice`` (no thickness), and the planes and numbers concerned.

    >>> stack_planes([[0, 0, 6], [0, 0, 0], [0, 0, 3]], [1, 0, 0, 0, 1, 0], [0.5, 0.5]).order
    (1, 2, 0)
    >>> found = stack_planes(np.outer([0, 1, 2, 4, 5], [0, 0, 3]), [1, 0, 0, 0, 1, 0], [1, 1], on_gap="mask")
    >>> found.missing, found.indices
    ((3,), (0.0, 1.0, 2.0, 4.0, 5.0))
    """
    points = _points(positions)
    row, column, normal = _directions(orientation)
    steps = _numbers(pixel_spacing)
    if steps.shape != (2,) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise GeometryError(
            "PixelSpacing is not two positive numbers", got=", ".join(map(str, pixel_spacing)), code="bad-spacing"
        )
    order = np.argsort(points @ normal, kind="stable")
    points = points[order]
    called = [names[i] if names else f"plane {i + 1}" for i in order]
    if len(points) == 1:
        indices = np.zeros(1)
        origin, step, residual = points[0], _single_step(normal, thickness), 0.0
    else:
        indices = place_planes(points @ normal, order, called, on_gap)
        origin, step, residual = _fit_line(points, indices, called)
    cosine = abs(float(step @ normal)) / float(np.linalg.norm(step))
    affine = np.eye(4)
    affine[:3] = np.column_stack([step, column * steps[0], row * steps[1], origin])
    tilt = float(np.degrees(np.arccos(min(1.0, cosine))))
    resampled = on_gap == "resample" and indices.tolist() != list(range(len(indices)))
    return PlaneStack(tuple(order.tolist()), affine, residual, tilt, tuple(indices.tolist()), resampled)


def group_places(positions: ArrayLike, orientation: Sequence[float]) -> NDArray[np.intp]:
    """Which planes lie at one place along their normal: 0, 1, … per plane, numbered along the normal.

    Two planes share a place when they are closer than `DUPLICATE_SHARE` of the usual distance between places.

    Parameters
    ----------
    positions, orientation : as for `stack_planes`.

    Raises
    ------
    GeometryError : with code ``bad-orientation`` or ``bad-position``.

    >>> group_places([[0, 0, 6], [0, 0, 0], [0, 0, 6], [0, 0, 3]], [1, 0, 0, 0, 1, 0]).tolist()
    [2, 0, 2, 1]
    """
    points = _points(positions)
    depth = points @ _directions(orientation)[2]
    order = np.argsort(depth, kind="stable")
    gaps = np.diff(depth[order])
    # Rounding leaves gaps of 1e-6 of the true one between repeats, so the true ones stand apart.
    wide = gaps[gaps > max(SAME_PLACE_MM, DUPLICATE_SHARE * float(gaps.max(initial=0.0)))]
    limit = max(SAME_PLACE_MM, DUPLICATE_SHARE * float(np.median(wide))) if len(wide) else np.inf
    places = np.empty(len(points), np.intp)
    places[order] = np.concatenate([[0], np.cumsum(gaps > limit)])
    return places


def _points(positions: ArrayLike) -> NDArray[np.float64]:
    points = _numbers(positions)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise GeometryError(
            "ImagePositionPatient is not three finite numbers per plane", got=positions, code="bad-position"
        )
    return points


def _numbers(values: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)


def _directions(orientation: Sequence[float]) -> tuple[NDArray[np.float64], ...]:
    cosines = _numbers(orientation)
    if cosines.shape == (6,) and np.isfinite(cosines).all():
        row, column = cosines[:3], cosines[3:]
        errors = abs(np.array([np.linalg.norm(row) - 1, np.linalg.norm(column) - 1, row @ column]))
        if errors.max() <= ORIENTATION_TOLERANCE:
            # Cosines of 5 digits make a normal of length 0.99999, which would read as a tilt of 0.26 degrees.
            normal = np.cross(row, column)
            return row, column, normal / np.linalg.norm(normal)
    raise GeometryError(
        "ImageOrientationPatient is not two orthogonal unit vectors",
        got=", ".join(map(str, orientation)),
        code="bad-orientation",
    )


def _single_step(normal: NDArray[np.float64], thickness: float | None) -> NDArray[np.float64]:
    if thickness is None or not 0 < thickness < float("inf"):
        raise GeometryError(
            "a single slice has no spacing along its normal and states no SliceThickness",
            got=thickness,
            hint="export the series with all its slices, or give the file its true SliceThickness (0018,0050)",
            code="single-slice",
        )
    return normal * thickness


def _fit_line(
    points: NDArray[np.float64], k: NDArray[np.float64], called: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Least-squares origin and step of points that should be ``origin + k * step``."""
    centred = k - k.mean()
    step = centred @ (points - points.mean(0)) / (centred @ centred)
    origin = points.mean(0) - step * k.mean()
    distances = np.linalg.norm(points - (origin + np.outer(k, step)), axis=1)
    allowed = max(RESIDUAL_MM, RESIDUAL_SHARE * float(np.linalg.norm(step)))
    if distances.max() > allowed:
        worst = int(distances.argmax())
        raise GeometryError(
            "the slices do not lie on one straight line",
            got=f"{distances.max():.3f} mm off at slice {worst + 1} of {len(points)} ({called[worst]})",
            expected=f"at most {allowed:.3f} mm",
            hint="export each straight part as a series of its own",
            code="uneven-slices",
        )
    return origin, step, float(distances.max())
