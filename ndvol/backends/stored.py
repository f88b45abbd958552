"""Conversions: a volume written once in a form that is read fast, below a folder, under the hash of its content."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
import xxhash
from numpy.typing import NDArray

from ndvol.backends.opened import origin_of
from ndvol.backends.origin import Origin, hash_file
from ndvol.errors import DamageError, NdvolError, OptionError, SourceError, StoreError, UnknownNameError
from ndvol.formats.mapped import MappedSource, RawVoxels
from ndvol.formats.tiff_tiles import TileSource
from ndvol.geometry import Grid, Window
from ndvol.store import CaseWriter, Hdf5Source, sync_folder
from ndvol.volumes import PatchSource, Volume

TILE = 128
"""Side of a tile in a TIFF: small enough for windows of 64, large enough for deflate."""

DEFLATE_LEVEL = 1
"""A CT-like volume of 128 x 512 x 512 took 1.0 s of CPU against 3.8 s at level 6, for 1.7 % more bytes."""

_FACTS = "facts.json"


class Backend(Protocol):
    """Turns origins into volumes; picklable, and safe with several processes on one folder."""

    def volume(self, origin: Origin) -> Volume:
        """The volume of an origin."""
        ...


class InPlace:
    """Backend None: sources are read where they are, and those that must be decoded as a whole are kept in memory."""

    def volume(self, origin: Origin) -> Volume:
        return origin.open()


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to store a volume: the file's name, and how it is written and read."""

    file: str
    write: Callable[[Path, NDArray[Any], Grid], None]
    open: Callable[[Path, Grid, np.dtype[Any]], PatchSource]


class Converted:
    """The backends that convert: ``workdir/<backend>/<first two digits>/<digest>/`` holds one volume and its facts.

    A conversion is published by one rename, so of several processes that make the same one the first wins. A file of
    another size or time of writing than the facts say is hashed, and made anew unless the hash is right.
    """

    def __init__(self, name: str, workdir: Path) -> None:
        self._name, self._folder = name, workdir.absolute() / name

    def volume(self, origin: Origin) -> Volume:
        """The volume as it was stored, converted now if it is not there; see `Backend`."""
        found = self.stored(origin)
        return Volume("image", found.grid, ConvertedSource(self, origin, found.source), found.attributes)

    def stored(self, origin: Origin, *, doubted: bool = False) -> Volume:
        """The stored volume itself; a `doubted` one is hashed whatever its size and time are."""
        digest = origin.digest()
        folder = self._folder / digest[:2] / digest
        found = self._open(folder, doubted)
        if found is None:
            self._convert(origin, digest, folder)
            found = self._open(folder, doubted=True)
        if found is None:
            raise DamageError(f"what was just written to {folder} is damaged", hint="check the device")
        return found

    def _open(self, folder: Path, doubted: bool) -> Volume | None:
        """The volume in a folder; None when it is not there or damaged."""
        form = _FORMS[self._name]
        file = folder / form.file
        try:
            stated = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            facts = stated["facts"]
            if stated["xxh3"] != _facts_digest(facts):
                return None
            stat = file.stat()
            doubted = doubted or [stat.st_size, stat.st_mtime_ns] != facts["stamp"]
            if doubted and hash_file(file) != facts["xxh3"]:
                return None
            grid = Grid(facts["axes"], tuple(facts["shape"]), np.array(facts["affine"]), facts["frame"], facts["unit"])
            source = form.open(file, grid, np.dtype(facts["dtype"]))
            return Volume("image", grid, source, facts["attributes"])
        except (OSError, ValueError, LookupError, TypeError, NdvolError):
            return None

    def _convert(self, origin: Origin, digest: str, folder: Path) -> None:
        volume = origin.open()
        array = np.asarray(volume)
        array = array.view(np.uint8) if array.dtype.kind == "b" else array
        form = _FORMS[self._name]
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-", ignore_cleanup_errors=True) as parts:
                part = Path(parts, "new")
                part.mkdir()
                form.write(part / form.file, array, volume.grid)
                _write_facts(part, form.file, volume, array.dtype)
                if origin.digest(again=True) != digest:
                    raise SourceError(f"{origin.files[0]} changed while it was converted", code="changed")
                self._publish(part, folder, Path(parts, "old"))
            sync_folder(folder.parent)
        except OSError as error:
            if isinstance(error, NdvolError):
                raise
            raise StoreError.from_os(error, folder) from error

    def _publish(self, part: Path, folder: Path, aside: Path) -> None:
        if folder.exists() and self._open(folder, doubted=True) is None:
            with suppress(FileNotFoundError):  # another process was faster
                folder.rename(aside)
        try:
            part.rename(folder)
        except OSError:
            # A folder that is not empty is never replaced: another process has published the same.
            if not folder.is_dir():
                raise


