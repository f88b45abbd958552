"""DICOM: images with a position and orientation (CT, MR, PET …) as volumes; classic, multi-frame or mosaic."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ndvol.errors import NdvolError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.dicom_doubts import differences
from ndvol.formats.dicom_files import examine
from ndvol.formats.dicom_headers import Header, uid_hash
from ndvol.formats.dicom_pixels import stored_planes
from ndvol.formats.dicom_series import Piece, Stack, common_folder, pieces_of, series_uid
from ndvol.formats.dicom_values import attributes, value_unit
from ndvol.formats.regridded import fill_value, padding_range, plane_facts
from ndvol.formats.values import Number, StoredRange, as_labels, rescale, settled_type
from ndvol.geometry import Grid
from ndvol.geometry.resampling import blended_type, resample_planes
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
    modality LUT applied). Padding is not replaced: the attribute ``PixelPaddingValueOutput`` is what a voxel that is
    padding holds in the volume (``PixelPaddingValue`` is the stored value, before the rescale).
    """

    name = "dicom"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        verdicts: list[Verdict] = []
        claimed: set[str] = set()
        unread: Counter[str] = Counter()
        others: dict[tuple[str, ...], list[str]] = defaultdict(list)
        planes: list[Header] = []
        for file in examine(root, files, jobs):
            claimed.add(file.path)
            planes += file.planes
            if file.error is not None:
                verdicts.append(Verdict.refused(file.path, file.error))
                unread[file.path.rpartition("/")[0]] += 1
            elif file.reason is not None:
                others[*file.reason, file.series].append(file.path)
                unread[file.path.rpartition("/")[0]] += file.reason[0] == "refused"
        for (status, code, message, _), paths in others.items():
            verdicts.append(Verdict(_source(paths), status, code, message, files=len(paths)))
        pieces = pieces_of(root, planes, options.on_gap)
        series, judged = _judge(pieces, unread)
        return Scan(tuple(series), tuple(verdicts + judged + _dropped(planes, pieces)), frozenset(claimed))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        stack: Stack = series.recipe
        array = _voxels(root, stack.as_read)
        facts = {**attributes(stack.headers), **stack.attributes}
        facts |= _masked(array, stack.as_read, facts, as_label=as_label)
        if as_label:
            array = as_labels(array, series.source)
        if stack.indices:
            axis, empty = stack.axes.index("z"), padding_range(facts)
            array = resample_planes(array, axis, stack.indices, nearest=as_label, padding=empty)
            facts |= plane_facts(interpolated_planes=stack.missing, source_planes=stack.indices)
        return VolumeData(
            array,
            Grid(stack.axes, stack.shape, stack.affine),
            modality=stack.headers[0].modality,
            value_unit=value_unit(stack.headers),
            attributes=facts,
            warnings=stack.warnings,
        )


def _source(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else common_folder(paths) or "."


def _dropped(planes: Sequence[Header], pieces: Sequence[Piece]) -> list[Verdict]:
    """Verdicts for the files that are copies of others, a verdict per series."""
    kept = {file for piece in pieces for file in piece.files}
    copies: dict[str, dict[str, None]] = defaultdict(dict)
    for plane in planes:
        if plane.path not in kept:
            copies[series_uid(plane)][plane.path] = None
    message = "the same UID and the same pixels as a file that was kept"
    return [Verdict(_source(list(f)), "skipped", "duplicate", message, files=len(f)) for f in copies.values()]


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
            message = f"one SeriesInstanceUID holds {len(group)} stacks {differences([p.planes for p in group])}"
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
        dtype=str(blended_type(stack.dtype) if stack.indices else stack.dtype),
        spacing=Grid(stack.axes, stack.shape, stack.affine).spacing,
        uid=uid_hash(first.text("SeriesInstanceUID")),
        frame=uid_hash(first.text("FrameOfReferenceUID")),
        warnings=tuple(warnings),
        recipe=stack,
        study=uid_hash(first.text("StudyInstanceUID")),
    )


def _voxels(root: Path, stack: Stack) -> np.ndarray:
    """The volume in its final type, each plane through its own slope and intercept."""
    planes: list[np.ndarray] = [np.empty(0)] * len(stack.headers)
    for index, plane in stored_planes(root, stack.headers):
        planes[index] = plane
    ranges = {
        StoredRange(plane.dtype, int(plane.min()), int(plane.max()), *header.rescale)
        for plane, header in zip(planes, stack.headers, strict=True)
        if plane.dtype.kind != "f"
    }
    dtype = settled_type(stack.dtype, ranges, signed=value_unit(stack.headers) == "HU")
    volume = np.empty(stack.shape, dtype)
    slots = _slots(volume, stack)
    present = [k for k in range(slots.shape[1]) if k not in set(stack.missing)]
    for k, header in enumerate(stack.headers):
        time, place = divmod(k, len(present))
        slots[time, present[place]] = rescale(planes[k], *header.rescale, dtype)
        planes[k] = planes[k][:0]
    return volume


def _slots(volume: np.ndarray, stack: Stack) -> np.ndarray:
    """Every plane as a view: times and slices in front, channels behind the pixels."""
    slots = np.moveaxis(volume, stack.axes.index("c"), -1) if "c" in stack.axes else volume
    return slots if stack.times else slots[None]


def _masked(
    volume: np.ndarray, stack: Stack, facts: Mapping[str, Number | str], *, as_label: bool
) -> dict[str, Number | str]:
    """Fill the places of missing planes, in place; what says so, as attributes."""
    if not stack.missing:
        return {}
    slots = _slots(volume, stack)
    present = np.delete(np.arange(slots.shape[1]), stack.missing)
    lowest = min(plane[k].min() for plane in slots for k in present).item()
    fill = 0 if as_label else fill_value(lowest, volume.dtype, facts)
    slots[:, list(stack.missing)] = fill
    return {**plane_facts(missing_planes=stack.missing), "missing_planes_fill": fill}
