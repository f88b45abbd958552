"""NIfTI-1 and NIfTI-2, single files and header/image pairs, through nibabel's headers."""

from __future__ import annotations

import gzip
import logging
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.bulk import DEFLATE_RATIO, confined, read_on
from ndvol.formats.faults import reason
from ndvol.formats.mapped import MappedSource, RawVoxels
from ndvol.formats.nifti_axes import INTENT_LABEL, FileAxes, axis_facts, file_axes, no_volume
from ndvol.formats.values import StoredRange, as_stored, rescale, settled_type, volume_type
from ndvol.geometry import Grid
from ndvol.verdict import Verdict
from ndvol.volumes import Volume

FORM_TOLERANCE = 1e-3
"""sform and qform that differ by more are two different statements about where the image lies."""
MAX_EXTENSIONS = 2**26
"""Bytes in front of the voxels; nibabel reads them all, and gzip packs a thousand to one."""

_SUFFIXES = (".nii.gz", ".nii")
_HEADERS = (".hdr.gz", ".hdr")
_MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}

# nibabel repairs small faults of a header and reports them on stderr.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the header of one file says."""

    path: str
    image: Path
    grid: Grid
    layout: FileAxes
    offset: int
    slope: float
    inter: float
    attributes: dict[str, float | int | str]
    warnings: tuple[str, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The volume's type as far as the header decides it."""
        native = self.layout.stored.newbyteorder("=")
        if (self.slope, self.inter) == (1.0, 0.0):
            return native
        if native.kind == "f":
            return np.dtype(np.result_type(native, np.float32))
        return volume_type([self._range(np.iinfo(native).min, np.iinfo(native).max)])

    def _range(self, low: int, high: int) -> StoredRange:
        return StoredRange(self.layout.stored.newbyteorder("="), int(low), int(high), self.slope, self.inter)

    def settled(self, raw: NDArray[Any]) -> np.dtype[Any]:
        """The volume's type once the voxels are known."""
        if self.layout.stored.kind == "f" or (self.slope, self.inter) == (1.0, 0.0):
            return self.dtype
        return settled_type(self.dtype, [self._range(raw.min(), raw.max())])


class NiftiReader:
    """Reads ``.nii``, ``.nii.gz`` and ``.hdr``/``.img`` pairs that carry the NIfTI magic, packed or not.

    A fourth dimension is ``t``, a fifth ``c``, and so are colours and the components of vectors and matrices.

    The affine is the sform when its code is set, else the qform, else pixdim alone (frame ``LOCAL``, with a
    warning): nifti1.h, METHOD 3, 2, 1. Values keep their stored type unless the header scales them.
    """

    name = "nifti"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        series: list[Series] = []
        verdicts: list[Verdict] = []
        claimed: set[str] = set()
        for path in files:
            if not _is_nifti(root, path):
                continue
            claimed.add(path)
            claimed.add(_partner(root, path))
            try:
                series.append(_series(root, _read_head(root, path)))
            except NdvolError as error:
                verdicts.append(Verdict.refused(path, error))
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed & set(files)))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        head = _read_head(root, series.files[0])
        if head.grid.shape != series.shape:
            raise SourceError(f"{series.source} changed since it was scanned", code="changed")
        raw, warnings = _voxels(root, head)
        array = head.layout.canonical(head.path, raw)
        array = _scaled(array, head) if array.size else array.astype(head.dtype)
        if not as_label and head.attributes.get("intent_code") == INTENT_LABEL:
            warnings = [*warnings, "its header calls it a label map (intent 1002); it was imported as an image"]
        array = as_stored(array, head.grid.axes, series.source, as_label=as_label)
        return VolumeData(array, head.grid, attributes=head.attributes, warnings=(*head.warnings, *warnings))

    def in_place(self, root: Path, series: Series) -> Volume | None:
        """See `InPlaceReader`: everything but compressed voxels, alpha, and float64 that is rescaled."""
        head = _read_head(root, series.files[0])
        rescaled = (head.slope, head.inter) != (1.0, 0.0)
        layout, packed = head.layout, head.image.name.lower().endswith(".gz")
        if packed or layout.alpha or (rescaled and head.dtype == np.float64):
            return None
        order = tuple(layout.letters.index(a) for a in layout.axes)
        raw = RawVoxels(head.image, layout.stored, head.offset, layout.sizes, order, head.slope, head.inter)
        source = MappedSource(raw, head.dtype if rescaled else None)
        if rescaled and head.dtype.kind != "f":
            # Which integers hold the rescaled values is known from the smallest and the largest alone.
            source = MappedSource(raw, head.settled(source.stored()))
        return Volume("image", head.grid, source, {**head.attributes, "modality": "", "value_unit": ""})