class ConvertedSource:
    """A `PatchSource` over a conversion, which is made anew when it turns out damaged or is gone."""

    levels = 1

    def __init__(self, backend: Converted, origin: Origin, stored: PatchSource) -> None:
        self._backend, self._origin, self._stored = backend, origin, stored
        self.shape, self.dtype = stored.shape, stored.dtype

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """See `PatchSource`."""
        try:
            return self._stored.read_into(window, out, level=level, fill_value=fill_value)
        except (StoreError, SourceError, UnknownNameError):
            self._stored = self._backend.stored(self._origin, doubted=True).source
        return self._stored.read_into(window, out, level=level, fill_value=fill_value)


def backend_of(name: object, workdir: str | os.PathLike[str] | None = None) -> Backend:
    """The backend of that name, storing below `workdir`.

    Raises
    ------
    OptionError : when there is none of that name, or it has nowhere to store.
    """
    if name is None:
        return InPlace()
    if isinstance(name, dict):  # ndsampler's {'type': …, 'config': {…}}
        if name.get("config"):
            raise OptionError("a backend takes no configuration here", got=name["config"])
        return backend_of(name.get("type"), workdir)
    if not isinstance(name, str) or name not in _FORMS:
        raise OptionError("there is no such backend", got=repr(name), expected=f"None or one of {tuple(_FORMS)}")
    if workdir is None:
        raise OptionError(f"the backend {name!r} needs a folder to store in", hint="give workdir=…")
    return Converted(name, Path(workdir))


def open_volume(
    path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    workdir: str | os.PathLike[str] | None = None,
    dataset: str = "",
    axes: str = "",
) -> Volume:
    """The one volume in a file or folder, in the source's own orientation, with the values that an import would store.

    Parameters
    ----------
    backend : None reads windows in place: uncompressed NIfTI, MetaImage, NRRD and .npy through a memory map, TIFF by
        the tiles that a window touches, HDF5 and Zarr by their chunks; anything else is decoded once and kept, up to
        512 MiB per process. ``hdf5``, ``npy`` (memory map) and ``cog`` (tiled TIFF, deflated) convert once and read
        what was converted.
    workdir : where the conversions lie, under the hash of the source's bytes.
    dataset : the array in an HDF5 file or Zarr folder, where it is not the only one or the root.
    axes : of that array in storage order, from ``tczyx``. An OME-Zarr says its own; of an HDF5 file with `dataset` and
        `axes` windows are read in place, without `axes` it is decoded as a whole.

    Raises
    ------
    SourceError : when there is nothing that can be read, or more than one volume.
    OptionError : for an unknown backend, a missing `workdir`, `dataset` or `axes`, or a package that is not installed.

    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "a.npy", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    >>> open_volume(folder / "a.npy")[1, 0].tolist()
    [12, 13, 14, 15]
    >>> open_volume(folder / "a.npy", backend="cog", workdir=folder)[1, 0].tolist()
    [12, 13, 14, 15]
    """
    chosen = backend_of(backend, workdir)
    return chosen.volume(origin_of(Path(path).absolute(), dataset=dataset, axes=axes))


def _write_hdf5(path: Path, array: NDArray[Any], grid: Grid) -> None:
    with CaseWriter(path, case="case", uuid="0") as writer:
        writer.add_image("image", array, grid)


def _write_npy(path: Path, array: NDArray[Any], grid: Grid) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
        os.fsync(stream.fileno())


def _open_npy(path: Path, grid: Grid, dtype: np.dtype[Any]) -> PatchSource:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    order = tuple(range(array.ndim))
    return MappedSource(RawVoxels(path, array.dtype, array.offset, array.shape, order), dtype)


def _write_cog(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Lossless: deflate, with differences along the rows for integers. One page per plane, in storage order."""
    planes = np.ascontiguousarray(array).reshape(-1, *array.shape[-2:])
    tifffile.imwrite(
        path,
        planes,
        tile=(TILE, TILE),
        compression="zlib",
        compressionargs={"level": DEFLATE_LEVEL},
        predictor=array.dtype.kind in "iu",
        photometric="minisblack",
        metadata=None,
        software="",
    )
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _open_cog(path: Path, grid: Grid, dtype: np.dtype[Any]) -> PatchSource:
    return TileSource(path, grid.axes, grid.shape, grid.axes, dtype)


def _write_facts(folder: Path, file: str, volume: Volume, dtype: np.dtype[Any]) -> None:
    stat, grid = (folder / file).stat(), volume.grid
    facts = {
        "axes": grid.axes,
        "shape": grid.shape,
        "affine": grid.affine.tolist(),
        "frame": grid.frame,
        "unit": grid.unit,
        "dtype": str(dtype.newbyteorder("=")),
        "attributes": dict(volume.attributes),
        "stamp": [stat.st_size, stat.st_mtime_ns],
        "xxh3": hash_file(folder / file),
    }
    with (folder / _FACTS).open("w", encoding="utf-8") as stream:
        json.dump({"facts": facts, "xxh3": _facts_digest(facts)}, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _facts_digest(facts: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())


_FORMS = {
    "hdf5": _Form("voxels.h5", _write_hdf5, lambda path, grid, dtype: Hdf5Source(path, ("images/image/0",))),
    "npy": _Form("voxels.npy", _write_npy, _open_npy),
    "cog": _Form("voxels.tif", _write_cog, _open_cog),
}
