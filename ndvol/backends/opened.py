"""Sources as they lie: windows read in place where the format allows it, else the volume decoded once and kept."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.backends.origin import Origin
from ndvol.backends.zarrs import is_zarr, open_zarr
from ndvol.errors import OptionError, SourceError
from ndvol.formats import DEFAULT_READING, InPlaceReader, ReadOptions, Series, StructureReader, reader, readers
from ndvol.formats.kept import Kept, check_unchanged, stamp_of
from ndvol.geometry import Grid, Window
from ndvol.store import open_hdf5
from ndvol.volumes import ArraySource, Volume

DECODED = Kept(2**29)
"""Volumes last decoded as a whole, per process: 512 MiB, or a single larger one."""

_HDF5 = (".h5", ".hdf5", ".hdf")


class DecodedSource:
    """A `PatchSource` over a series that is decoded as a whole on first use; pickles without its voxels.

    Parameters
    ----------
    dtype : of the decoded volume.

    Reading raises `SourceError`, code ``changed``, when the files must be decoded again and are others by now.
    """

    levels = 1

    def __init__(self, root: Path, series: Series, dtype: np.dtype[Any]) -> None:
        self._root, self._series = root, series
        self._stamps = tuple(stamp_of(root / file) for file in series.files)
        self.shape: tuple[int, ...] = series.shape
        self.dtype = dtype

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """See `PatchSource`."""
        array = DECODED.get((self._series, self._stamps), self._decode)
        return ArraySource(array).read_into(window, out, level=level, fill_value=fill_value)

    def keep(self, array: NDArray[Any]) -> None:
        """Take over what was decoded already."""
        DECODED.get((self._series, self._stamps), lambda: array)

    def _decode(self) -> NDArray[Any]:
        array = reader(self._series.reader).read(self._root, self._series).array
        for stamp in self._stamps:
            check_unchanged(stamp)
        if array.dtype != self.dtype:
            raise SourceError(
                f"{self._series.source} is of another type than its header says",
                got=array.dtype,
                expected=self.dtype,
                code="changed",
            )
        return array


def origin_of(path: Path, *, dataset: str = "", axes: str = "") -> Origin:
    """The origin of the one volume at `path`; see `open_volume`."""
    if is_zarr(path):
        parts = sorted(p for p in path.rglob("*") if p.is_file())
        # Where a chunk lies in the array is its name alone.
        names = "\0".join(p.relative_to(path).as_posix() for p in parts)
        recipe = f"zarr\0{dataset}\0{axes}\0{names}"
        return Origin(tuple(map(str, parts)), partial(open_zarr, path, dataset, axes=axes), recipe)
    hdf5 = path.suffix.lower() in _HDF5
    if hdf5 and dataset and axes:
        return Origin((str(path),), partial(open_hdf5, path, dataset, axes=axes), f"hdf5\0{dataset}\0{axes}")
    if axes or (dataset and not hdf5):
        raise OptionError(
            "an array is named by dataset and axes in HDF5, by axes in Zarr; other formats need neither", got=path
        )
    root, series = find_series(path, ReadOptions(dataset=dataset))
    files = tuple(str(root / file) for file in series.files)
    # The one series in these files: their bytes and what the reader was told decide about it.
    return Origin(files, partial(open_series, root, series), f"{series.reader}\0{series.reading}")


def find_series(path: Path, options: ReadOptions = DEFAULT_READING) -> tuple[Path, Series]:
    """The one series in a file, or in a folder and those below it, with the folder it is read from.

    Raises
    ------
    SourceError : when there is nothing to read, or more than one volume.
    """
    root = path if path.is_dir() else path.parent
    if not path.exists():
        raise SourceError(f"there is no {path}", code="missing-file")
    files = sorted(p.relative_to(root).as_posix() for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    left: list[str] = files or [path.name]
    found: list[Series] = []
    reasons: list[str] = []
    for each in readers().values():
        scan = each.scan(root, left, options)
        left = [file for file in left if file not in scan.claimed]
        if isinstance(each, StructureReader):
            continue
        found += scan.series
        reasons += [v.message for v in scan.verdicts]
    if len(found) == 1:
        return root, found[0]
    if found:
        raise SourceError(
            f"{path} holds {len(found)} volumes", got=_some(s.source for s in found), hint="name one of them"
        )
    raise SourceError(f"cannot open {path} as a volume", got=_some(reasons) or "a format that no reader knows")


def open_series(root: Path, series: Series) -> Volume:
    """The volume that the reader of a series gives, in the source's own orientation.

    It is read in place where the format allows it, else decoded now and kept among the volumes last decoded.
    """
    found = reader(series.reader)
    volume = found.in_place(root, series) if isinstance(found, InPlaceReader) else None
    if volume is not None:
        return volume
    data = found.read(root, series)
    source = DecodedSource(root, series, data.array.dtype)
    volume = Volume("image", data.grid, source, data.facts)
    source.keep(data.array)
    return volume


def picture_origin(path: Path) -> Origin:
    """The origin of one picture file; nothing is looked at before it is opened."""
    return Origin((str(path),), partial(open_picture, path), "picture")


def open_picture(path: Path) -> Volume:
    """A picture on a grid of unknown unit; one that cannot be read in place is decoded when a window is first read."""
    if not path.is_file():
        raise SourceError(f"there is no picture {path}", hint="has the kwcoco file been moved?")
    pictures, root = reader("pictures"), path.parent
    scan = pictures.scan(root, [path.name])
    if len(scan.series) != 1:
        reasons = [v.message for v in scan.verdicts] or ["not a picture that can be read"]
        raise SourceError(f"cannot open picture {path}", got=reasons[0])
    series = scan.series[0]
    found = pictures.in_place(root, series) if isinstance(pictures, InPlaceReader) else None
    source = DecodedSource(root, series, np.dtype(series.dtype)) if found is None else found.source
    return Volume("image", Grid.regular(series.axes, series.shape), source)


def _some(words: Iterable[str]) -> str:
    listed = list(words)
    return ", ".join(listed[:5]) + (" …" if len(listed) > 5 else "")
