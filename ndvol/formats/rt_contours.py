"""Contours of structure sets, put on the planes of an image and filled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats import Holes
from ndvol.formats.layers import Piece, Structure, listing
from ndvol.formats.polygons import Filled, fill_polygons

PLANAR_SHARE = 0.1
"""Share of the spacing by which the points of a contour may leave its plane, and a contour the image's, unremarked:
structure sets write 1 to 6 decimals of a mm, and `stack_planes` allows gaps to differ as much."""

HALF = 0.499
"""A contour belongs to a plane within half a spacing; what lies in the middle of two belongs to neither."""


@dataclass(frozen=True, slots=True)
class Contour:
    """A closed contour: vertices (n, 3) as continuous indices of the image; `xor` for CLOSEDPLANAR_XOR."""

    points: NDArray[np.float64]
    xor: bool


@dataclass(slots=True)
class Roi:
    """A region of interest and its closed contours; `original` is its name where `name` is not the source's."""

    number: int
    name: str
    original: str = ""
    contours: list[Contour] = field(default_factory=list)


def plane_axis(rois: Sequence[Roi], path: str) -> int:
    """The axis of the image along which all contours are constant: across the planes that they were drawn on."""
    extents = [(roi, np.ptp(contour.points, axis=0)) for roi in rois for contour in roi.contours]
    axis = int(np.argmin(sum(extent for _, extent in extents)))
    roi, worst = max(extents, key=lambda pair: float(pair[1][axis]))
    if worst[axis] > PLANAR_SHARE:
        raise SourceError(
            f"a contour of ROI {roi.name!r} of {path} does not lie in a plane of the image",
            got=f"an extent of {', '.join(f'{e:.3f}' for e in worst)} voxels along the image's axes",
            expected=f"at most {PLANAR_SHARE} along the axis across the slices, the same for all contours",
            hint="import it with the image that it was drawn on",
            code="contour-not-planar",
        )
    return axis


@dataclass(frozen=True, slots=True)
class Canvas:
    """What ROIs are filled on: the `shape` of an image, whose axis `axis` runs across the planes of the contours."""

    shape: tuple[int, ...]
    axis: int
    holes: Holes
    path: str

    def structures(self, rois: Sequence[Roi], warnings: list[str]) -> Iterator[Structure]:
        """The ROIs, filled plane by plane, one at a time; appends to `warnings` what went along."""
        furthest = 0.0
        overlapping: dict[str, int] = {}
        cut, empty = [], []
        for roi in rois:
            pieces = []
            for plane, contours in _by_plane(roi, self.axis, self.shape[self.axis], self.path).items():
                filled, leaves = self._filled(roi, contours)
                if leaves and roi.name not in cut:
                    cut.append(roi.name)
                furthest = max(furthest, *(abs(float(c.points[:, self.axis].mean()) - plane) for c in contours))
                if filled.overlap:
                    overlapping[roi.name] = overlapping.get(roi.name, 0) + 1
                if filled.mask.any():
                    begin = (*filled.start[: self.axis], plane, *filled.start[self.axis :])
                    pieces.append(Piece(begin, np.expand_dims(filled.mask, self.axis)))
            if pieces:
                yield Structure(roi.number, roi.name, pieces)
            else:
                empty.append(roi.name)
        if furthest > PLANAR_SHARE:
            warnings.append(f"contours lie up to {furthest:.2f} spacings off the plane that they were filled on")
        if overlapping:
            warnings.append(
                f"ROIs with contours inside or across each other, and in how many planes (holes: {self.holes}): "
                f"{listing(overlapping)}"
            )
        if cut:
            warnings.append(f"ROIs that reach beyond the image end at its border: {listing(cut)}")
        if empty:
            warnings.append(f"ROIs that hold no centre of a voxel are left out: {listing(empty)}")

    def _filled(self, roi: Roi, contours: Sequence[Contour]) -> tuple[Filled, bool]:
        """The contours of one plane, filled, and whether they leave the image."""
        across = [a for a in range(3) if a != self.axis]
        limits = np.array([self.shape[a] for a in across])
        polygons = [c.points[:, across] for c in contours]
        leaves = False
        for polygon in polygons:
            low, high = polygon.min(0), polygon.max(0)
            if (high < -0.5).any() or (low > limits - 0.5).any():
                got = f"voxels {np.round(low, 2).tolist()} to {np.round(high, 2).tolist()}"
                raise _outside(roi, self.path, got, limits)
            leaves |= bool((low < -0.5).any() or (high > limits - 0.5).any())
        rule: Holes = "xor" if self.holes == "auto" and all(c.xor for c in contours) else self.holes
        return fill_polygons(polygons, limits.tolist(), holes=rule), leaves


def _by_plane(roi: Roi, axis: int, count: int, path: str) -> Mapping[int, list[Contour]]:
    """The contours of a ROI by the plane within half a spacing."""
    planes: dict[int, list[Contour]] = defaultdict(list)
    positions: dict[int, list[float]] = defaultdict(list)
    for contour in roi.contours:
        at = float(contour.points[:, axis].mean())
        plane = round(at)
        if abs(at - plane) > HALF or not 0 <= plane < count:
            raise SourceError(
                f"a contour of ROI {roi.name!r} of {path} lies on no plane of the image",
                got=f"plane {at:.3f}",
                expected=f"within half a spacing of one of the planes 0 to {count - 1}",
                hint="import it with all slices of the image that it was drawn on",
                code="contour-off-plane",
            )
        planes[plane].append(contour)
        positions[plane].append(at)
    for plane, found in positions.items():
        if max(found) - min(found) > PLANAR_SHARE:
            raise SourceError(
                f"contours of ROI {roi.name!r} of {path} at several positions fall on one plane of the image",
                got=f"positions {min(found):.3f} to {max(found):.3f} on plane {plane}",
                expected=f"at most {PLANAR_SHARE} apart",
                hint="import it with the image that it was drawn on, whose slices are closer",
                code="contour-planes",
            )
    return planes


def _outside(roi: Roi, path: str, got: str, limits: NDArray[np.int64]) -> SourceError:
    return SourceError(
        f"a contour of ROI {roi.name!r} of {path} lies beside the image",
        got=got,
        expected=f"[0, 0] to {(limits - 1).tolist()} in its plane",
        hint="import it with the image that it was drawn on",
        code="label-outside",
    )
