"""Label volumes as DICOM Segmentations (PS3.3 A.51) of the image series that they were drawn on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from ndvol.errors import GridError, OptionError, SourceError
from ndvol.formats import Series
from ndvol.formats.dicom_deflate import open_dicom
from ndvol.formats.dicom_headers import Header
from ndvol.formats.dicom_series import Stack
from ndvol.formats.faults import reason
from ndvol.formats.layers import MAX_NAME, listing
from ndvol.geometry import Grid
from ndvol.version import __version__

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

TISSUE = Code("85756007", "SCT", "Tissue")
"""Category and type of every segment: 3D Slicer's own choice where nothing says what a structure is."""
SERIES_NUMBER = 1000
"""SeriesNumber: behind those of scanners, so that viewers list the images first."""
NO_DATE, NO_TIME = "19700101", "000000"
"""ContentDate and ContentTime, which must be there, where the source has no date at all."""

UTF8 = "ISO_IR 192"
"""SpecificCharacterSet: names of segments need not be in the alphabet of the patient's."""

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Type 2 elements of patient and study (PS3.3 C.7.1.1, C.7.2.1): de-identified files often lack them."""
_OTHERWISE = "export the label as NIfTI instead"
_MOMENTS = ("Content", "Acquisition", "Series", "Study")


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What a SEG is to hold.

    Attributes
    ----------
    name : of the label volume.
    array : (z, y, x) integers on `series_grid`; 0 is background.
    categories : value -> name of the segment, also of those without a voxel.
    algorithm : name and version of the program that drew it; empty when people did.
    """

    name: str
    array: NDArray[Any]
    categories: Mapping[int, str]
    algorithm: str = ""


def series_grid(series: Series) -> Grid:
    """Where the voxels of a series of `DicomReader` lie, in the order of its planes, rows and columns: axes zyx."""
    stack: Stack = series.recipe
    return Grid("zyx", stack.shape[-3:], stack.affine)


def encode_segmentation(root: Path, series: Series, segmentation: Segmentation) -> bytes:
    """A SEG file: a binary segment per category, a frame per plane of the series that the segment reaches.

    Each frame has the position, and refers to the instance, of its source plane; patient, study and frame of reference
    are the source's. Segments are numbered 1, 2, … in order of their values. Without any voxel one empty frame per
    segment is written, since a SEG must have frames. The planes of a series over time are those of its first time.

    The same label on the same series makes the same bytes: UIDs are hashes, and the content date is that of the images.

    Parameters
    ----------
    series : as `DicomReader` scanned it below `root`.

    Raises
    ------
    OptionError : for names that no SegmentLabel can hold. GridError : for voxels in planes that the series lacks.
    SourceError : code ``seg-source`` when the series is none that a SEG can refer to.
    """
    _check_texts(segmentation)
    numbered = _numbered(segmentation)
    headers, planes = _planes(series, numbered, segmentation.name)
    if not planes.any():
        headers, planes = headers[:1], planes[:1]
    try:
        sources = _sources(root, series, headers)
        return _encoded(sources, [header.frame for header in headers], planes, segmentation)
    except SourceError:
        raise
    except Exception as error:  # highdicom and pydicom raise whatever a header provokes
        raise _unsuitable(series, reason(error, root)) from error


def _check_texts(segmentation: Segmentation) -> None:
    """Raise where a name does not fit into an LO (PS3.5 6.2)."""
    if not segmentation.categories:
        raise OptionError(f"label volume {segmentation.name!r} names no category, so a SEG of it has no segment")
    texts = [*segmentation.categories.values(), segmentation.name, *filter(None, [segmentation.algorithm])]
    if bad := [t for t in texts if not t.strip() or len(t) > MAX_NAME or "\\" in t or not t.isprintable()]:
        raise OptionError(
            f"a SEG of label volume {segmentation.name!r} cannot hold its names",
            got=listing(map(repr, bad)),
            expected=f"up to {MAX_NAME} printable characters, no backslash",
            hint="give other names in the category table and import again",
        )


def _numbered(segmentation: Segmentation) -> NDArray[Any]:
    """The label map with segment numbers 1, 2, … (PS3.3 C.8.20.4: they count up from 1) for its values."""
    values = np.array(sorted(segmentation.categories), np.int64)
    numbered = np.zeros(segmentation.array.shape, np.uint8 if len(values) < 256 else np.uint16)
    for plane, out in zip(segmentation.array, numbered, strict=True):
        places = np.minimum(np.searchsorted(values, plane), len(values) - 1)
        labelled = plane != 0
        if unnamed := np.unique(plane[labelled & (values[places] != plane)]).tolist():
            raise OptionError(
                f"label volume {segmentation.name!r} has values without a name",
                got=unnamed,
                expected=f"of {values.tolist()}",
            )
        out[labelled] = places[labelled] + 1
    return numbered


