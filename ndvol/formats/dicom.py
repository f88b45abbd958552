"""DICOM: images with a position and orientation (CT, MR, PET …) as volumes; classic, multi-frame or mosaic."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import Scan, Series, VolumeData
from ndvol.formats.dicom_headers import PHYSICS, Header, read_header, uid_hash
from ndvol.formats.dicom_pixels import stored_planes
from ndvol.formats.dicom_planes import is_structure, planes_of, unplaced, unwanted
from ndvol.formats.dicom_series import Piece, Stack, common_folder, pieces_of, series_uid
from ndvol.formats.values import StoredRange, as_labels, rescale, settled_type
from ndvol.geometry import Grid
from ndvol.verdict import Verdict


class DicomReader:
    """Reads DICOM images, found by content and never by suffix.

    One volume is made of the planes (files, frames of multi-frame objects, tiles of mosaics) that share study,
    series, frame of reference, SOP class, size, channels, stack and orientation; they are ordered by
    ImagePositionPatient along their normal. Planes at repeated positions become a ``t`` axis when echo,
    b-value, time … put all of them in order, and volumes of their own when they are of different kinds. What
    cannot be proved to be one regular volume is refused in `scan`, from headers alone; only files that share a
    SOPInstanceUID are decoded there, to tell copies from conflicts.

    Segmentations and structure sets are left to other readers. Values are those of PS3.3 C.11.1 (rescale or
    modality LUT applied); padding is not replaced: PixelPaddingValue, in stored values, is kept as attribute.
    """

    name = "dicom"

    def scan(self, root: Path, files: Sequence[str]) -> Scan:
        verdicts: list[Verdict] = []
        claimed: set[str] = set()
        unread: Counter[str] = Counter()
        others: dict[tuple[str, ...], list[str]] = defaultdict(list)
        planes: list[Header] = []
        for path in files:
            try:
                header = read_header(root, path)
                if header is None or is_structure(header):
                    continue
                found = _sorted_out(root, header)
                if isinstance(found[0], Header):
                    planes += found
                else:
                    others[*found, series_uid(header)].append(path)
            except SourceError as error:
                verdicts.append(Verdict.refused(path, error))
                unread[path.rpartition("/")[0]] += 1
            claimed.add(path)
        for (status, code, message, _), paths in others.items():
            verdicts.append(Verdict(_source(paths), status, code, message, files=len(paths)))
        series, judged = _judge(pieces_of(root, planes), unread)
        return Scan(tuple(series), tuple(verdicts + judged), frozenset(claimed))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        stack = _stack_again(root, series)
        array = _voxels(root, stack)
        if as_label:
            array = as_labels(array, series.source)
        return VolumeData(
            array,
            Grid(stack.axes, stack.shape, stack.affine),
            modality=stack.headers[0].modality,
            value_unit=_value_unit(stack.headers),
            attributes={**_attributes(stack.headers), **stack.attributes},
            warnings=stack.warnings,
        )


def _sorted_out(root: Path, header: Header) -> tuple[Header, ...] | tuple[str, str, str]:
    """The checked planes of a file, or status, code and reason why it has none."""
    if (reason := unwanted(header)) is not None:
        return reason
    planes = planes_of(root, header)
    for plane in planes:
        if (reason := unplaced(plane)) is not None:
            return reason
        plane.check()
    return planes


def _stack_again(root: Path, series: Series) -> Stack:
    """The stack that `scan` found, from the series' own files."""
    planes: list[Header] = []
    for path in series.files:
        header = read_header(root, path)
        found = ("",) if header is None else _sorted_out(root, header)
        planes += [h for h in found if isinstance(h, Header)]
    pieces = [p for p in pieces_of(root, planes) if isinstance(p.result, Stack)]
    fitting = [p for p in pieces if isinstance(p.result, Stack) and p.result.shape == series.shape]
    if len(fitting) > 1:  # the volumes of one multi-frame file
        fitting = [p for p in fitting if series.name.endswith(p.digest(alone=False))]
    if len(fitting) != 1 or not isinstance(stack := fitting[0].result, Stack) or fitting[0].files != series.files:
        raise SourceError(f"the files of {series.source} changed since they were scanned", code="changed")
    return stack


