"""Bare arrays of numpy: ``.npy``, and ``.npz`` that holds one array. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import DEFAULT_READING, ReadOptions, Scan, Series, VolumeData
from ndvol.formats.bulk import DEFLATE_RATIO, truncated
from ndvol.formats.faults import reason
from ndvol.formats.mapped import MappedSource, RawVoxels
from ndvol.formats.values import as_stored
from ndvol.geometry import Grid
from ndvol.verdict import Verdict
from ndvol.volumes import Volume

_AXES = {2: "yx", 3: "zyx", 4: "tzyx"}
_NO_GRID = "an array without a grid: spacing, position and orientation unknown"


@dataclass(frozen=True, slots=True)
class _Head:
    """What the header of an array says; `member` is its name in an ``.npz``."""

    path: str
    member: str
    grid: Grid
    stored: np.dtype[Any]
    fortran: bool
    offset: int
    warnings: tuple[str, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """bool as uint8, float16 as float32, and native bytes: nothing is lost."""
        wider = {"b1": "u1", "f2": "f4"}.get(self.stored.str[1:], self.stored.str[1:])
        return np.dtype(wider)


class ArrayReader:
    """Reads ``.npy`` and ``.npz`` (numpy.lib.format, versions 1.0 and 2.0) on a ``LOCAL`` grid of unknown unit.

    Two axes are y, x; three z, y, x; four t, z, y, x. Values keep their type.
    """

    name = "arrays"

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        series: list[Series] = []
        verdicts: list[Verdict] = []
        suffixes = (".npy", ".npz")
        claimed = [f for f in files if f.lower().endswith(suffixes) and not f.rpartition("/")[2].startswith(".")]
        for path in claimed:
            try:
                series.append(_series(_read_head(root, path)))
            except NdvolError as error:
                verdicts.append(Verdict.refused(path, error))
        return Scan(tuple(series), tuple(verdicts), frozenset(claimed))

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        head = _read_head(root, series.files[0])
        if (head.grid.shape, str(head.dtype)) != (series.shape, series.dtype):
            raise SourceError(f"{series.source} changed since it was scanned", code="changed")
        array = _values(root, head).astype(head.dtype, copy=False)
        array = as_stored(array, head.grid.axes, series.source, as_label=as_label)
        return VolumeData(array, head.grid, warnings=head.warnings)

    def in_place(self, root: Path, series: Series) -> Volume | None:
        """See `InPlaceReader`: ``.npy`` alone."""
        head = _read_head(root, series.files[0])
        if head.member:
            return None
        shape, order = head.grid.shape, tuple(range(head.grid.ndim))
        if head.fortran:
            shape, order = shape[::-1], order[::-1]
        raw = RawVoxels(root / head.path, head.stored, head.offset, shape, order)
        source = MappedSource(raw, None if head.dtype == np.float64 else head.dtype)
        return Volume("image", head.grid, source, {"modality": "", "value_unit": ""})


def _series(head: _Head) -> Series:
    stem = head.path[:-4]
    return Series(
        reader=ArrayReader.name,
        source=head.path,
        files=(head.path,),
        key=stem,
        name=stem.rpartition("/")[2],
        modality="",
        axes=head.grid.axes,
        shape=head.grid.shape,
        dtype=str(head.dtype),
        spacing=None,
        warnings=head.warnings,
    )


@contextmanager
def _faults(root: Path, path: str, what: str, code: str) -> Iterator[None]:
    """Whatever the bytes provoke in numpy and zipfile as one error of ours."""
    try:
        yield
    except NdvolError:
        raise
    except Exception as error:  # numpy parses the header as Python text, zipfile raises a dozen types
        raise SourceError(
            f"the {what} of {path} cannot be read", got=reason(error, root), hint="copy the file again", code=code
        ) from error


def _read_head(root: Path, path: str) -> _Head:
    with _faults(root, path, "header", "unreadable"):
        if path.lower().endswith(".npy"):
            with (root / path).open("rb") as stream:
                return _head(path, "", stream, (root / path).stat().st_size)
        with zipfile.ZipFile(root / path) as archive:
            info = _only_member(path, archive)
            with archive.open(info) as stream:
                return _head(path, info.filename, stream, _honest_size(root / path, path, info))


def _only_member(path: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    if len(found) == 1:
        return found[0]
    names = sorted(PurePosixPath(info.filename).name[:-4] for info in found)
    more = " …" if len(names) > 20 else ""
    raise SourceError(
        f"{path} holds {len(names)} arrays",
        got=", ".join(names[:20]) + more if names else None,
        expected="exactly one",
        hint="save the volume alone, as .npy or .npz",
        code="several-arrays" if names else "no-array",
    )


def _honest_size(file: Path, path: str, info: zipfile.ZipInfo) -> int:
    """The unpacked size that the archive states, refused where the packed bytes cannot hold it."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(
            f"{path} is packed in a way that numpy does not write",
            got=f"zip method {info.compress_type}",
            hint="save it again with numpy.savez_compressed",
            code="encoding",
        )
    ratio = DEFLATE_RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1
    packed = min(info.compress_size, file.stat().st_size)
    if info.file_size > packed * ratio:
        raise truncated(path, f"{packed} packed bytes", info.file_size)
    return info.file_size


