"""Neuroimaging beside NIfTI: FreeSurfer MGH/MGZ, MINC, Philips PAR/REC and AFNI, through nibabel's headers."""

from __future__ import annotations

import gzip
import re
import warnings as python_warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.brikhead import AFNIHeader
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.parrec import PARRECHeader
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.bulk import Layout, check_sizes, confined, read_values
from ndvol.formats.faults import reason
from ndvol.formats.minc import is_minc, read_minc, read_minc_head
from ndvol.formats.values import StoredRange, as_stored, rescale, volume_type
from ndvol.geometry import Grid
from ndvol.verdict import Verdict

_MGH_BYTES = 284
"""Header in front of the voxels (FreeSurfer wiki, FsTutorial/MghFormat)."""
_AFNI_TEXT = re.compile(rb"^\s*type\s*=\s*(string|integer|float)-attribute", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the header of one file says.

    Attributes
    ----------
    scaling : slope and intercept per plane of the volume, in storage order, shape (planes, 2); None for (1, 0).
    planes : where each plane of the volume is among the planes of the file; None when in order.
    """

    path: str
    layout: Layout
    grid: Grid
    scaling: NDArray[np.float64] | None = None
    planes: NDArray[np.intp] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.path, *self.layout.files)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The volume's type as far as the header decides it."""
        native = self.layout.dtype.newbyteorder("=")
        if self.scaling is None:
            return native
        if native.kind == "f":
            return np.dtype(np.result_type(native, np.float32))
        low, high = int(np.iinfo(native).min), int(np.iinfo(native).max)
        pairs = np.unique(self.scaling, axis=0)
        return volume_type(StoredRange(native, low, high, float(s), float(i)) for s, i in pairs)

    def volume(self, flat: NDArray[Any]) -> NDArray[Any]:
        """The real values in storage order, plane by plane so that temporaries stay small."""
        planes = flat.reshape(-1, *self.grid.shape[-2:])
        if self.scaling is None and self.planes is None:
            return flat.reshape(self.grid.shape)
        order = np.arange(len(planes)) if self.planes is None else self.planes
        out = np.empty((len(order), *planes.shape[1:]), self.dtype)
        for k, source in enumerate(order):
            slope, inter = (1.0, 0.0) if self.scaling is None else self.scaling[k].tolist()
            out[k] = rescale(planes[source], slope, inter, self.dtype)
        return out.reshape(self.grid.shape)


class NeuroReader:
    """Reads ``.mgh``, ``.mgz``, ``.mnc``, ``.par``/``.rec`` and AFNI ``.HEAD``/``.BRIK``.

    Affines are nibabel's. PAR/REC gives display values (``PV * slope + intercept``), MINC real values,
    AFNI its float factors applied; integers where all of these are whole numbers, else float32.
    """

    name = "neuro"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        series: list[Series] = []
        verdicts: list[Verdict] = []
        claimed: set[str] = set()
        for path in files:
            kind = _kind(root, path)
            if not kind:
                continue
            partner = _partner(root, path, kind)
            claimed |= {path, partner} - {""}
            try:
                series.append(_minc_series(root, path) if kind == "mnc" else _series(_head(root, path, kind, partner)))
            except NdvolError as error:
                verdicts.append(Verdict.refused(path, error))
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed & set(files)))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        path = series.files[0]
        kind = _kind(root, path)
        warnings: Sequence[str] = ()
        if kind == "mnc":
            with _faults(root, path, "voxels"):
                minc, array = read_minc(path, root / path)
            grid = minc.grid
        else:
            head = _head(root, path, kind, _partner(root, path, kind))
            grid, warnings = head.grid, head.warnings
        if grid.shape != series.shape:
            raise SourceError(f"{series.source} changed since it was scanned", code="changed")
        if kind != "mnc":
            flat, more = read_values(root, path, head.layout)
            # FreeSurfer writes its tags behind the voxels.
            warnings = warnings if kind == "mgh" else [*warnings, *more]
            array = head.volume(flat)
        array = as_stored(array, grid.axes, series.source, as_label=as_label)
        return VolumeData(array, grid, modality=series.modality, warnings=tuple(warnings))


def _kind(root: Path, path: str) -> str:
    """Which format a file has, by suffix and, where others use that suffix too, by content; else empty."""
    name = path.rpartition("/")[2].lower()
    if name.startswith("."):
        return ""
    if name.endswith((".mgh", ".mgz", ".mgh.gz")):
        return "mgh"
    try:
        if name.endswith(".mnc"):
            with _quiet():
                return "mnc" if is_minc(root / path) else ""
        if name.endswith((".par", ".head")):
            with (root / path).open("rb") as stream:
                start = stream.read(4096)
            is_par = b"DATA DESCRIPTION FILE" in start
            return "par" if name.endswith(".par") and is_par else "afni" if _AFNI_TEXT.search(start) else ""
    except OSError as error:
        # The file is ours by its name; what ails it is told where its header is read.
        return "mnc" if name.endswith(".mnc") and not isinstance(error, FileNotFoundError) else ""
    return ""


def _partner(root: Path, path: str, kind: str) -> str:
    """The voxels' file of a header; empty when it is missing or the format has none."""
    suffixes = {"par": (".rec", ".REC", ".Rec"), "afni": (".BRIK", ".BRIK.gz", ".brik", ".brik.gz")}.get(kind, ())
    stem = path[:-4] if kind == "par" else path[:-5]
    return next((stem + s for s in suffixes if (root / (stem + s)).is_file()), "")


@contextmanager
def _quiet() -> Iterator[None]:
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        yield


