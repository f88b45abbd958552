"""NRRD and MetaImage, the formats of ITK, MITK, Plastimatch and 3D Slicer; attached and detached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.bulk import FROM_END, check_sizes, confined, read_values
from ndvol.formats.faults import reason
from ndvol.formats.itk_header import Head, Text
from ndvol.formats.itk_meta import is_meta, meta_head, read_meta_text
from ndvol.formats.itk_nrrd import is_nrrd, nrrd_head, read_nrrd_text
from ndvol.formats.itk_segments import is_segmentation
from ndvol.formats.mapped import MappedSource, RawVoxels
from ndvol.formats.values import as_stored
from ndvol.verdict import Verdict
from ndvol.volumes import Volume


class ItkReader:
    """Reads ``.nrrd``, ``.nhdr``, ``.mha`` and ``.mhd``.

    The affine is the header's, oblique and sheared alike; a file without a patient space gets the frame
    ``LOCAL`` and a warning. Detached data files must lie in the header's folder or below, and belong to its series.
    Values keep their stored type. A segmentation of 3D Slicer says so by the modality ``SEG``, and its label
    volume has the names of its segments as `VolumeData.layers`.
    """

    name = "itk"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        series: list[Series] = []
        verdicts: list[Verdict] = []
        claimed: set[str] = set()
        for path in files:
            if path.rpartition("/")[2].startswith(".") or not (is_nrrd(path) or is_meta(path)):
                continue
            claimed.add(path)
            try:
                text = _read_text(root, path)
                claimed.update(_data_files(root, text))
                series.append(_series(_head(root, text)))
            except NdvolError as error:
                verdicts.append(Verdict.refused(path, error))
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed & set(files)))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        head = _head(root, _read_text(root, series.files[0]))
        if (head.grid.shape, _files(head)) != (series.shape, series.files):
            raise SourceError(f"{series.source} changed since it was scanned", code="changed")
        flat, warnings = read_values(root, head.path, head.layout)
        array = head.canonical(flat)
        axes = "" if head.segments else head.grid.axes  # the channels of a segmentation are its layers
        array = as_stored(array, axes, series.source, as_label=as_label)
        return VolumeData(
            array,
            head.grid,
            modality=head.modality,
            attributes=head.attributes,
            warnings=(*head.warnings, *warnings),
            layers=head.segments if as_label else (),
        )

    def in_place(self, root: Path, series: Series) -> Volume | None:
        """See `InPlaceReader`: raw voxels in one file."""
        head = _head(root, _read_text(root, series.files[0]))
        layout = head.layout
        if layout.encoding != "raw" or len(layout.files) > 1 or layout.lines:
            return None
        file = root / layout.files[0]
        offset = layout.start + layout.skip if layout.skip != FROM_END else file.stat().st_size - layout.share
        order = tuple(head.file_axes.index(a) for a in head.grid.axes)
        source = MappedSource(RawVoxels(file, layout.dtype, offset, head.file_shape, order))
        attributes = {**head.attributes, "modality": head.modality, "value_unit": ""}
        return Volume("image", head.grid, source, attributes)


def _read_text(root: Path, path: str) -> Text:
    try:
        return read_nrrd_text(root, path) if is_nrrd(path) else read_meta_text(root, path)
    except (OSError, ValueError, OverflowError) as error:
        raise _unreadable(root, path, error) from error


def _head(root: Path, text: Text) -> Head:
    try:
        head = nrrd_head(root, text) if is_nrrd(text.path) else meta_head(root, text)
        check_sizes(root, text.path, head.layout)
    except (OSError, ValueError, OverflowError) as error:
        raise _unreadable(root, text.path, error) from error
    return head


def _unreadable(root: Path, path: str, error: Exception) -> NdvolError:
    if isinstance(error, NdvolError):
        return error
    return SourceError(
        f"the header of {path} cannot be read", got=reason(error, root), hint="copy the file again", code="unreadable"
    )


def _data_files(root: Path, text: Text) -> set[str]:
    """The detached files that the header may have, whatever else is wrong with it."""
    found = set()
    for name in text.names:
        try:
            found.add(confined(root, text.path, name))
        except SourceError:
            continue
    return found


def _files(head: Head) -> tuple[str, ...]:
    return tuple(dict.fromkeys((head.path, *head.layout.files)))


def _series(head: Head) -> Series:
    stem = head.path[: -len(".seg.nrrd")] if is_segmentation(head.path) else head.path.rpartition(".")[0]
    return Series(
        reader=ItkReader.name,
        source=head.path,
        files=_files(head),
        key=stem,
        name=stem.rpartition("/")[2],
        modality=head.modality,
        axes=head.grid.axes,
        shape=head.grid.shape,
        dtype=str(head.layout.dtype.newbyteorder("=")),
        spacing=None if head.grid.unit == "unknown" else head.grid.spacing,
        warnings=head.warnings,
    )