def _head(path: str, member: str, stream: IO[bytes], size: int) -> _Head:
    version = npy.read_magic(stream)
    # Version 3.0 exists for field names beyond latin-1, and records are no volumes.
    if version not in ((1, 0), (2, 0)):
        raise SourceError(f"{path} is of a version not supported", got=f"npy {version}", code="voxel-type")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, stored = read(stream)
    if stored.hasobject or not (stored.kind in "biu" or (stored.kind == "f" and stored.itemsize <= 8)):
        raise SourceError(
            f"{path} holds values of type {stored}; not supported",
            expected="integers, bool, or floats of up to 64 bits",
            hint="objects are never unpickled; save a plain array" if stored.hasobject else "",
            code="voxel-type",
        )
    if len(shape) not in _AXES:
        raise SourceError(
            f"{path} has {len(shape)} axes", got=shape, expected="2 (y, x), 3 (z, y, x) or 4 (t, z, y, x)", code="axes"
        )
    if min(shape) < 1:
        raise SourceError(f"{path} declares an empty or impossible shape", got=shape, code="shape")
    offset = stream.tell()
    needed = prod(int(n) for n in shape) * stored.itemsize
    if offset + needed > size:
        raise truncated(path, f"{size} bytes", offset + needed)
    warnings = (_NO_GRID, "bytes after the values are ignored") if offset + needed < size else (_NO_GRID,)
    grid = Grid.regular(_AXES[len(shape)], shape)
    return _Head(path, member, grid, stored, fortran, offset, warnings)


def _values(root: Path, head: _Head) -> NDArray[Any]:
    """The stored values; an ``.npz`` is read to its end, so that its checksum is proved."""
    with _faults(root, head.path, "values", "truncated"), (root / head.path).open("rb") as file:
        raw = np.empty(prod(head.grid.shape) * head.stored.itemsize, np.uint8)
        if head.member:
            with zipfile.ZipFile(file) as archive, archive.open(head.member) as stream:
                _fill(stream, head, raw)
                while stream.read(2**20):
                    pass
        else:
            _fill(file, head, raw)
    return raw.view(head.stored).reshape(head.grid.shape, order="F" if head.fortran else "C")


def _fill(stream: IO[bytes], head: _Head, raw: NDArray[np.uint8]) -> None:
    # Read, not sought: zipfile gives up checking a member once it is sought.
    filled, skipped = 0, len(stream.read(head.offset))
    while filled < raw.size and (chunk := stream.read(min(2**20, raw.size - filled))):
        raw[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if skipped + filled < head.offset + raw.size:
        raise truncated(head.path, f"{skipped + filled} bytes", head.offset + raw.size)