@contextmanager
def _faults(root: Path, path: str, what: str) -> Iterator[None]:
    """Whatever the bytes provoke in nibabel as one error of ours."""
    try:
        with _quiet():
            yield
    except NdvolError:
        raise
    except Exception as error:
        raise SourceError(
            f"the {what} of {path} cannot be read",
            got=reason(error, root),
            hint="copy the file again",
            code="truncated" if what == "voxels" else "unreadable",
        ) from error


def _head(root: Path, path: str, kind: str, partner: str) -> _Head:
    if kind in ("par", "afni") and not partner:
        raise SourceError(
            f"the voxels of {path} are not there",
            expected="a .REC file of the same name" if kind == "par" else "a .BRIK or .BRIK.gz of the same name",
            hint="copy both files",
            code="missing-file",
        )
    if partner:
        confined(root, path, partner.rpartition("/")[2])
    with _faults(root, path, "header"):
        if kind == "mgh":
            head = _mgh_head(root, path)
        else:
            head = _par_head(root, path, partner) if kind == "par" else _afni_head(root, path, partner)
        check_sizes(root, path, head.layout)
        if head.scaling is not None and not np.isfinite(head.scaling).all():
            raise SourceError(f"{path} scales its values by numbers that are none", code="rescale")
        return head


def _layout(path: str, file: str, dtype: np.dtype[Any], shape: Sequence[int], skip: int = 0) -> Layout:
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise SourceError(f"{path} holds voxels of type {dtype}; not supported", code="voxel-type")
    if min(shape) < 1:
        raise SourceError(f"{path} declares an empty or impossible shape", got=list(shape), code="shape")
    packed = file.lower().endswith((".gz", ".mgz"))
    return Layout((file,), "gzip" if packed else "raw", dtype, prod(shape), skip=skip)


def _storage(path: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Axes and shape in storage order of nibabel's (x, y, z[, t])."""
    sizes = [int(n) for n in shape]
    if len(sizes) == 4 and sizes[3] == 1:
        sizes.pop()
    if len(sizes) not in (3, 4):
        raise SourceError(f"{path} has {len(sizes)} axes; not supported", got=sizes, code="axes")
    return "tzyx"[4 - len(sizes) :], tuple(reversed(sizes))


def _mgh_head(root: Path, path: str) -> _Head:
    packed = path.lower().endswith((".gz", ".mgz"))
    with gzip.open(root / path) if packed else (root / path).open("rb") as stream:
        start = stream.read(_MGH_BYTES)
    header = MGHHeader(start[: MGHHeader.template_dtype.itemsize], check=True)
    axes, shape = _storage(path, header.get_data_shape())
    layout = _layout(path, path, header.get_data_dtype().newbyteorder(">"), shape, skip=_MGH_BYTES)
    # nibabel fills in a coronal default when the flag (bytes 28 and 29) is not set.
    if start[28:30] == b"\0\0":
        note = "goodRASFlag is not set: spacing, position and orientation unknown"
        return _Head(path, layout, Grid.regular(axes, shape), warnings=(note,))
    return _Head(path, layout, Grid.from_nifti(axes, shape, header.get_affine()))


def _par_head(root: Path, path: str, partner: str) -> _Head:
    with (root / path).open(encoding="latin-1") as stream:
        header = PARRECHeader.from_fileobj(stream, strict_sort=True)
    axes, shape = _storage(path, header.get_data_shape())
    layout = _layout(path, partner, header.get_data_dtype(), (len(header.image_defs), *shape[-2:]))
    slopes, inters = header.get_data_scaling("dv")
    scaling = np.stack([slopes.ravel("F"), inters.ravel("F")], axis=1).astype(np.float64)
    labels = list(header.get_volume_labels())
    told = ", ".join(labels) or "volumes that the header does not tell apart"
    notes = (f"the axis t runs over {told}",) if axes[0] == "t" and labels != ["dynamic scan number"] else ()
    grid = Grid.from_nifti(axes, shape, header.get_affine())
    return _Head(path, layout, grid, scaling, np.asarray(header.get_sorted_slice_indices()), notes)


def _afni_head(root: Path, path: str, partner: str) -> _Head:
    with (root / path).open(encoding="latin-1") as stream:
        header = AFNIHeader.from_fileobj(stream)
    axes, shape = _storage(path, header.get_data_shape())
    layout = _layout(path, partner, header.get_data_dtype(), shape)
    grid = Grid.from_nifti(axes, shape, header.get_affine())
    factors = header.get_data_scaling()
    if factors is None:
        return _Head(path, layout, grid)
    per_plane = np.repeat(np.asarray(factors, np.float64), shape[-3])
    return _Head(path, layout, grid, np.stack([per_plane, np.zeros_like(per_plane)], axis=1))


def _series(head: _Head) -> Series:
    return _described(head.path, head.files, head.grid, head.dtype, head.warnings)


def _minc_series(root: Path, path: str) -> Series:
    with _faults(root, path, "header"):
        head = read_minc_head(path, root / path)
    return _described(path, (path,), head.grid, head.dtype, head.warnings)


def _described(
    path: str, files: tuple[str, ...], grid: Grid, dtype: np.dtype[Any], warnings: tuple[str, ...]
) -> Series:
    stem = re.sub(r"(\.mgh\.gz|\.mg[hz]|\.mnc|\.par|\+(orig|acpc|tlrc)\.head|\.head)$", "", path, flags=re.IGNORECASE)
    return Series(
        reader=NeuroReader.name,
        source=path,
        files=files,
        key=stem,
        name=stem.rpartition("/")[2],
        modality="MR" if path.lower().endswith(".par") else "",
        axes=grid.axes,
        shape=grid.shape,
        dtype=str(dtype),
        spacing=None if grid.unit == "unknown" else grid.spacing,
        warnings=warnings,
    )
