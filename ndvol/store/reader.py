"""Reading cases back: picklable sources that open their file on first use, in whichever process they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ndvol.errors import DamageError, GridError, StoreError
from ndvol.geometry import Clip, Grid, Window
from ndvol.geometry.pyramid import grids_of_shapes
from ndvol.hdf5 import READ_ERRORS
from ndvol.label_index import LabelIndex
from ndvol.store.file_facts import as_damage, file_facts
from ndvol.store.hdf5 import get_text, open_file, read_table
from ndvol.store.verify import check_format, not_ours
from ndvol.volumes import Case, LabelVolume, Volume


class Hdf5Source:
    """A `PatchSource` over data sets of an HDF5 file, one per pyramid level.

    Parameters
    ----------
    path : the file.
    datasets : paths inside the file, finest level first.

    Pickles as these two; opens the file in the process that reads.
    """

    def __init__(self, path: str | Path, datasets: tuple[str, ...]) -> None:
        # Absolute, so that a worker with another working directory finds it.
        self._path = str(Path(path).absolute())
        self._datasets = datasets
        levels = [file_facts(self._path).array(dataset) for dataset in datasets]
        first = levels[0]
        if any(level.dtype != first.dtype or len(level.shape) != len(first.shape) for level in levels):
            raise StoreError(f"the levels of {datasets[0]!r} in {path} differ in type or axes")
        self.level_shapes: tuple[tuple[int, ...], ...] = tuple(level.shape for level in levels)
        self.shape: tuple[int, ...] = first.shape
        self.dtype: np.dtype[Any] = first.dtype.newbyteorder("=")
        self._index: LabelIndex | None = None

    @property
    def levels(self) -> int:
        return len(self._datasets)

    @property
    def chunk(self) -> tuple[int, ...] | None:
        """HDF5's unit of storage at level 0; None for a data set without chunks."""
        return file_facts(self._path).array(self._datasets[0]).chunk

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """See `PatchSource`; raises `DamageError` when the stored bytes fail their checksum."""
        return self.read_many_into([window], [out], level=level, fill_value=fill_value)[0]

    def read_many_into(
        self, windows: Sequence[Window], outs: Sequence[NDArray[Any]], *, level: int = 0, fill_value: float = 0
    ) -> list[Window]:
        """`read_into` for several windows, each chunk decoded once."""
        path = self._datasets[level]
        facts = file_facts(self._path)
        clips = [window.clip(self.level_shapes[level]) for window in windows]
        for window, clip, out in zip(windows, clips, outs, strict=True):
            if clip.shape != window.shape:
                out[...] = fill_value
        inside = [(clip, out) for clip, out in zip(clips, outs, strict=True) if 0 not in clip.shape]
        direct = facts.reader(path) if inside else None
        if direct is not None:
            direct.read(*zip(*inside, strict=True))
        else:
            for clip, out in inside:
                self._read_slowly(facts.dataset(path), path, clip, out)
        return [Window(tuple(s.start for s in clip.placement), clip.shape) for clip in clips]

    def _read_slowly(self, dataset: h5py.Dataset, path: str, clip: Clip, out: NDArray[Any]) -> None:
        """Through h5py."""
        try:
            if out.flags.c_contiguous and out.dtype == self.dtype:
                dataset.read_direct(out, clip.inside, clip.placement)
            else:
                out[clip.placement] = dataset[clip.inside]
        except READ_ERRORS as error:
            box = Window(tuple(s.start for s in clip.inside), clip.shape)
            raise DamageError(
                f"cannot read {path!r} of {self._path} at {box.start} + {box.shape}",
                got=error,
                hint="run `ndvol verify`, delete the damaged file and import the case again",
                path=self._path,
                dataset=path,
                window=box,
            ) from error

    def cost(self, window: Window, *, level: int = 0) -> tuple[int, int] | None:
        """Bytes that `window` takes from the file, and bytes they decode to; None where h5py reads the data set."""
        facts, path = file_facts(self._path), self._datasets[level]
        direct = facts.reader(path)
        return direct.cost(window.clip(facts.array(path).shape)) if direct else None

    def label_index(self) -> LabelIndex:
        """The stored index of a label volume; read on first use."""
        if self._index is None:
            group = self._datasets[0].rsplit("/", 1)[0]
            chunk, table = self.chunk, read_table(open_file(self._path), f"{group}/index/counts")
            if chunk is None or table.ndim != 2 or table.shape[1] != 3:
                raise StoreError(f"the index of {group!r} in {self._path} is no table of counts per chunk")
            self._index = LabelIndex(self, chunk, table)
        return self._index


