"""DICOM SEG out: label volumes as segmentations of the very series that their cases were imported from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndvol.catalog import Catalog
from ndvol.errors import GridError, OptionError, SourceError
from ndvol.exporting.cases import Refused, each_case, put
from ndvol.formats import ReadOptions, Series
from ndvol.formats.dicom import DicomReader
from ndvol.formats.seg_writing import Segmentation, encode_segmentation, series_grid
from ndvol.geometry.lattice import place_on
from ndvol.store import file_sha256, read_provenance
from ndvol.volumes import Case, LabelVolume

TOLERANCE = 1e-3
"""Voxels; the grids of a label volume and its source are one up to the rounding of their affines."""


def export_seg(
    catalog: Catalog, folder: str | Path, source: str | Path, *, algorithm: str = "", progress: bool = False
) -> Refused:
    """Write ``<case>/<label>.dcm``: every label volume as a DICOM SEG of the series that its case was imported from.

    A SEG belongs to a patient, a study and the images that it was drawn on, and a bundle names none of them: they are
    taken from the original files. A file counts as the original when it is the same, byte for byte.

    Parameters
    ----------
    source : folder (or multi-frame file) that the bundle was imported from, or one that holds the same DICOM files.
    algorithm : name and version of the program that made the labels, to be told by each segment; empty: people drew
        them (SegmentAlgorithmType MANUAL).

    Returns
    -------
    the cases that have no such SEG, with the reason; the others are written. A case has all its SEGs or none.

    Raises
    ------
    StoreError : when `folder` is not empty, or cannot be written.
    SourceError : when there is no DICOM series below `source`.
    """
    archive = _Archive.of(Path(source))

    def write(name: str, case: Case, root: Path) -> None:
        if not case.labels:
            raise OptionError(f"case {case.name!r} has no label volume to write as SEG")
        originals = archive.originals(case.name, catalog.record(case.name).path)
        # All of them first: a case is written as a whole or not at all.
        files = {label.name: archive.encoded(label, originals, algorithm) for label in case.labels.values()}
        for label, data in files.items():
            put(root / name / f"{label}.dcm", data)

    return each_case(catalog, Path(folder), write, progress)


def save_seg(label: LabelVolume, file: str | Path, source: str | Path, *, algorithm: str = "") -> None:
    """Write one label volume, a prediction for example, as a DICOM SEG of the series below `source` that has its grid.

    That the series is the right one is the caller's word: two patients' series may lie on one grid.

    Raises
    ------
    GridError : when no series, or more than one, lies on the label volume's grid; others as `export_seg`.
    """
    archive = _Archive.of(Path(source))
    put(Path(file), archive.encoded(label, archive.series, algorithm))


@dataclass(frozen=True, slots=True)
class _Archive:
    """The DICOM image series below a folder."""

    root: Path
    series: tuple[Series, ...]

    @classmethod
    def of(cls, source: Path) -> _Archive:
        root, found = (source.parent, [source]) if source.is_file() else (source, source.rglob("*"))
        files = sorted(path.relative_to(root).as_posix() for path in found if path.is_file())
        # A series that lacks planes may have been imported with --on-gap mask.
        scan = DicomReader().scan(root, files, ReadOptions(on_gap="mask"))
        if not scan.series:
            raise SourceError(
                f"there is no DICOM image series in {source}",
                got=f"{len(files)} files",
                hint="give the folder that the bundle was imported from",
                code="no-such-source",
            )
        return cls(root, scan.series)

    def originals(self, case: str, path: str) -> tuple[Series, ...]:
        """The series that a case, whose file is `path`, was imported from."""
        rows = [set(row["sha256"]) for row in read_provenance(path).get("sources", [])]
        sizes = {len(row) for row in rows}
        found = [s for s in self.series if len(s.files) in sizes and self._digests(s) in rows]
        if not found:
            raise SourceError(
                f"no DICOM series below {self.root} is one that case {case!r} was imported from",
                got=f"{len(self.series)} series, none of the same files byte for byte",
                hint="give the folder that the case was imported from; labels of other sources export as NIfTI",
                code="no-such-source",
            )
        return tuple(found)

    def _digests(self, series: Series) -> set[str]:
        try:
            return {file_sha256(self.root / file) for file in series.files}
        except OSError as error:
            raise SourceError(f"cannot read {series.source}", got=error, code="unreadable") from error

    def encoded(self, label: LabelVolume, among: Sequence[Series], algorithm: str) -> bytes:
        """The SEG of a label volume on the one series of `among` that has its grid."""
        if label.axes != "zyx":
            raise GridError(f"a SEG holds z, y, x only: label volume {label.name!r}", got=label.axes)
        grids = [(series, series_grid(series)) for series in among]
        placed = [(s, place_on(label.grid, grid, tolerance=TOLERANCE), grid.shape) for s, grid in grids]
        fitting = [(s, p[0]) for s, p, shape in placed if p and not any(p[1]) and p[0].grid(label.grid).shape == shape]
        if len(fitting) != 1:
            shown = [f"{series.source}: {grid.shape}, steps {np.round(grid.spacing, 4)}" for series, grid in grids]
            raise GridError(
                f"label volume {label.name!r} lies on the voxels of {len(fitting)} series",
                got=f"{label.shape}, steps {np.round(label.grid.spacing, 4)}",
                expected=f"one of {'; '.join(shown[:5])}",
                hint="give a folder with that series alone; what was resampled, deskewed or cropped exports as NIfTI",
                code="no-source-grid",
            )
        [(series, turn)] = fitting
        array = turn.array(np.asarray(label), axes=label.axes)
        return encode_segmentation(self.root, series, Segmentation(label.name, array, label.categories, algorithm))
