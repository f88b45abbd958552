"""DICOM: single-frame images with a position and orientation (CT, MR, PET …) as volumes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import Scan, Series, VolumeData
from ndvol.formats.dicom_headers import PHYSICS, Header, read_header
from ndvol.formats.dicom_pixels import stored_plane
from ndvol.formats.dicom_series import Part, Stack, common_folder, parts_of, series_uid, stack_part, unwanted
from ndvol.formats.values import StoredRange, as_labels, rescale, settled_type
from ndvol.geometry import Grid
from ndvol.verdict import Verdict

RGB = 3


class DicomReader:
    """Reads classic DICOM series, found by content and never by suffix.

    One volume is made of the files that share study, series, frame of reference, SOP class, size, samples per
    pixel and orientation; its planes are ordered by ImagePositionPatient along their normal. What cannot be
    proved to be one regular volume is refused in `scan`, from headers alone; only files that share a
    SOPInstanceUID are decoded there, to tell copies from conflicts.
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
                if header is None:
                    continue
                reason = unwanted(header)
                if reason is not None:
                    others[*reason, series_uid(header)].append(path)
                else:
                    header.check()
                    planes.append(header)
            except SourceError as error:
                verdicts.append(Verdict.refused(path, error))
                unread[path.rpartition("/")[0]] += 1
            claimed.add(path)
        for (status, code, message, _), paths in others.items():
            verdicts.append(Verdict(_source(paths), status, code, message, files=len(paths)))
        series, judged = _judge(root, parts_of(planes), unread)
        return Scan(tuple(series), tuple(verdicts + judged), frozenset(claimed))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        headers = [read_header(root, path) for path in series.files]
        found = tuple(h for h in headers if h is not None and not unwanted(h))
        stack = stack_part(root, Part(found)) if len(found) == len(headers) > 0 else None
        if stack is None or stack.shape != series.shape:
            raise SourceError(f"the files of {series.source} changed since they were scanned", code="changed")
        array = _voxels(root, stack)
        if as_label:
            array = as_labels(array, series.source)
        return VolumeData(
            array,
            Grid(stack.axes, stack.shape, stack.affine),
            modality=stack.headers[0].modality,
            value_unit=_value_unit(stack.headers),
            attributes=_attributes(stack.headers),
            warnings=stack.warnings,
        )


def _source(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else common_folder(paths) or "."


def _judge(root: Path, parts: Sequence[Part], unread: Counter[str]) -> tuple[list[Series], list[Verdict]]:
    """Series for the parts that are one volume; verdicts for the others, and for what was split."""
    verdicts: list[Verdict] = []
    judged: list[tuple[Part, str, Stack | NdvolError]] = []
    for part in parts:
        if part.of > 1 and part.number == 0:
            count = sum(len(p.headers) for p in parts if p.series == part.series)
            message = f"one SeriesInstanceUID holds {part.of} stacks that differ in orientation, size or kind"
            verdicts.append(Verdict(part.folder or ".", "split", "split", message, files=count))
        try:
            stack = stack_part(root, part)
            judged.append((part, stack.folder, stack))
        except NdvolError as error:
            judged.append((part, part.folder, error))
    in_folder = Counter(folder for _, folder, _ in judged)
    series = []
    for part, folder, result in judged:
        source = (folder or ".") if in_folder[folder] == 1 else f"{folder or '.'}#{part.digest}"
        if isinstance(result, NdvolError):
            verdicts.append(Verdict.refused(source, result, files=len(part.headers)))
            continue
        doubt = f"{unread[folder]} DICOM files in the same folder could not be read"
        series.append(_series(part, result, source, [*result.warnings, *([doubt] if unread[folder] else [])]))
    return series, verdicts


def _series(part: Part, stack: Stack, source: str, warnings: Iterable[str]) -> Series:
    modality = stack.headers[0].modality
    return Series(
        reader=DicomReader.name,
        source=source,
        files=tuple(h.path for h in stack.headers),
        key=stack.folder,
        name=f"{modality.lower() or 'dicom'}-{part.digest}",
        modality=modality,
        axes=stack.axes,
        shape=stack.shape,
        dtype=str(stack.dtype),
        spacing=Grid(stack.axes, stack.shape, stack.affine).spacing,
        warnings=tuple(warnings),
    )


def _voxels(root: Path, stack: Stack) -> np.ndarray:
    """The volume in its final type, each plane through its own slope and intercept."""
    planes = [stored_plane(root, header) for header in stack.headers]
    if stack.headers[0].samples == RGB:
        return np.moveaxis(np.stack(planes), -1, 0)
    ranges = [
        StoredRange(plane.dtype, int(plane.min()), int(plane.max()), *header.rescale)
        for plane, header in zip(planes, stack.headers, strict=True)
    ]
    dtype = settled_type(stack.dtype, ranges)
    volume = np.empty(stack.shape, dtype)
    for k, header in enumerate(stack.headers):
        volume[k] = rescale(planes[k], *header.rescale, dtype)
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
    keywords = (*PHYSICS, "BitsStored", "PhotometricInterpretation", "PixelPaddingValue")
    found: dict[str, float | int | str] = {}
    for keyword in keywords:
        values = {h.values.get(keyword) for h in headers if not isinstance(h.values.get(keyword), Exception | tuple)}
        if len(values) == 1 and (value := values.pop()) is not None:
            found[keyword] = value
    rescales = {h.rescale for h in headers}
    if len(rescales) == 1 and headers[0].get("RescaleSlope") is not None:
        found["RescaleSlope"], found["RescaleIntercept"] = rescales.pop()
    return found