def open_case(path: str | Path) -> Case:
    """The case in an ndvol file.

    Raises
    ------
    StoreError : when it is no ndvol file; DamageError, UnsafeFileError : when it cannot be trusted.
    """
    facts = file_facts(path)
    if facts.contents is None:
        raise not_ours(facts.file)
    try:
        images = {name: _volume(path, name, known) for name, known in facts.contents["images"].items()}
        labels = {name: _label(path, name, known) for name, known in facts.contents["labels"].items()}
        return Case(str(facts.contents["case"]), images, labels)
    except READ_ERRORS as error:
        raise as_damage(error, path) from error


def read_objects(path: str | Path, label: str) -> NDArray[np.int64]:
    """The object table of a label volume: (n, 2 + 2 * ndim), columns as in `find_objects`."""
    return read_table(open_file(path), f"labels/{label}/index/objects")


def read_identity(path: str | Path) -> dict[str, str]:
    """The root's texts: ``ndvol_format``, ``case``, ``uuid``, ``created_by``."""
    file = open_file(path)
    check_format(file)
    return {name: get_text(file, name) for name in ("ndvol_format", "case", "uuid", "created_by")}


def read_provenance(path: str | Path) -> dict[str, Any]:
    """What the writer noted on where the case comes from."""
    data = read_table(open_file(path), "provenance")
    try:
        provenance: dict[str, Any] = json.loads(data.tobytes())
    except ValueError as error:
        raise DamageError(f"the provenance of {path} is no JSON", got=error) from error
    return provenance


def open_hdf5(
    path: str | Path,
    dataset: str,
    *,
    axes: str,
    spacing: tuple[float, ...] | None = None,
    name: str = "",
) -> Volume:
    """A data set of any HDF5 file as a volume, read in place: a chunked file needs no conversion.

    Parameters
    ----------
    dataset : path of the data set in the file.
    axes : its axes in storage order, from ``tczyx``.
    spacing : mm per spatial axis in storage order; None when unknown.
    name : of the volume; the last part of `dataset` by default.

    Raises
    ------
    UnsafeFileError : when the path leads through a link, or the voxels are kept in other files.
    GridError : when the axes do not fit the data set.
    """
    source = Hdf5Source(path, (dataset,))
    if len(axes) != len(source.shape):
        raise GridError(f"the axes do not fit {dataset!r}", got=f"{axes!r} for shape {source.shape}")
    # The world position of a stranger's array is not known, only its steps.
    grid = Grid.regular(axes, source.shape, spacing=spacing, frame="LOCAL")
    return Volume(name or dataset.rstrip("/").rsplit("/", 1)[-1], grid, source)


def _volume(path: str | Path, name: str, facts: dict[str, Any]) -> Volume:
    grids, source, attributes = _parts(path, f"images/{name}", facts)
    return Volume(name, grids[0], source, attributes, coarser=grids[1:])


def _label(path: str | Path, name: str, facts: dict[str, Any]) -> LabelVolume:
    grids, source, attributes = _parts(path, f"labels/{name}", facts)
    table = facts["categories"]
    if source.dtype.kind not in "iu" or not isinstance(table, dict):
        raise StoreError(f"'labels/{name}' in {path} is no label volume: integers with a table of categories")
    categories = {int(value): str(category) for value, category in table.items()}
    return LabelVolume(name, grids[0], source, attributes, categories, coarser=grids[1:])


def _parts(path: str | Path, group: str, facts: dict[str, Any]) -> tuple[tuple[Grid, ...], Hdf5Source, dict[str, Any]]:
    """The grids of all levels, the voxels, and the attributes of a volume."""
    source = Hdf5Source(path, tuple(f"{group}/{level}" for level in range(len(facts["levels"]))))
    grid = Grid(facts["axes"], source.shape, facts["affine"], facts["frame"], facts["unit"])
    # A copy: the facts are kept, and a case belongs to its caller.
    attributes = deepcopy({**facts["attributes"], "reorientation": facts["reorientation"]})
    return (grid, *grids_of_shapes(grid, source.level_shapes[1:])), source, attributes
