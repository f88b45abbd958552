"""DICOM Segmentation (PS3.3 A.51, C.8.20): frames of binary, fractional or label-map segments, placed by geometry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats import DEFAULT_READING, LabelData, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.layers import Piece, Structure, annotated, clean_name, label_volumes, listing
from ndvol.formats.seg_frames import LABELMAP_SEG, SEG, Frames
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
from ndvol.geometry.planes import RESIDUAL_MM, RESIDUAL_SHARE

LATTICE_TOLERANCE = 0.01
"""Share of a voxel by which the centre of a segmentation's voxel may miss the centre of an image's."""


def _references(dataset: pydicom.Dataset) -> tuple[Iterable[str], Iterable[str]]:
    series = [item.get("SeriesInstanceUID") for item in items(dataset, "ReferencedSeriesSequence")]
    return [dataset.get("FrameOfReferenceUID")], series


KIND = StructureKind(
    reader="dicom-seg",
    modality="SEG",
    sop_classes=(SEG, LABELMAP_SEG),
    keywords=("FrameOfReferenceUID", "ReferencedSeriesSequence"),
    references=_references,
)


class DicomSegReader:
    """Reads DICOM SEG objects of all three types as label volumes on the grid of their image.

    Each frame goes where its own functional groups (PS3.3 C.7.6.16) put it, whatever order the frames have and
    however the image was turned since; frames that are not there are background. The value of a segment is its
    SegmentNumber; a voxel belongs to a fractional segment from a share of `FRACTION` on. Segments without a voxel
    stay among the categories: somebody looked and found nothing.
    """

    name = KIND.reader

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        return scan_structures(KIND, root, files)

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        raise no_volume(series)

    def read_structures(self, root: Path, series: Series, grid: Grid) -> tuple[LabelData, ...]:
        """The segments of a file on the spatial `grid` of the image.

        Raises
        ------
        SourceError : code ``label-off-grid`` where a voxel of a segment misses the image's voxels by more than
            `LATTICE_TOLERANCE`, ``label-outside`` where it lies beyond them, and others for what cannot be read.
        """
        path = series.source
        with decoding(root, path):
            shape = spatial_shape(grid, path)
            dataset = open_structures(KIND, root, series)
            frames = Frames.of(dataset, path)
            names, originals, warnings = _names(dataset, frames, path)
            found = _structures(dataset, frames, grid, names)
            empty: list[str] = []
            volumes = label_volumes("segmentation", shape, _noting_empty(found, empty), highest=max(names), source=path)
            if empty:
                warnings.append(f"segments without a voxel: {listing(empty)}")
            return annotated(volumes, [*frames.warnings, *warnings], originals)


def _names(dataset: pydicom.Dataset, frames: Frames, path: str) -> tuple[dict[int, str], dict[int, str], list[str]]:
    """SegmentNumber -> cleaned SegmentLabel (PS3.3 C.8.20.4), ascending; the labels that were changed; warnings."""
    names: dict[int, str] = {}
    originals: dict[int, str] = {}
    warnings = []
    for item in items(dataset, "SegmentSequence"):
        number = int(numbers(item, "SegmentNumber", 1, f"a segment of {path}")[0])
        if frames.kind == "LABELMAP" and number == frames.background:
            continue
        if number in names or not 0 < number < 2**16:
            raise SourceError(
                f"the segments of {path} are not numbered",
                got=f"SegmentNumber {number} {'twice' if number in names else ''}".rstrip(),
                expected="numbers of their own from 1 to 65535",
                hint="export the segmentation again",
                code="bad-segments",
            )
        names[number], warning = clean_name(item.get("SegmentLabel"), f"segment {number}")
        warnings.append(warning)
        if warning and item.get("SegmentLabel"):
            originals[number] = str(item.SegmentLabel)
    if not names:
        raise SourceError(f"{path} names no segment", expected="items in SegmentSequence", code="bad-segments")
    return dict(sorted(names.items())), originals, warnings


def _structures(dataset: pydicom.Dataset, frames: Frames, grid: Grid, names: Mapping[int, str]) -> Iterator[Structure]:
    """The segments in order of their numbers; one at a time, for a hundred organs do not fit into memory at once."""
    if frames.kind == "LABELMAP":
        pieces = _label_map_pieces(frames, grid, names)
        yield from (Structure(number, name, pieces[number]) for number, name in names.items())
        return
    shown: dict[int, list[int]] = defaultdict(list)
    for k in range(frames.count):
        shown[frames.segment(k, names)].append(k)
    _check_known(shown, names, frames.path)
    for number, name in names.items():
        once = _once(frames, shown[number], f"segment {number}")
        found = (_placed(frames, k, frames.stored(k) >= frames.threshold, grid) for k in once)
        yield Structure(number, name, [piece for piece in found if piece is not None])


def _once(frames: Frames, shown: Iterable[int], what: str) -> Iterator[int]:
    """Those frames `shown` that repeat none before them: a frame stored twice counts once, unless the two differ."""
    first: dict[str, int] = {}
    for k in shown:
        place = frames.group(k, "PlanePositionSequence")
        at = str(f"frame {k}" if place is None else place.get("ImagePositionPatient"))
        if first.setdefault(at, k) == k:
            yield k
        elif not np.array_equal(frames.stored(k), frames.stored(first[at])):
            raise SourceError(
                f"two frames of {frames.path} show {what} in one place, and differ",
                got=f"frames {first[at]} and {k} at {at}",
                expected="one frame per segment and plane",
                hint="export the segmentation again",
                code="doubled-frames",
            )


def _label_map_pieces(frames: Frames, grid: Grid, names: Mapping[int, str]) -> dict[int, list[Piece]]:
    pieces: dict[int, list[Piece]] = defaultdict(list)
    for k in _once(frames, range(frames.count), "labels"):
        stored = frames.stored(k)
        values = {int(v) for v in np.unique(stored)} - {frames.background}
        _check_known(values, names, frames.path)
        for value in values:
            piece = _placed(frames, k, stored == value, grid)
            assert piece is not None
            pieces[value].append(piece)
    return pieces


def _check_known(found: Iterable[int], names: Mapping[int, str], path: str) -> None:
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise SourceError(
            f"frames of {path} show segments that SegmentSequence does not name",
            got=listing(map(str, unknown)),
            expected=f"one of {listing(map(str, names))}",
            hint="export the segmentation again",
            code="bad-segments",
        )


def _noting_empty(structures: Iterable[Structure], empty: list[str]) -> Iterator[Structure]:
    for structure in structures:
        if not structure.pieces:
            empty.append(structure.name)
        yield structure


def _placed(frames: Frames, k: int, mask: NDArray[np.bool_], grid: Grid) -> Piece | None:
    """The voxels of frame `k` on the image's grid; None when it has none."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    first, steps = _lattice(frames, k, grid)
    low, high = (int(rows[0]), int(columns[0])), (int(rows[-1]), int(columns[-1]))
    ends = np.array([first + np.array(at) @ steps for at in (low, high)])
    start, stop = ends.min(0), ends.max(0)
    shape = np.array([grid.shape[i] for i in grid.spatial])
    if (start < 0).any() or (stop >= shape).any():
        raise SourceError(
            f"frame {k} of {frames.path} has voxels outside the image",
            got=f"voxels {start.tolist()} to {stop.tolist()} of the image",
            expected=f"[0, 0, 0] to {(shape - 1).tolist()}",
            hint="import it with all slices of the image that it was drawn on",
            code="label-outside",
        )
    cut = mask[low[0] : high[0] + 1, low[1] : high[1] + 1]
    axes = [int(np.flatnonzero(step)[0]) for step in steps]
    cut = cut[:: steps[0, axes[0]], :: steps[1, axes[1]]]
    if axes[0] > axes[1]:
        cut = cut.T
    return Piece(tuple(start.tolist()), np.expand_dims(cut, 3 - sum(axes)))