def _source(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else common_folder(paths) or "."


def _judge(pieces: Sequence[Piece], unread: Counter[str]) -> tuple[list[Series], list[Verdict]]:
    """Series for the pieces that are one volume; verdicts for the others, and for what was split."""
    verdicts: list[Verdict] = []
    series: list[Series] = []
    by_series: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_series[piece.series].append(piece)
    in_folder = Counter(piece.folder for piece in pieces)
    for uid, group in by_series.items():
        if len(group) > 1:
            paths = sorted({f for piece in group for f in piece.files})
            message = f"one SeriesInstanceUID holds {len(group)} stacks that differ in orientation, size or kind"
            verdicts.append(Verdict(common_folder(paths) or ".", "split", "split", message, files=len(paths)))
        for piece in group:
            folder = piece.folder
            digest = piece.digest(alone=len(by_series[uid]) == 1)
            source = (folder or ".") if in_folder[folder] == 1 else f"{folder or '.'}#{digest}"
            if isinstance(piece.result, NdvolError):
                verdicts.append(Verdict.refused(source, piece.result, files=len(piece.files)))
                continue
            doubt = [f"{unread[folder]} DICOM files in the same folder could not be read"] * bool(unread[folder])
            series.append(_series(piece, piece.result, digest, source, [*piece.result.warnings, *doubt]))
    return series, verdicts


def _series(piece: Piece, stack: Stack, digest: str, source: str, warnings: Iterable[str]) -> Series:
    first = stack.headers[0]
    return Series(
        reader=DicomReader.name,
        source=source,
        files=piece.files,
        key=piece.folder,
        name=f"{first.modality.lower() or 'dicom'}-{digest}",
        modality=first.modality,
        axes=stack.axes,
        shape=stack.shape,
        dtype=str(stack.dtype),
        spacing=Grid(stack.axes, stack.shape, stack.affine).spacing,
        uid=uid_hash(first.text("SeriesInstanceUID")),
        frame=uid_hash(first.text("FrameOfReferenceUID")),
        warnings=tuple(warnings),
    )


def _voxels(root: Path, stack: Stack) -> np.ndarray:
    """The volume in its final type, each plane through its own slope and intercept."""
    planes: list[np.ndarray] = [np.empty(0)] * len(stack.headers)
    for index, plane in stored_planes(root, stack.headers):
        planes[index] = plane
    ranges = {
        StoredRange(plane.dtype, int(plane.min()), int(plane.max()), *header.rescale)
        for plane, header in zip(planes, stack.headers, strict=True)
    }
    dtype = settled_type(stack.dtype, ranges)
    volume = np.empty(stack.shape, dtype)
    # Every plane as a view: times and slices in front, channels behind the pixels.
    slots = np.moveaxis(volume, stack.axes.index("c"), -1) if "c" in stack.axes else volume
    slots = slots if stack.times else slots[None]
    count = slots.shape[1]
    for k, header in enumerate(stack.headers):
        slots[divmod(k, count)] = rescale(planes[k], *header.rescale, dtype)
        planes[k] = planes[k][:0]
    return volume


def _value_unit(headers: Sequence[Header]) -> str:
    """HU for CT (PS3.3 C.8.2.1), Units (0054,1001) for PET, what RescaleType says otherwise."""
    types = {h.text("RescaleType") for h in headers}
    if headers[0].modality == "CT":
        return "HU" if types <= {"", "HU", "US"} else _only(types)
    return _only({h.text("Units") for h in headers})


def _only(values: set[str]) -> str:
    return values.pop() if len(values) == 1 else ""


def _attributes(headers: Sequence[Header]) -> dict[str, float | int | str]:
    """Facts that all slices share and that name nobody."""
    keywords = (*PHYSICS, "BitsStored", "PhotometricInterpretation", "PixelPaddingValue", "PixelPaddingRangeLimit")
    found: dict[str, float | int | str] = {}
    for keyword in keywords:
        values = {h.values.get(keyword) for h in headers if not isinstance(h.values.get(keyword), Exception | tuple)}
        if len(values) == 1 and (value := values.pop()) is not None:
            found[keyword] = value
    rescales = {h.rescale for h in headers}
    if len(rescales) == 1 and headers[0].get("RescaleSlope") is not None:
        found["RescaleSlope"], found["RescaleIntercept"] = rescales.pop()
    return found
