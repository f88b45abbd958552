"""RT Structure Set (PS3.3 A.19, C.8.8.5, C.8.8.6): contours, filled on the planes of their image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats import DEFAULT_READING, LabelData, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.layers import annotated, clean_name, label_volumes, listing
from ndvol.formats.rt_contours import Canvas, Contour, Roi, plane_axis
from ndvol.formats.structures import (
    StructureKind,
    decoding,
    items,
    no_volume,
    numbers,
    open_structures,
    scan_structures,
    spatial_shape,
)
from ndvol.geometry import Grid

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
    of the image; no vertex is rounded to a voxel. What contours of the same ROI and plane make of each other says
    `ReadOptions.holes`. The value of a ROI is its ROINumber where all of them are labels. ROIs
    without a closed contour and contours that are not closed are left out and listed.
    """

    name = KIND.reader

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        scan = scan_structures(KIND, root, files)
        return replace(scan, series=tuple(replace(series, reading=options) for series in scan.series))

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
            canvas = Canvas(shape, plane_axis(drawn, path), series.reading.holes, path)
            left_out = [roi.name for roi in rois if not roi.contours]
            if left_out:
                warnings.append(f"ROIs without a closed contour are left out: {listing(left_out)}")
            found = canvas.structures(drawn, warnings)
            volumes = label_volumes("structures", shape, found, highest=max(r.number for r in drawn), source=path)
            return annotated(volumes, warnings, {roi.number: roi.original for roi in drawn if roi.original})


def _rois(dataset: pydicom.Dataset, grid: Grid, path: str) -> tuple[list[Roi], list[str]]:
    """The ROIs of StructureSetROISequence with their contours, and what was changed or left out."""
    rois: dict[int, Roi] = {}
    warnings = []
    for item in items(dataset, "StructureSetROISequence"):
        number = int(numbers(item, "ROINumber", 1, f"a ROI of {path}")[0])
        if number in rois:
            raise SourceError(f"two ROIs of {path} have one ROINumber", got=number, code="bad-rois")
        name, warning = clean_name(item.get("ROIName"), f"ROI {number}")
        rois[number] = Roi(number, name, str(item.get("ROIName") or "") if warning else "")
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
