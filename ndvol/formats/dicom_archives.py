"""DICOM in zip and tar archives, as hospitals and public collections hand it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, LabelData, Reader, ReadOptions, Scan, Series, StructureReader, VolumeData
from ndvol.formats.archives import archive_kind
from ndvol.formats.dicom import DicomReader
from ndvol.formats.dicom_headers import may_be_dicom
from ndvol.formats.dicom_seg import DicomSegReader
from ndvol.formats.members import MARK, members
from ndvol.formats.rtstruct import RtstructReader
from ndvol.geometry import Grid
from ndvol.verdict import Verdict

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
_INSIDE: tuple[Reader, ...] = (DicomReader(), DicomSegReader(), RtstructReader())


class DicomArchiveReader:
    """Reads DICOM images and structures out of ``.zip``, ``.tar``, ``.tar.gz`` and ``.tgz``.

    What is in one archive is judged as a folder of that name would be; sources are called ``study.zip!/folder``.
    Archives inside archives are refused. An archive without DICOM is left alone.
    """

    name = "dicom-archives"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        found = [_scan(root, path, options, jobs) for path in files if _is_archive(root, path)]
        return Scan(
            tuple(series for scan in found for series in scan.series),
            tuple(verdict for scan in found for verdict in scan.verdicts),
            frozenset(path for scan in found for path in scan.claimed),
        )

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        reader, inside = _inside(series)
        return reader.read(root, inside, as_label=as_label)

    def read_structures(self, root: Path, series: Series, grid: Grid) -> tuple[LabelData, ...]:
        reader, inside = _inside(series)
        if not isinstance(reader, StructureReader):
            raise SourceError(f"{series.source} holds no structures", code="voxel-type")
        return reader.read_structures(root, inside, grid)


def _is_archive(root: Path, path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    return name.endswith(SUFFIXES) and not name.startswith(".") and archive_kind(root / path) in ("zip", "tar")


def _scan(root: Path, path: str, options: ReadOptions, jobs: int) -> Scan:
    """What one archive holds, under the archive's own path as the only file of every series."""
    try:
        names = [f"{path}{MARK}{name}" for name in sorted(members(root / path))]
    except NdvolError as error:
        return Scan((), (Verdict.refused(path, error),), frozenset([path]))
    left = [name for name in names if may_be_dicom(root, name)]
    series: list[Series] = []
    verdicts: list[Verdict] = []
    claimed: set[str] = set()
    for reader in _INSIDE:
        scan = reader.scan(root, [name for name in left if name not in claimed], options, jobs=jobs)
        series += (replace(s, reader=DicomArchiveReader.name, files=(path,), recipe=s) for s in scan.series)
        verdicts += scan.verdicts
        claimed |= scan.claimed
    if not claimed:
        return Scan()
    others = [name for name in names if name not in claimed]
    for name in others:
        if name.lower().endswith(SUFFIXES):
            nested = SourceError(f"{name} is an archive in an archive", hint="unpack it first", code="nested-archive")
            verdicts.append(Verdict.refused(name, nested))
    if others:
        message = f"{len(others)} of its {len(names)} files are no DICOM that ndvol reads"
        verdicts.append(Verdict(path, "skipped", "unknown-format", message, files=len(others)))
    return Scan(tuple(series), tuple(verdicts), frozenset([path]))


def _inside(series: Series) -> tuple[Reader, Series]:
    """The reader of a series of an archive, and the series as that reader knows it."""
    inside: Series = series.recipe
    reader = next(reader for reader in _INSIDE if reader.name == inside.reader)
    return reader, replace(inside, source=series.source)
