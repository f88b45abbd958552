"""From the positions of parallel planes to one affine, or the reason why they are not one regular volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.errors import GeometryError

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines that differ by less are one orientation; scanners write 5 to 7 digits."""
RESIDUAL_MM, RESIDUAL_SHARE = 0.05, 0.02
"""A plane may lie this far (mm, or share of the spacing) off the straight line: real PET jitters by 0.04 mm."""
GAP_SHARE = 0.10
"""A gap between neighbours may differ from the usual one by this share."""
DUPLICATE_SHARE = 0.01
"""Planes closer than this share of the usual gap lie at the same position."""
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
    """

    order: tuple[int, ...]
    affine: NDArray[np.float64]
    residual_mm: float
    tilt_deg: float


def stack_planes(
    positions: ArrayLike,
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    *,
    thickness: float | None = None,
) -> PlaneStack:
    """Order planes and fit their affine.

    Parameters
    ----------
    positions : (n, 3), ImagePositionPatient of each plane, LPS mm.
    orientation : the 6 cosines of ImageOrientationPatient (PS3.3 C.7.6.2.1.1): direction of a row, of a column.
    pixel_spacing : PixelSpacing (PS3.3 10.7.1.3): distance between rows, then between columns, mm.
    thickness : extent of a single plane along its normal; used only when n = 1, never between planes.

    Raises
    ------
    GeometryError : with code ``bad-orientation``, ``bad-spacing``, ``duplicate-slices``, ``missing-slices``,
        ``uneven-slices`` or ``single-slice`` (no thickness), and the planes and numbers concerned.

    >>> stack_planes([[0, 0, 6], [0, 0, 0], [0, 0, 3]], [1, 0, 0, 0, 1, 0], [0.5, 0.5]).order
    (1, 2, 0)
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
    if len(points) == 1:
        origin, step, residual = points[0], _single_step(normal, thickness), 0.0
    else:
        _check_gaps(np.diff(points @ normal), order)
        origin, step, residual = _fit_line(points)
    cosine = abs(float(step @ normal)) / float(np.linalg.norm(step))
    affine = np.eye(4)
    affine[:3] = np.column_stack([step, column * steps[0], row * steps[1], origin])
    return PlaneStack(tuple(int(i) for i in order), affine, residual, float(np.degrees(np.arccos(min(1.0, cosine)))))


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
            code="single-slice",
        )
    return normal * thickness


def _check_gaps(gaps: NDArray[np.float64], order: NDArray[np.intp]) -> None:
    """Raise unless all gaps between ordered planes are one distance to within `GAP_SHARE`."""
    usual = float(np.median(gaps))
    doubled = gaps <= max(DUPLICATE_SHARE * usual, 1e-6)
    if doubled.any():
        pairs = [(int(order[k]), int(order[k + 1])) for k in np.flatnonzero(doubled)]
        raise GeometryError(
            f"{len(pairs)} {'pair of slices lies' if len(pairs) == 1 else 'pairs of slices lie'} at the same position",
            got=f"first pair: files {pairs[0][0]} and {pairs[0][1]}",
            hint="they belong to different volumes (echo, phase, time) or were exported twice",
            code="duplicate-slices",
            pairs=pairs,
        )
    off = np.abs(gaps - usual) > GAP_SHARE * usual
    if not off.any():
        return
    ratios = gaps / usual
    whole = np.round(ratios)
    if (np.abs(ratios - whole) <= GAP_SHARE)[off].all() and (whole[off] >= 2).all():
        places = [(int(k), int(whole[k]) - 1) for k in np.flatnonzero(off)]
        total = sum(n for _, n in places)
        raise GeometryError(
            f"{total} {'slice is' if total == 1 else 'slices are'} missing",
            got=", ".join(f"a gap of {gaps[k]:.3f} mm after slice {k}" for k, _ in places[:5]),
            expected=f"{usual:.3f} mm between neighbours",
            hint="export the series again with all its slices",
            code="missing-slices",
            places=places,
        )
    worst = int(np.argmax(np.abs(gaps - usual)))
    raise GeometryError(
        "the slices are unevenly spaced",
        got=f"gaps from {gaps.min():.3f} to {gaps.max():.3f} mm, the worst after slice {worst}",
        expected=f"{usual:.3f} mm within {GAP_SHARE:.0%}",
        code="uneven-slices",
        gaps=[float(g) for g in gaps],
    )


def _fit_line(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Least-squares origin and step of points that should be ``origin + k * step``."""
    k = np.arange(len(points))
    centred = k - k.mean()
    step = centred @ (points - points.mean(0)) / (centred @ centred)
    origin = points.mean(0) - step * k.mean()
    distances = np.linalg.norm(points - (origin + np.outer(k, step)), axis=1)
    allowed = max(RESIDUAL_MM, RESIDUAL_SHARE * float(np.linalg.norm(step)))
    if distances.max() > allowed:
        raise GeometryError(
            "the slices do not lie on one straight line",
            got=f"{distances.max():.3f} mm off at slice {int(distances.argmax())}",
            expected=f"at most {allowed:.3f} mm",
            code="uneven-slices",
        )
    return origin, step, float(distances.max())