def _planes(series: Series, numbered: NDArray[Any], name: str) -> tuple[tuple[Header, ...], NDArray[Any]]:
    """The headers of the planes of the first time in order along z, and the label's planes there."""
    stack: Stack = series.recipe
    if any(header.tile is not None for header in stack.headers):
        raise _unsuitable(series, "a mosaic", "planes that are images of their own")
    missing = list(stack.missing)
    if numbered[missing].any():
        raise GridError(
            f"label volume {name!r} has voxels in planes that {series.source} lacks", got=f"planes {missing}"
        )
    present = np.delete(numbered, missing, axis=0)
    return stack.headers[: len(present)], present


def _unsuitable(series: Series, got: str, expected: str | None = None) -> SourceError:
    return SourceError(
        f"a SEG cannot refer to the series {series.source}",
        got=got,
        expected=expected,
        hint=_OTHERWISE,
        code="seg-source",
    )


def _sources(root: Path, series: Series, headers: Sequence[Header]) -> list[Dataset]:
    """The headers of the source's files, or the only one of a multi-frame file with the groups of these frames."""
    sources = [_source(root, path) for path in dict.fromkeys(h.path for h in headers)]
    first = sources[0]
    if not first.get("SliceThickness"):
        first.SliceThickness = series_grid(series).spacing[0]  # type 2, and highdicom wants one
    groups = first.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        for source in sources:
            # highdicom wants them equal to the last digit; `pieces_of` has proved that they are one orientation.
            source.ImageOrientationPatient = first.ImageOrientationPatient
        return sources
    if len(sources) > 1:
        raise _unsuitable(series, f"{len(sources)} multi-frame files", "one")
    kept = [groups[header.frame] for header in headers]
    if "SharedFunctionalGroupsSequence" not in first:
        first.SharedFunctionalGroupsSequence = [Dataset()]
    shared = first.SharedFunctionalGroupsSequence[0]
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if keyword in kept[0]:
            shared[keyword] = kept[0][keyword]
    first.PerFrameFunctionalGroupsSequence, first.NumberOfFrames = kept, len(kept)
    return sources


def _source(root: Path, path: str) -> Dataset:
    """The header of a file, with what highdicom copies of it."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation(), open_dicom(root / path, path) as stream:
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
        dataset.decode()
    dataset.SpecificCharacterSet = UTF8
    if absent := [keyword for keyword in _NEEDED if not dataset.get(keyword)]:
        raise SourceError(
            f"a SEG cannot refer to {path}", got=f"no {' and no '.join(absent)}", hint=_OTHERWISE, code="seg-source"
        )
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    return dataset


def _encoded(sources: list[Dataset], frames: Sequence[int], planes: NDArray[Any], segmentation: Segmentation) -> bytes:
    """The file; `frames` are those of the source, from 0, that the planes are drawn on."""
    import highdicom

    names = [segmentation.categories[value] for value in sorted(segmentation.categories)]
    digest = sha256(planes.astype("<u2").tobytes()).hexdigest()
    said = json.dumps([__version__, segmentation.name, segmentation.algorithm, names, planes.shape])

    def uid(what: str) -> str:
        return str(generate_uid(entropy_srcs=["ndvol", what, str(sources[0].SeriesInstanceUID), digest, said]))

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = highdicom.seg.Segmentation(
            sources,
            planes,
            "BINARY",
            _descriptions(names, segmentation.algorithm),
            series_instance_uid=uid("series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uid("instance"),
            instance_number=1,
            manufacturer="ndvol",
            manufacturer_model_name="ndvol",
            software_versions=__version__,
            device_serial_number="none",
            content_label="SEGMENTATION",
            series_description=segmentation.name,
        )
        dataset.SpecificCharacterSet = sources[0].SpecificCharacterSet
        groups = dataset.PerFrameFunctionalGroupsSequence
        found = [item for group in groups for item in group.DerivationImageSequence[0].SourceImageSequence]
        for item in {id(item): item for item in found}.values():  # segments of one plane share theirs
            if "ReferencedFrameNumber" in item:
                item.ReferencedFrameNumber = frames[int(item.ReferencedFrameNumber) - 1] + 1
        _without_chance(dataset, sources[0], uid("dimensions"))
        stream = BytesIO()
        dataset.save_as(stream)
    return stream.getvalue()


def _descriptions(names: Sequence[str], algorithm: str) -> list[SegmentDescription]:
    import highdicom

    segments = [
        highdicom.seg.SegmentDescription(number, name, TISSUE, TISSUE, "MANUAL") for number, name in enumerate(names, 1)
    ]
    for segment in segments if algorithm else []:
        # highdicom would want a family and a version too, which the standard does not (PS3.3 C.8.20.4).
        segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", algorithm
    return segments


def _without_chance(dataset: Dataset, source: Dataset, organization: str) -> None:
    """Replace what depends on the clock and on random numbers."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        dataset.pop(keyword, None)
    moments = [m for m in _MOMENTS if source.get(f"{m}Date")]
    dataset.ContentDate = source.get(f"{moments[0]}Date") if moments else NO_DATE
    dataset.ContentTime = (source.get(f"{moments[0]}Time") if moments else None) or NO_TIME
    for item in (dataset.get("ContributingEquipmentSequence") or ())[-1:]:
        item.pop("ContributionDateTime", None)  # highdicom itself; before it the scanner, if it is named
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
