"""Which DICOM planes form one volume: grouping, and the proof that the planes are one stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GeometryError, NdvolError, SourceError
from ndvol.formats.dicom_copies import without_copies
from ndvol.formats.dicom_doubts import doubts, plane_name
from ndvol.formats.dicom_headers import Header
from ndvol.formats.dicom_times import Times, kinds_of, sort_times
from ndvol.formats.dicom_values import value_unit
from ndvol.formats.values import volume_type
from ndvol.geometry import Grid
from ndvol.geometry.gaps import OnGap
from ndvol.geometry.planes import (
    ORIENTATION_TOLERANCE,
    RESIDUAL_MM,
    RESIDUAL_SHARE,
    PlaneStack,
    group_places,
    stack_planes,
)

SPACING_TOLERANCE = 1e-4
"""Share by which PixelSpacing may differ between slices: the rounding of its decimal string."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The planes of a volume in order, with their geometry and type.

    Attributes
    ----------
    headers : one per plane, time by time, in the order of the planes.
    times : length of the t axis; 0 for a volume without one.
    attributes : what the t axis means.
    missing : indices along z that no plane fills; they are masked, or interpolated where there are `indices`.
    indices : where along z the planes of one time lie, when the volume is to be resampled; else empty.
    """

    headers: tuple[Header, ...]
    affine: NDArray[np.float64]
    dtype: np.dtype[np.generic]
    warnings: tuple[str, ...]
    times: int = 0
    attributes: Mapping[str, float | int | str] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    indices: tuple[float, ...] = ()

    @property
    def as_read(self) -> Stack:
        """The planes that are there one after the other, where the volume is to be resampled."""
        return replace(self, missing=(), indices=()) if self.indices else self

    @property
    def axes(self) -> str:
        return ("t" if self.times else "") + ("zyx" if self.headers[0].channels == 1 else "czyx")

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.headers[0]
        planes = len(self.headers) // (self.times or 1) + len(self.missing)
        if self.indices:
            planes = int(self.indices[-1]) + 1
        shape = (planes, first.integer("Rows"), first.integer("Columns"))
        channels = () if first.channels == 1 else (first.channels,)
        return ((self.times,) if self.times else ()) + channels + shape


@dataclass(frozen=True, slots=True)
class Piece:
    """Planes of one series that should be one volume, and the volume or the reason why they are none."""

    headers: tuple[Header, ...]
    result: Stack | NdvolError

    @property
    def series(self) -> str:
        return series_uid(self.headers[0])

    @property
    def planes(self) -> tuple[Header, ...]:
        return self.result.headers if isinstance(self.result, Stack) else self.headers

    @property
    def files(self) -> tuple[str, ...]:
        """The files in order of their first plane."""
        return tuple(dict.fromkeys(h.path for h in self.planes))

    @property
    def folder(self) -> str:
        return common_folder(self.files)

    def digest(self, *, alone: bool) -> str:
        """Eight hexadecimal digits that stand for the series, or for this piece of it, without naming them."""
        words = [self.series]
        if not alone:
            words += sorted(f"{h.text('SOPInstanceUID') or h.path}+{h.frame}" for h in self.planes)
        return sha256("\n".join(words).encode()).hexdigest()[:8]


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


def pieces_of(root: Path, headers: Iterable[Header], on_gap: OnGap = "refuse") -> list[Piece]:
    """Volumes, and what cannot be one, of any planes: grouped, ordered, checked.

    The hard key is study, series, frame of reference, SOP class, size, channels, stack (PS3.3 C.7.6.16.2.2.4)
    and orientation. Only where positions repeat are the soft keys of `dicom_times` asked.
    """
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        keys = ("StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "Rows", "Columns", "StackID")
        groups[series_uid(header), *map(header.text, keys), str(header.channels)].append(header)
    pieces = []
    for key in sorted(groups):
        for cluster in _orientation_clusters(groups[key]):
            pieces += _pieces(root, cluster, on_gap)
    return pieces


def _pieces(root: Path, headers: tuple[Header, ...], on_gap: OnGap) -> list[Piece]:
    """The volumes of planes that share the hard key."""
    try:
        kept, warnings = without_copies(root, headers)
        places = group_places([_position(h) for h in kept], _orientation(kept[0]))
    except NdvolError as error:
        return [Piece(headers, error)]
    if places.max() + 1 == len(kept):
        return [_piece(kept, warnings, None, on_gap)]
    pieces = []
    for kind in kinds_of(kept, places):
        pieces += _times([kept[i] for i in kind], places[kind], warnings, on_gap)
    return pieces


def _times(headers: Sequence[Header], places: NDArray[np.intp], warnings: Sequence[str], on_gap: OnGap) -> list[Piece]:
    """The volume of one kind of planes, with a t axis where positions repeat, and what is left of cut-off times."""
    if places.max() + 1 == len(headers):
        return [_piece(headers, warnings, None, on_gap)]
    try:
        times = sort_times(headers, places)
    except NdvolError as error:
        return [Piece(tuple(headers), error)]
    whole = times.planes.ravel().tolist()
    if not times.rest:
        return [_piece([headers[i] for i in whole], warnings, times, on_gap)]
    rest = tuple(headers[i] for i in times.rest)
    partial = SourceError(
        f"{len(rest)} planes are left of times that lack positions",
        got=f"{len(times.planes)} complete times of {times.planes.shape[1]} planes beside them",
        expected=f"one plane per position for each value of {' and '.join(times.keys)}",
        hint="nothing to do when the scan was stopped early; else export the series again",
        code="partial-time",
    )
    # Sorted anew, the complete times come out as they will when the volume is read from their files alone.
    kept = sorted(whole)
    return [*_times([headers[i] for i in kept], places[kept], warnings, on_gap), Piece(rest, partial)]


def _piece(headers: Sequence[Header], warnings: Sequence[str], times: Times | None, on_gap: OnGap) -> Piece:
    try:
        stack = _stack(headers, warnings, times, on_gap)
        # Numbers like 1e300 pass every other check.
        Grid(stack.axes, stack.shape, stack.affine)
        return Piece(tuple(headers), stack)
    except NdvolError as error:
        return Piece(tuple(headers), error)


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


def _stack(headers: Sequence[Header], warnings: Sequence[str], times: Times | None, on_gap: OnGap) -> Stack:
    """Planes, time by time where there are times, proved to be one regular volume.

    Raises
    ------
    GeometryError, SourceError : the planes are not one volume; the code names the reason.
    """
    spacing = _common_spacing(headers)
    kinds = sorted({h.text("PhotometricInterpretation") for h in headers if h.channels == 1})
    if len(kinds) > 1:
        raise SourceError(
            "slices of one series differ in PhotometricInterpretation",
            got=kinds,
            hint="export each kind as a series of its own",
            code="photometric",
        )
    count = len(headers) if times is None else times.planes.shape[1]
    thickness = headers[0].number("SliceThickness") if count == 1 else None
    stack = stack_planes(
        [_position(h) for h in headers[:count]],
        _orientation(headers[0]),
        spacing,
        thickness=thickness,
        names=[plane_name(h) for h in headers[:count]],
        on_gap=on_gap,
    )
    ordered = tuple(headers[t + k] for t in range(0, len(headers), count) for k in stack.order)
    _check_planes(stack, ordered, spacing)
    found = [*warnings, *(times.warnings if times else ()), *doubts(ordered, stack)]
    return Stack(
        ordered,
        stack.affine,
        volume_type((h.stored_range for h in ordered), signed=value_unit(ordered) == "HU"),
        tuple(found),
        0 if times is None else len(times.planes),
        {} if times is None else times.attributes,
        stack.missing,
        stack.indices if stack.resampled else (),
    )


def _common_spacing(headers: Sequence[Header]) -> tuple[float, ...]:
    found = {h.numbers("PixelSpacing", 2) or () for h in headers}
    low, high = np.min(list(found), axis=0), np.max(list(found), axis=0)
    if (high - low > SPACING_TOLERANCE * np.abs(low)).any():
        raise GeometryError(
            "slices of one series differ in PixelSpacing",
            got=sorted(found)[:4],
            hint="export the slices of each spacing as a series of their own",
            code="inconsistent-spacing",
        )
    return min(found)


def _check_planes(stack: PlaneStack, headers: Sequence[Header], spacing: Sequence[float]) -> None:
    """The law of a DICOM volume (PS3.3 C.7.6.2.1.1): every plane lies where its own header puts it."""
    step = float(np.linalg.norm(stack.affine[:3, 0]))
    allowed = max(RESIDUAL_MM, RESIDUAL_SHARE * step)
    for k, header in zip(cycle(stack.indices), headers, strict=False):
        cosines = np.asarray(_orientation(header))
        off = np.linalg.norm(stack.affine @ (k, 0, 0, 1) - (*_position(header), 1))
        turned = max(
            np.abs(stack.affine[:3, 1] / spacing[0] - cosines[3:]).max(),
            np.abs(stack.affine[:3, 2] / spacing[1] - cosines[:3]).max(),
        )
        if off > allowed or turned > 2 * ORIENTATION_TOLERANCE:
            raise GeometryError(
                f"{header.path} does not lie in the volume's plane {k:g}",
                got=f"{off:.3f} mm off, direction cosines {turned:.1e} off",
                expected=f"at most {allowed:.3f} mm and {2 * ORIENTATION_TOLERANCE:.0e}",
                code="plane-invariant",
            )