def _stem(path: str) -> str:
    name = path.lower()
    for suffix in (*_SUFFIXES, *_HEADERS):
        if name.endswith(suffix):
            return path[: -len(suffix)]
    return path


def _is_nifti(root: Path, path: str) -> bool:
    """By suffix for single files; a header alone also needs the magic, for other formats use that suffix too."""
    if path.rpartition("/")[2].startswith("."):
        return False
    return path.lower().endswith(_SUFFIXES) or _pair_kind(root, path) is not None


def _pair_kind(root: Path, path: str) -> Any:
    """The class of nibabel for a header that has its image in another file; None for other files."""
    if not path.lower().endswith(_HEADERS):
        return None
    try:
        with gzip.open(root / path) if path.lower().endswith(".gz") else (root / path).open("rb") as stream:
            head = stream.read(352)
    except (OSError, EOFError, zlib.error):
        return None
    return nib.Nifti1Pair if head[344:348] == b"ni1\0" else nib.Nifti2Pair if head[4:8] == b"ni2\0" else None


def _partner(root: Path, path: str) -> str:
    """The image file of a header; empty when it is not there, or the header is in the image file."""
    if not path.lower().endswith(_HEADERS):
        return ""
    return next((p for p in (_stem(path) + s for s in (".img", ".img.gz", ".IMG")) if (root / p).is_file()), "")


def _series(root: Path, head: _Head) -> Series:
    stem = _stem(head.path)
    image = head.image.relative_to(root).as_posix()
    return Series(
        reader=NiftiReader.name,
        source=head.path,
        files=tuple(dict.fromkeys((head.path, image))),
        key=stem,
        name=stem.rpartition("/")[2],
        modality="",
        axes=head.grid.axes,
        shape=head.grid.shape,
        dtype=str(head.dtype),
        spacing=head.grid.spacing,
        warnings=head.warnings,
    )


def _read_head(root: Path, path: str) -> _Head:
    """The header, with everything that can be refused without the voxels refused."""
    try:
        _check_extensions(root, path)
        image = _loaded(root, path)
        if isinstance(image, nib.Cifti2Image):
            raise no_volume(path, "CIFTI-2")
        if not isinstance(image, nib.Nifti1Pair):
            raise SourceError(f"{path} is not NIfTI", got=type(image).__name__, code="unreadable")
        return _head(root, path, image)
    except NdvolError:
        raise
    except Exception as error:  # nibabel raises whatever the bytes provoke
        raise SourceError(
            f"the header of {path} cannot be read",
            got=reason(error, root),
            hint="copy the file again",
            code="unreadable",
        ) from error


def _loaded(root: Path, path: str) -> Any:
    """nibabel's image, its voxels not read; nibabel itself pairs packed files with packed ones only."""
    if (kind := _pair_kind(root, path)) is None:
        return nib.load(root / path, mmap=False)
    if not (partner := _partner(root, path)):
        raise SourceError(
            f"the voxels of {path} are not there", expected="an .img file of the same name", code="missing-file"
        )
    files = {"header": str(root / path), "image": str(root / partner)}
    return kind.from_file_map(kind.make_file_map(files), mmap=False)


def _check_extensions(root: Path, path: str) -> None:
    """Raise where the header asks for more room for extensions than nibabel should make."""
    with gzip.open(root / path) if path.lower().endswith(".gz") else (root / path).open("rb") as stream:
        start = stream.read(176).ljust(176, b"\0")
    # NIfTI-1 begins with 348 and has a float there, NIfTI-2 with 540 and has an integer.
    order = "<" if start[:2] in (b"\x5c\x01", b"\x1c\x02") else ">"
    (size,) = struct.unpack_from(f"{order}i", start)
    code, at = ("q", 168) if size == 540 else ("f", 108)
    (offset,) = struct.unpack_from(f"{order}{code}", start, at)
    if offset > MAX_EXTENSIONS:
        raise SourceError(
            f"{path} puts its voxels behind more than its header and extensions can need",
            got=f"vox_offset {offset:g}",
            expected=f"at most {MAX_EXTENSIONS}",
            hint="copy the file again",
            code="header",
        )


