"""HDF5 files of others: fastMRI, ITK, BigDataViewer, and any file by one of its data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ndvol.errors import NdvolError, SourceError, StoreError, UnknownNameError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.faults import reason
from ndvol.formats.guarded import in_child
from ndvol.formats.hdf5_datasets import Part, candidates, part_of, read_part
from ndvol.formats.hdf5_kinds import bdv_parts, fastmri_parts, is_bdv, is_fastmri, is_itk, itk_part
from ndvol.formats.values import as_stored
from ndvol.hdf5 import get_dataset, open_once
from ndvol.verdict import Verdict

_MAGIC = b"\x89HDF\r\n\x1a\n"
_OURS = (".h5", ".hdf5", ".medh5")
_SHARED = (".hdf", ".he5")
"""Suffixes that other formats use too."""


class Hdf5Reader:
    """Reads ``.h5``, ``.hdf5``, ``.hdf`` and ``.he5``.

    - fastMRI: ``reconstruction_rss`` and ``reconstruction_esc``, with the spacing of the ISMRMRD header. Where a file
      has both, they are images of one case.
    - BigDataViewer: level 0 of every setup over all times, with the voxel size of the XML file beside it.
    - ITK: the image with its place in LPS, as SimpleITK and `ndvol export --to portable` write it.
    - Any other file: the data set that `ReadOptions.dataset` names, else the only one that may be a volume.

    A data set names its axes by dimension labels, dimension scales (NetCDF-4), the attribute ``axes``,
    ``axistags`` (vigra, ilastik) or as an HDF5 image; without names two axes are y, x; three z, y, x; four t, z, y, x.
    ``element_size_um`` gives the spacing. The grid is ``LOCAL``, but for ITK's. Values keep their type.
    """

    name = "hdf5"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        series: list[Series] = []
        verdicts: list[Verdict] = []
        ours = [path for path in files if _is_hdf5(root, path)]
        # HDF5 loops for ever in the heaps of some damaged files (2 of 8,000 mutated ones).
        for path, found in zip(ours, in_child(partial(_file_series, root, options), ours), strict=True):
            if isinstance(found, NdvolError):
                verdicts.append(Verdict.refused(path, found))
            else:
                series += found
        claimed = {*ours, *(file for s in series for file in s.files)}
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed & set(files)))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        path = series.files[0]
        with _opened(root, path) as file:
            parts = {part.name: part for part in _parts(root, path, file, series.reading)}
            part = parts.get(series.recipe)
            if part is None or part.grid.shape != series.shape or str(part.dtype) != series.dtype:
                raise SourceError(f"{series.source} changed since it was scanned", code="changed")
            array, warnings = read_part(part, [get_dataset(file, name) for name in part.datasets])
        array = as_stored(array, part.grid.axes, series.source, as_label=as_label)
        return VolumeData(
            array,
            part.grid,
            modality=part.modality,
            attributes=part.attributes,
            warnings=(*part.warnings, *warnings),
        )


def _is_hdf5(root: Path, path: str) -> bool:
    """By suffix, and by content where other formats use the suffix too."""
    name = path.rpartition("/")[2].lower()
    if name.startswith(".") or not name.endswith((*_OURS, *_SHARED)):
        return False
    if name.endswith(_OURS):
        return True
    try:
        with (root / path).open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@contextmanager
def _opened(root: Path, path: str) -> Iterator[Any]:
    """The open file; whatever its bytes provoke in HDF5 becomes one error of ours."""
    try:
        with open_once(root / path) as file:
            yield file
    except (StoreError, UnknownNameError) as error:
        # A fault of this source: a StoreError would say that the bundle cannot be written.
        raise SourceError(reason(error, root), code=error.code) from error
    except NdvolError:
        raise
    except Exception as error:  # h5py raises whatever the bytes provoke
        raise SourceError(
            f"{path} cannot be read as HDF5",
            got=reason(error, root),
            hint="copy the file again",
            code="unreadable",
        ) from error


def _parts(root: Path, path: str, file: Any, options: ReadOptions) -> list[Part]:
    """The volumes of an open file."""
    size = (root / path).stat().st_size
    if "ndvol_format" in file.attrs:
        hint = "it needs no import: ndvol.open reads its bundle"
        raise SourceError(f"{path} is a case of an ndvol bundle", hint=hint, code="own-format")
    if options.dataset:
        return [part_of(path, get_dataset(file, options.dataset), size)]
    if path.lower().endswith(".medh5"):
        hint = "write its images and annotations as NIfTI (medh5.io.nifti.to_nifti) and import those"
        raise SourceError(f"{path} is a sample of medh5; not supported", hint=hint, code="medh5")
    if is_fastmri(file):
        return fastmri_parts(path, file, size)
    if is_itk(file):
        return [itk_part(path, file, size)]
    if is_bdv(file):
        return bdv_parts(root, path, file, size)
    found = candidates(file)
    if len(found) == 1:
        return [part_of(path, found[0], size)]
    if not found:
        raise SourceError(f"{path} holds no data set of real numbers on two axes or more", code="no-volume")
    listed = [f"{dataset.name} {dataset.shape} {dataset.dtype}" for dataset in found[:20]]
    raise SourceError(
        f"{path} holds {len(found)} data sets that may be volumes",
        got=", ".join(listed) + (" …" if len(found) > 20 else ""),
        expected="exactly one",
        hint="name the one to import with --dataset",
        code="several-datasets",
    )


def _file_series(root: Path, options: ReadOptions, path: str) -> list[Series] | NdvolError:
    """The series of one file, or why there are none."""
    try:
        with _opened(root, path) as file:
            return [_series(path, part, options) for part in _parts(root, path, file, options)]
    except NdvolError as error:
        return error


def _series(path: str, part: Part, options: ReadOptions) -> Series:
    stem = path.rpartition(".")[0]
    name = stem.rpartition("/")[2]
    apart = bool(part.name) and not part.of_case
    return Series(
        reader=Hdf5Reader.name,
        source=f"{path}#{part.name}" if part.name else path,
        files=(path, *part.files),
        key=f"{stem}#{part.name}" if apart else stem,
        name=f"{name}-{part.name}" if apart else name,
        modality=part.modality,
        axes=part.grid.axes,
        shape=part.grid.shape,
        dtype=str(part.dtype),
        spacing=None if part.grid.unit == "unknown" else part.grid.spacing,
        volume=part.name if part.of_case else "",
        warnings=part.warnings,
        reading=options,
        recipe=part.name,
    )
