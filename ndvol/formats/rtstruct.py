"""RT Structure Set (PS3.3 A.19, C.8.8.5, C.8.8.6): contours, filled on the planes of their image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats import DEFAULT_READING, LabelData, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.polygons import fill_polygons
from ndvol.formats.structures import (
    Piece,
    Structure,
    StructureKind,
    clean_name,
    decoding,
    items,
    label_volumes,
    listing,
    no_volume,
    numbers,
    open_structures,
    scan_structures,
    spatial_shape,
    with_warnings,
)
from ndvol.geometry import Grid

PLANAR_SHARE = 0.1
"""Share of the spacing by which the points of a contour may leave its plane, and a contour the image's, unremarked:
structure sets write 1 to 6 decimals of a mm, and `stack_planes` allows gaps to differ as much."""

HALF = 0.499
"""A contour belongs to a plane within half a spacing; what lies in the middle of two belongs to neither."""

MAX_INDEX = 1e6
"""A vertex this many voxels away is damage."""

_RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
_FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def _references(dataset: pydicom.Dataset) -> tuple[Iterable[str], Iterable[str]]:
    frames = [item.get("ReferencedFrameOfReferenceUID") for item in items(dataset, "StructureSetROISequence")]
    referenced = items(dataset, "ReferencedFrameOfReferenceSequence")
    series = [
        series.get("SeriesInstanceUID")
        for frame in referenced
        for study in items(frame, "RTReferencedStudySequence")
        for series in items(study, "RTReferencedSeriesSequence")
    ]
    return frames if any(frames) else [f.get("FrameOfReferenceUID") for f in referenced], series


KIND = StructureKind(
    reader="dicom-rtstruct",
    modality="RTSTRUCT",
    sop_classes=(_RTSTRUCT,),
    keywords=("ReferencedFrameOfReferenceSequence", "StructureSetROISequence"),
    references=_references,
)


class RtstructReader:
    """Reads RT structure sets as label volumes on the grid of their image.

    A voxel belongs to a ROI when its centre lies inside a closed contour or on it, in the continuous index space
    of the image; no vertex is rounded to a voxel. Contours inside others of the same ROI and plane cut holes
    (even-odd), others are united. The value of a ROI is its ROINumber where all of them are labels. ROIs
    without a closed contour and contours that are not closed are left out and listed.
    """

    name = KIND.reader

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        return scan_structures(KIND, root, files)

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        raise no_volume(series)

    def read_structures(self, root: Path, series: Series, grid: Grid) -> tuple[LabelData, ...]:
        """The ROIs of a file on the spatial `grid` of the image.

        Raises
        ------
        SourceError : code ``contour-not-planar`` or ``contour-off-plane`` where contours do not lie on planes of
            voxels, ``contour-planes`` where contours of two positions meet in one plane, ``label-outside`` where
            one lies beside the image, ``no-structures`` when nothing can be filled.
        """
        path = series.source
        with decoding(root, path):
            shape = spatial_shape(grid, path)
            rois, warnings = _rois(open_structures(KIND, root, series), grid, path)
            drawn = [roi for roi in rois if roi.contours]
            if not drawn:
                raise SourceError(
                    f"{path} holds no closed contour",
                    got=f"{len(rois)} ROIs without: {listing(roi.name for roi in rois)}",
                    code="no-structures",
                )
            axis = _plane_axis(drawn, path)
            left_out = [roi.name for roi in rois if not roi.contours]
            if left_out:
                warnings.append(f"ROIs without a closed contour are left out: {listing(left_out)}")
            found = _structures(drawn, axis, shape, path, warnings)
            volumes = label_volumes("structures", shape, found, highest=max(r.number for r in drawn), source=path)
            return with_warnings(volumes, warnings)


@dataclass(frozen=True, slots=True)
class Contour:
    """A closed contour: vertices (n, 3) as continuous indices of the image; `xor` for CLOSEDPLANAR_XOR."""

    points: NDArray[np.float64]
    xor: bool


@dataclass(slots=True)
class Roi:
    """A region of interest and its closed contours."""

    number: int
    name: str
    contours: list[Contour] = field(default_factory=list)


def _rois(dataset: pydicom.Dataset, grid: Grid, path: str) -> tuple[list[Roi], list[str]]:
    """The ROIs of StructureSetROISequence with their contours, and what was changed or left out."""
    rois: dict[int, Roi] = {}
    warnings = []
    for item in items(dataset, "StructureSetROISequence"):
        number = int(numbers(item, "ROINumber", 1, f"a ROI of {path}")[0])
        if number in rois:
            raise SourceError(f"two ROIs of {path} have one ROINumber", got=number, code="bad-rois")
        name, warning = clean_name(item.get("ROIName"), f"ROI {number}")
        rois[number] = Roi(number, name)
        warnings.append(warning)
    for item in items(dataset, "ROIContourSequence"):
        number = int(numbers(item, "ReferencedROINumber", 1, f"a ROI of {path}")[0])
        if number not in rois:
            raise SourceError(
                f"{path} has contours of a ROI that StructureSetROISequence does not name", got=number, code="bad-rois"
            )
        left_out: Counter[str] = Counter()
        for contour in items(item, "ContourSequence"):
            kind, points = _contour(contour, grid, f"ROI {rois[number].name!r} of {path}")
            if kind in _FILLED:
                rois[number].contours.append(Contour(points, kind == _FILLED[1]))
            else:
                left_out[kind] += 1
        if left_out:
            warnings.append(f"contours of ROI {rois[number].name!r} that are no area are left out: {listing(left_out)}")
    return _numbered(list(rois.values()), warnings), warnings


def _contour(item: pydicom.Dataset, grid: Grid, where: str) -> tuple[str, NDArray[np.float64]]:
    """The type of a contour (PS3.3 C.8.8.6.1) and its vertices; closed ones of two points are ``DEGENERATE``."""
    kind = clean_name(item.get("ContourGeometricType"), "of no type")[0].upper()
    raw = item.get("ContourData")
    data = np.array([] if raw is None else raw, np.float64).reshape(-1)
    if kind not in _FILLED:
        return kind, np.empty((0, 3))
    if len(data) % 3 or not np.isfinite(data).all():
        raise SourceError(
            f"a contour of {where} is not a list of points",
            got=f"{len(data)} numbers" if len(data) % 3 else "values that are not finite",
            expected="finite x, y, z for each point",
            code="bad-contour",
        )
    stated = item.get("NumberOfContourPoints")
    if stated is not None and int(stated) != len(data) // 3:
        raise SourceError(
            f"a contour of {where} is not complete",
            got=f"{len(data) // 3} points",
            expected=f"NumberOfContourPoints {stated}",
            hint="export the structure set again",
            code="bad-contour",
        )
    points = grid.index(data.reshape(-1, 3))
    if not (np.abs(points) <= MAX_INDEX).all():
        far = float(np.nanmax(np.abs(points)))
        raise SourceError(f"a contour of {where} lies nowhere near the image", got=f"voxel {far:g}", code="bad-contour")
    return (kind, points) if len(points) > 2 else ("DEGENERATE", points)


def _numbered(rois: list[Roi], warnings: list[str]) -> list[Roi]:
    """ROIs in order of their ROINumber where all can be labels, else numbered anew in the order of the file."""
    if all(0 < roi.number < 2**16 for roi in rois):
        return sorted(rois, key=lambda roi: roi.number)
    warnings.append(f"ROINumbers that cannot be labels: the ROIs are numbered from 1 to {len(rois)}")
    for number, roi in enumerate(rois, start=1):
        roi.number = number
    return rois


def _plane_axis(rois: Sequence[Roi], path: str) -> int:
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


def _structures(
    rois: Sequence[Roi], axis: int, shape: Sequence[int], path: str, warnings: list[str]
) -> Iterator[Structure]:
    """The ROIs, filled plane by plane, one at a time; appends to `warnings` what went along."""
    across = [a for a in range(3) if a != axis]
    limits = np.array([shape[a] for a in across])
    furthest, cut, empty = 0.0, [], []
    for roi in rois:
        pieces = []
        for plane, contours in _by_plane(roi, axis, shape[axis], path).items():
            polygons = [c.points[:, across] for c in contours]
            for polygon in polygons:
                low, high = polygon.min(0), polygon.max(0)
                if (high < -0.5).any() or (low > limits - 0.5).any():
                    raise _outside(
                        roi, path, f"voxels {np.round(low, 2).tolist()} to {np.round(high, 2).tolist()}", limits
                    )
                if roi.name not in cut and ((low < -0.5).any() or (high > limits - 0.5).any()):
                    cut.append(roi.name)
            furthest = max(furthest, *(abs(float(c.points[:, axis].mean()) - plane) for c in contours))
            start, mask = fill_polygons(polygons, limits.tolist(), xor=all(c.xor for c in contours))
            if mask.any():
                begin = (*start[:axis], plane, *start[axis:])
                pieces.append(Piece(begin, np.expand_dims(mask, axis)))
        if pieces:
            yield Structure(roi.number, roi.name, pieces)
        else:
            empty.append(roi.name)
    if furthest > PLANAR_SHARE:
        warnings.append(f"contours lie up to {furthest:.2f} spacings off the plane that they were filled on")
    if cut:
        warnings.append(f"ROIs that reach beyond the image end at its border: {listing(cut)}")
    if empty:
        warnings.append(f"ROIs that hold no centre of a voxel are left out: {listing(empty)}")


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
