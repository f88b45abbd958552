"""What DICOM objects with structures have in common: how they are found and opened, and their elements read."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import Scan, Series
from ndvol.formats.dicom_deflate import dicom_head, open_dicom
from ndvol.formats.dicom_headers import known_uid, read_header, uid_hash
from ndvol.formats.faults import reason
from ndvol.formats.members import are_equal
from ndvol.geometry import Grid
from ndvol.verdict import Verdict


@dataclass(frozen=True, slots=True)
class StructureKind:
    """A kind of DICOM object that holds structures.

    Attributes
    ----------
    reader : name of the reader.
    modality : of its series.
    sop_classes : UIDs of the SOP classes.
    keywords : elements that `references` looks at.
    references : UIDs of the frames of reference, and of the image series, that a data set points to.
    """

    reader: str
    modality: str
    sop_classes: tuple[str, ...]
    keywords: tuple[str, ...]
    references: Callable[[pydicom.Dataset], tuple[Iterable[str], Iterable[str]]]


def scan_structures(kind: StructureKind, root: Path, files: Sequence[str]) -> Scan:
    """One series per file of `kind`; a file whose header cannot be read is left to the reader of images."""
    found: dict[str, list[Series]] = defaultdict(list)
    verdicts: list[Verdict] = []
    claimed: set[str] = set()
    for path in files:
        if not _may_be(kind, root / path):
            continue
        try:
            header = read_header(root, path)
        except NdvolError:
            continue
        if header is None or header.values["SOPClassUID"] not in kind.sop_classes:
            continue
        claimed.add(path)
        try:
            uid = header.text("SOPInstanceUID") or path
            with decoding(root, path):
                dataset = _dataset(root, path, kind.keywords, header.syntax)
                series = _series(kind, path, uid, header.text("SeriesInstanceUID"), dataset)
            found[uid].append(series)
        except NdvolError as error:
            verdicts.append(Verdict.refused(path, error))
    kept: list[Series] = []
    for copies in found.values():
        first, judged = _without_copies(root, copies)
        kept += first
        verdicts += judged
    return Scan(tuple(kept), tuple(verdicts), frozenset(claimed))


def _may_be(kind: StructureKind, file: Path) -> bool:
    """Whether the UID of a SOP class of `kind` stands in the head: a large tree is not parsed once per reader.

    It stands in the meta information or among the first elements of the data set (PS3.10 7.1).
    """
    try:
        head = dicom_head(file)
    except (OSError, SourceError):
        return False
    return any(uid.encode() in head for uid in kind.sop_classes)


def _series(kind: StructureKind, path: str, instance: str, series_uid: str, dataset: pydicom.Dataset) -> Series:
    frames, refers_to = kind.references(dataset)
    known_frames = {str(uid) for uid in frames if uid}
    if len(known_frames) > 1:
        raise SourceError(
            f"the structures of {path} lie in {len(known_frames)} frames of reference",
            expected="one",
            hint="export the structures of each image to a file of their own",
            code="several-frames",
        )
    return Series(
        reader=kind.reader,
        source=path,
        files=(path,),
        key=path.rpartition("/")[0],
        name=f"{kind.modality.lower()}-{sha256(instance.encode()).hexdigest()[:8]}",
        modality=kind.modality,
        axes="",
        shape=(),
        dtype="",
        spacing=None,
        uid=uid_hash(series_uid) if series_uid else "",
        frame="".join(uid_hash(uid) for uid in known_frames),
        refers_to=tuple(uid_hash(uid) for uid in dict.fromkeys(str(u) for u in refers_to if u)),
    )


def _without_copies(root: Path, series: Sequence[Series]) -> tuple[Sequence[Series], list[Verdict]]:
    """Of files that share a SOPInstanceUID the first if they are equal byte for byte, else none."""
    if len(series) == 1:
        return series, []
    first, *others = series
    try:
        same = all(are_equal(root / first.files[0], root / s.files[0]) for s in others)
    except OSError:
        same = False
    if same:
        message = f"a copy of {first.source} (same SOPInstanceUID, same bytes)"
        return [first], [Verdict(s.source, "skipped", "duplicate", message) for s in others]
    error = SourceError(
        f"{', '.join(s.source for s in series)} carry the same SOPInstanceUID but differ",
        hint="keep the right one",
        code="duplicate-uid",
    )
    return [], [Verdict.refused(s.source, error) for s in series]


@contextmanager
def decoding(root: Path, path: str) -> Iterator[None]:
    """Turns whatever pydicom and numpy raise on the bytes of `path` into a SourceError; quiet about the rest."""
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except NdvolError:
        raise
    except Exception as error:
        raise SourceError(
            f"{path} cannot be read: it is cut, damaged or not what it says",
            got=reason(error, root),
            hint="copy or export the file again",
            code="unreadable",
        ) from error


def open_structures(kind: StructureKind, root: Path, series: Series) -> pydicom.Dataset:
    """The whole data set of a series that `scan_structures` found."""
    path = series.files[0]
    header = read_header(root, path)
    if header is None or header.values["SOPClassUID"] not in kind.sop_classes:
        raise SourceError(f"{path} changed since it was scanned", hint="scan the folder again", code="changed")
    return _dataset(root, path, None, header.syntax)


def _dataset(root: Path, path: str, keywords: Sequence[str] | None, syntax: str) -> pydicom.Dataset:
    tags = None if keywords is None else ["SpecificCharacterSet", *keywords]
    with open_dicom(root / path, path) as source:
        dataset = pydicom.dcmread(source, force=True, stop_before_pixels=keywords is not None, specific_tags=tags)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = known_uid(syntax)
    return dataset


def no_volume(series: Series) -> SourceError:
    """The error for reading structures as if they were an image."""
    return SourceError(
        f"{series.source} holds structures drawn on an image, not a volume of its own",
        hint="import it together with its image",
        code="structures-only",
    )


def spatial_shape(grid: Grid, source: str) -> tuple[int, ...]:
    """Voxels per spatial axis of an image that structures can be placed on."""
    if grid.frame != "LPS":
        raise SourceError(
            f"{source} cannot be placed: the image has no position in the patient",
            got=f"frame {grid.frame}",
            expected="LPS",
            hint="import the image that the structures were drawn on from its DICOM files",
            code="label-no-geometry",
        )
    return tuple(grid.shape[i] for i in grid.spatial)


def items(dataset: pydicom.Dataset | None, keyword: str) -> Sequence[pydicom.Dataset]:
    """The items of a sequence; none when it is absent or empty."""
    value = None if dataset is None else dataset.get(keyword)
    return () if value is None else tuple(value)


def numbers(dataset: pydicom.Dataset | None, keyword: str, count: int, where: str) -> NDArray[np.float64]:
    """`count` finite numbers of an element that must be there."""
    value = None if dataset is None else dataset.get(keyword)
    try:
        found = np.array(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise SourceError(
            f"{keyword} of {where} is not {count} finite number{'s' if count > 1 else ''}",
            got="nothing" if value is None else f"{str(value)[:80]!r}",
            hint="export the file again",
            code="bad-header",
        )
    return found