def _head(root: Path, path: str, image: Any) -> _Head:
    proxy = image.dataobj
    layout = file_axes(path, image.header, proxy.dtype)
    name = Path(image.file_map["image"].filename).name
    # What the caller named himself may be a link to anywhere.
    file = root / (path if name == Path(path).name else confined(root, path, name))
    _check_size(path, file, int(proxy.offset) + prod(layout.sizes) * layout.stored.itemsize)
    grid, warnings = _grid(path, image.header, layout.axes, layout.shape)
    facts, notes = axis_facts(image.header, layout.axes)
    # Colours are never scaled (nifti1.h, DATA SCALING).
    slope, inter = (1.0, 0.0) if proxy.dtype.names else (float(proxy.slope), float(proxy.inter))
    attributes: dict[str, float | int | str] = {
        "sform_code": int(image.header["sform_code"]),
        "qform_code": int(image.header["qform_code"]),
    }
    if (slope, inter) != (1.0, 0.0):
        attributes |= {"scl_slope": slope, "scl_inter": inter}
    if (slope, inter) != (1.0, 0.0) or layout.stored.newbyteorder("=") == np.float64:
        # The volume may be of another type, see `nifti_stored`.
        attributes["datatype"] = int(image.header["datatype"])
    return _Head(path, file, grid, layout, int(proxy.offset), slope, inter, attributes | facts, (*warnings, *notes))


def _check_size(path: str, image: Path, declared: int) -> None:
    """Raise where the file cannot hold what its header declares."""
    size = image.stat().st_size
    most = size * DEFLATE_RATIO if image.name.lower().endswith(".gz") else size
    if declared > most:
        raise SourceError(
            f"{path} is truncated, or its header declares too much",
            got=f"{size} bytes on disk",
            expected=f"{declared} bytes of header and voxels",
            hint="copy the file again",
            code="truncated",
        )


def _grid(path: str, header: Any, axes: str, shape: tuple[int, ...]) -> tuple[Grid, list[str]]:
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    unit = header.get_xyzt_units()[0]
    scale = np.diag([_MM_PER_UNIT[unit]] * 3 + [1.0])
    if not sform_code and not qform_code:
        spacing = [abs(float(v)) * scale[0, 0] for v in header["pixdim"][3:0:-1]]
        grid = Grid.regular(axes, shape, spacing=spacing, frame="LOCAL", unit="mm")
        return grid, ["neither sform nor qform is set: spacing from pixdim, position and orientation unknown"]
    warnings = []
    if sform_code and qform_code and np.abs(sform - qform).max() > FORM_TOLERANCE:
        off = float(np.abs(sform - qform).max())
        warnings.append(f"sform and qform differ by up to {off:.3g}; the sform is used")
    return Grid.from_nifti(axes, shape, scale @ (sform if sform_code else qform)), warnings


def _voxels(root: Path, head: _Head) -> tuple[NDArray[Any], list[str]]:
    """The stored voxels, flat and native; the stream is read to its end so that gzip proves its checksum."""
    needed = prod(head.layout.sizes) * head.layout.stored.itemsize
    compressed = head.image.name.lower().endswith(".gz")
    skipped = filled = excess = 0
    try:
        raw = np.empty(needed, np.uint8)
        with gzip.open(head.image) if compressed else head.image.open("rb") as stream:
            skipped = len(stream.read(head.offset))
            while filled < needed and (count := stream.readinto(raw[filled:].data)):
                filled += count
            if compressed:
                excess = read_on(head.path, iter(partial(stream.read, 2**20), b""))
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise SourceError(
            f"the voxels of {head.path} cannot be read",
            got=reason(error, root),
            hint="copy the file again",
            code="truncated",
        ) from error
    if skipped < head.offset or filled < needed:
        raise SourceError(
            f"{head.path} is truncated",
            got=f"{skipped + filled} bytes",
            expected=f"{head.offset + needed} bytes of header and voxels",
            hint="copy the file again",
            code="truncated",
        )
    warnings = ["bytes after the voxels are ignored"] if excess else []
    return raw.view(head.layout.stored).astype(head.layout.stored.newbyteorder("="), copy=False), warnings


def _scaled(array: NDArray[Any], head: _Head) -> NDArray[Any]:
    """``scl_slope * stored + scl_inter``, plane by plane so that temporaries stay small."""
    dtype = head.settled(array)
    if (head.slope, head.inter) == (1.0, 0.0):
        return array
    out = np.empty(array.shape, dtype)
    for k in range(len(array)):
        out[k] = rescale(array[k], head.slope, head.inter, dtype)
    return out