def _lattice(frames: Frames, k: int, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The image's voxel at the first voxel of frame `k`, and the steps (2, 3) from row to row and column to column.

    Geometry by PS3.3 C.7.6.2.1.1; a plane may be as far off along the third axis as `stack_planes` allows the
    image's own planes to be.
    """
    where = f"frame {k} of {frames.path}"
    position = numbers(frames.group(k, "PlanePositionSequence"), "ImagePositionPatient", 3, where)
    cosines = numbers(frames.group(k, "PlaneOrientationSequence"), "ImageOrientationPatient", 6, where)
    spacing = numbers(frames.group(k, "PixelMeasuresSequence"), "PixelSpacing", 2, where)
    down, right = cosines[3:] * spacing[0], cosines[:3] * spacing[1]
    last_row, last_column = frames.shape[0] - 1, frames.shape[1] - 1
    corners = [position + r * down + c * right for r in (0, last_row) for c in (0, last_column)]
    found = grid.index([*corners, position + down, position + right])
    exact = found[4:] - found[0]
    steps, first = np.rint(exact), np.rint(found[0])
    wanted = first + np.array([[r, c] for r in (0, last_row) for c in (0, last_column)]) @ steps
    off = np.abs(found[:4] - wanted).max(0)
    allowed = np.full(3, LATTICE_TOLERANCE)
    along = ~steps.any(0)
    allowed[along] += np.maximum(RESIDUAL_MM / np.array(grid.spacing)[along], RESIDUAL_SHARE)
    if not (np.abs(steps).sum(1) == 1).all() or along.sum() != 1 or not (off <= allowed).all():
        raise SourceError(
            f"the voxels of {where} do not lie on the voxels of the image",
            got=f"steps of {np.round(exact, 4).tolist()} voxels of the image, first voxel at "
            f"{np.round(found[0], 4).tolist()}, up to {np.round(off, 4).tolist()} off",
            expected=f"steps of one voxel, at most {np.round(allowed, 4).tolist()} off",
            hint="resample the segmentation to the image, or import it with the image that it was drawn on",
            code="label-off-grid",
        )
    return first.astype(np.int64), steps.astype(np.int64)
