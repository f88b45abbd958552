"""Which DICOM files form one volume: sorting out, grouping, and the proof that the planes are one stack."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GeometryError, SourceError
from ndvol.formats.dicom_headers import MAX_PLANE_PIXELS, SOFT_KEYS, Header, known_uid
from ndvol.formats.dicom_pixels import stored_plane
from ndvol.formats.values import volume_type
from ndvol.geometry.planes import ORIENTATION_TOLERANCE, RESIDUAL_MM, RESIDUAL_SHARE, PlaneStack, stack_planes

SPACING_TOLERANCE = 1e-4
"""Share by which PixelSpacing may differ between slices: the rounding of its decimal string."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_NO_IMAGE = {
    "1.2.840.10008.1.3.10": ("dicomdir", "an index of files, not an image"),
    "1.2.840.10008.5.1.4.1.1.66.4": ("segmentation", "DICOM segmentations are not supported yet"),
    "1.2.840.10008.5.1.4.1.1.66.7": ("segmentation", "DICOM label maps are not supported yet"),
    "1.2.840.10008.5.1.4.1.1.481.3": ("structure-set", "RT structure sets are not supported yet"),
    "1.2.840.10008.5.1.4.1.1.481.2": ("dose", "RT doses are not supported yet"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """Files of one series that agree in everything that planes of one volume share (the hard key).

    Attributes
    ----------
    number, of : which part of the series, from 0, and how many there are.
    """

    headers: tuple[Header, ...]
    number: int = 0
    of: int = 1

    @property
    def series(self) -> str:
        return series_uid(self.headers[0])

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that stand for the series and the part without naming them."""
        suffix = f"+{self.number}" if self.of > 1 else ""
        return sha256((self.series + suffix).encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        return common_folder([h.path for h in self.headers])


@dataclass(frozen=True, slots=True)
class Stack:
    """The planes of a volume in order, with their geometry and type."""

    headers: tuple[Header, ...]
    affine: NDArray[np.float64]
    dtype: np.dtype[np.generic]
    warnings: tuple[str, ...]

    @property
    def folder(self) -> str:
        return common_folder([h.path for h in self.headers])

    @property
    def axes(self) -> str:
        return "zyx" if self.headers[0].samples == 1 else "czyx"

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.headers[0]
        shape = (len(self.headers), first.integer("Rows"), first.integer("Columns"))
        return shape if first.samples == 1 else (first.samples, *shape)


def series_uid(header: Header) -> str:
    """SeriesInstanceUID, or the folder for files that lack it."""
    return header.text("SeriesInstanceUID") or f"folder:{header.folder}"


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that holds all `paths`; '' for the root."""
    folders = [p.split("/")[:-1] for p in paths]
    depth = 0
    while all(len(f) > depth for f in folders) and len({f[depth] for f in folders}) == 1:
        depth += 1
    return "/".join(folders[0][:depth])


def unwanted(header: Header) -> tuple[str, str, str] | None:
    """Status, code and reason for a file that cannot be a plane of a volume; None when it can."""
    sop_class = header.text("SOPClassUID")
    name = known_uid(sop_class).name or "unknown SOP class"
    if sop_class in _NO_IMAGE:
        return "skipped", *_NO_IMAGE[sop_class]
    sizeless = header.get("Rows") is None or header.get("Columns") is None
    if sizeless and "Image Storage" in name:
        return "refused", "unreadable", f"{name} without Rows and Columns: the header is cut or damaged"
    if sizeless or "Presentation State" in name:
        return "skipped", "not-an-image", f"{name} holds no image"
    if header.integer("NumberOfFrames", 1) > 1 or header.get("PerFrameFunctionalGroupsSequence") or "Enhanced" in name:
        return "refused", "multi-frame", f"{name}: multi-frame files are not supported yet; convert to single frames"
    if header.get("MosaicFrames") or {"MOSAIC", "VFRAME"} & set(header.image_type):
        return "refused", "mosaic", "mosaics (all slices tiled in one frame) are not supported yet; convert to NIfTI"
    if "LOCALIZER" in header.image_type:
        return "skipped", "localizer", "a localizer (scout) is no volume"
    if not header.has_geometry and sop_class == _SECONDARY_CAPTURE:
        return "skipped", "secondary-capture", "a secondary capture without position is no volume"
    if not header.has_geometry:
        return (
            "refused",
            "no-geometry",
            f"{name}: ImagePositionPatient, ImageOrientationPatient or PixelSpacing is missing; "
            "a volume needs all three",
        )
    reason = _unsupported_pixels(header)
    return ("refused", *reason) if reason else None


def _unsupported_pixels(header: Header) -> tuple[str, str] | None:
    if header.get("ModalityLUTSequence"):
        return "modality-lut", "modality lookup tables are not supported yet"
    photometric = header.text("PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        return "palette-color", "palette colours are not supported yet; convert to RGB"
    allowed = ("MONOCHROME1", "MONOCHROME2") if header.samples == 1 else _COLOURS
    if header.samples not in (1, 3) or photometric not in allowed:
        return "photometric", f"PhotometricInterpretation {photometric!r} with {header.samples} samples per pixel"
    allocated, stored = header.integer("BitsAllocated"), header.integer("BitsStored")
    high = header.integer("HighBit", stored - 1)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        return "bits", f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}"
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if min(rows, columns) < 1 or rows * columns > MAX_PLANE_PIXELS:
        return "size", f"{rows} rows x {columns} columns"
    return None


def parts_of(headers: Iterable[Header]) -> list[Part]:
    """Group by the hard key: study, series, frame of reference, SOP class, size, samples, orientation."""
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        keys = ("StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "Rows", "Columns")
        groups[series_uid(header), *map(header.text, keys), str(header.samples)].append(header)
    by_series: dict[str, list[tuple[Header, ...]]] = defaultdict(list)
    for key in sorted(groups):
        by_series[key[0]] += _orientation_clusters(groups[key])
    return [Part(headers, number, len(parts)) for parts in by_series.values() for number, headers in enumerate(parts)]


def _orientation_clusters(headers: Sequence[Header]) -> list[tuple[Header, ...]]:
    """Headers whose direction cosines lie within `ORIENTATION_TOLERANCE` of a cluster's first, however shuffled."""
    clusters: list[tuple[tuple[float, ...], list[Header]]] = []
    for cosines, header in sorted(((_orientation(h), h) for h in headers), key=lambda pair: (pair[0], pair[1].path)):
        for first, members in clusters:
            if np.abs(np.subtract(first, cosines)).max() <= ORIENTATION_TOLERANCE:
                members.append(header)
                break
        else:
            clusters.append((cosines, [header]))
    return [tuple(sorted(members, key=lambda h: h.path)) for _, members in clusters]


def _orientation(header: Header) -> tuple[float, ...]:
    cosines = header.numbers("ImageOrientationPatient", 6)
    assert cosines is not None
    return cosines


def _position(header: Header) -> tuple[float, ...]:
    position = header.numbers("ImagePositionPatient", 3)
    assert position is not None
    return position


def stack_part(root: Path, part: Part) -> Stack:
    """The planes of `part` in order, proved to be one regular volume.

    Raises
    ------
    GeometryError, SourceError : the files are not one volume; the code names the reason.
    """
    headers, warnings = _without_copies(root, part.headers)
    spacing = _common_spacing(headers)
    kinds = sorted({h.text("PhotometricInterpretation") for h in headers if h.samples == 1})
    if len(kinds) > 1:
        raise SourceError("slices of one series differ in PhotometricInterpretation", got=kinds, code="photometric")
    positions = [_position(h) for h in headers]
    thickness = headers[0].number("SliceThickness") if len(headers) == 1 else None
    try:
        stack = stack_planes(positions, _orientation(headers[0]), spacing, thickness=thickness)
    except GeometryError as error:
        if error.code != "duplicate-slices":
            raise
        raise _explained(error, headers) from None
    ordered = tuple(headers[i] for i in stack.order)
    _check_planes(stack, ordered, spacing)
    warnings += _doubts(ordered, stack)
    return Stack(ordered, stack.affine, volume_type(h.stored_range for h in ordered), tuple(warnings))


def _doubts(headers: Sequence[Header], stack: PlaneStack) -> list[str]:
    warnings = []
    if len(headers) == 1:
        warnings.append("single slice: spacing along z is the slice's thickness")
    if len(headers) == 2:
        warnings.append("two slices: nothing proves that none is missing between them")
    if stack.tilt_deg > 0.5:
        warnings.append(f"the slices are sheared by {stack.tilt_deg:.1f} degrees (gantry tilt); the affine keeps it")
    if headers[0].text("PhotometricInterpretation") == "MONOCHROME1":
        warnings.append("MONOCHROME1: the stored values are kept, so high values are dark")
    if len({h.rescale for h in headers}) > 1:
        warnings.append("RescaleSlope or RescaleIntercept differ between slices: values are float32")
    return warnings


def _without_copies(root: Path, headers: Sequence[Header]) -> tuple[list[Header], list[str]]:
    """One header per SOPInstanceUID; raises when files of the same UID are different images."""
    first: dict[str, Header] = {}
    dropped = 0
    # Of two exports keep the fuller folder, so that a volume does not mix files of both.
    in_folder = Counter(h.folder for h in headers)
    for header in sorted(headers, key=lambda h: (-in_folder[h.folder], h.path)):
        uid = header.text("SOPInstanceUID") or header.path
        known = first.setdefault(uid, header)
        if known is header:
            continue
        if not _is_copy(root, known, header):
            raise SourceError(
                f"{known.path} and {header.path} carry the same SOPInstanceUID but differ",
                hint="keep the right one",
                code="duplicate-uid",
            )
        dropped += 1
    return list(first.values()), [f"{dropped} copies of slices (same UID, same pixels) were dropped"] if dropped else []


def _is_copy(root: Path, one: Header, other: Header) -> bool:
    keys = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PhotometricInterpretation")
    if any(one.get(k) != other.get(k) for k in keys) or one.rescale != other.rescale:
        return False
    return bool(np.array_equal(stored_plane(root, one), stored_plane(root, other)))


def _common_spacing(headers: Sequence[Header]) -> tuple[float, ...]:
    found = {h.numbers("PixelSpacing", 2) or () for h in headers}
    low, high = np.min(list(found), axis=0), np.max(list(found), axis=0)
    if (high - low > SPACING_TOLERANCE * np.abs(low)).any():
        raise GeometryError(
            "slices of one series differ in PixelSpacing", got=sorted(found)[:4], code="inconsistent-spacing"
        )
    return min(found)


def _explained(error: GeometryError, headers: Sequence[Header]) -> GeometryError:
    """`error`, a repeated position, with the header values that tell the repeated slices apart."""
    pairs: list[tuple[int, int]] = error.pairs
    differing = []
    for keyword in SOFT_KEYS:
        values = sorted({h.text(keyword) for h in headers})
        if any(headers[a].text(keyword) != headers[b].text(keyword) for a, b in pairs):
            differing.append(f"{keyword} ({len(values)} values: {', '.join(values[:4])})")
    a, b = pairs[0]
    return GeometryError(
        f"{len(pairs)} pairs of slices lie at the same position",
        got=f"first pair: {headers[a].path} and {headers[b].path}, they differ in {', '.join(differing) or 'none of '}"
        + ("" if differing else ", ".join(SOFT_KEYS)),
        hint="series with several echoes, phases, b-values or times are not supported yet; export one at a time",
        code="duplicate-slices",
        pairs=pairs,
    )


def _check_planes(stack: PlaneStack, headers: Sequence[Header], spacing: Sequence[float]) -> None:
    """The law of a DICOM volume (PS3.3 C.7.6.2.1.1): every plane lies where its own header puts it."""
    step = float(np.linalg.norm(stack.affine[:3, 0]))
    allowed = max(RESIDUAL_MM, RESIDUAL_SHARE * step)
    for k, header in enumerate(headers):
        cosines = np.asarray(_orientation(header))
        off = np.linalg.norm(stack.affine @ (k, 0, 0, 1) - (*_position(header), 1))
        turned = max(
            np.abs(stack.affine[:3, 1] / spacing[0] - cosines[3:]).max(),
            np.abs(stack.affine[:3, 2] / spacing[1] - cosines[:3]).max(),
        )
        if off > allowed or turned > 2 * ORIENTATION_TOLERANCE:
            raise GeometryError(
                f"{header.path} does not lie in the volume's plane {k}",
                got=f"{off:.3f} mm off, direction cosines {turned:.1e} off",
                expected=f"at most {allowed:.3f} mm and {2 * ORIENTATION_TOLERANCE:.0e}",
                code="plane-invariant",
            )
