"""A file of patches: one chunk per patch, and tables with a row per patch or category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError
from ndvol.hdf5 import MAX_CHUNK_BYTES, get_dataset, open_once
from ndvol.store.chunked import ChunkedDataset
from ndvol.store.codec import TABLE, named_codecs
from ndvol.store.hdf5 import put_text
from ndvol.store.publishing import compare_written, new_file
from ndvol.store.verify import Damage

Column = NDArray[Any] | Sequence[str]


@dataclass(frozen=True, slots=True)
class Patches:
    """What all patches of one data set have in common.

    Attributes
    ----------
    path : of the data set in the file, ``images/<name>`` or ``labels/<name>``.
    axes : of a patch, in storage order.
    shape : of a patch.
    dtype : of its voxels.
    not_annotated : the value of all voxels of a patch whose case has no such label volume; None for images.
    """

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    not_annotated: int | None = None


class PatchWriter:
    """Writes a file of patches, which is published whole on a clean exit and not at all otherwise.

    Parameters
    ----------
    count : number of patches in every data set.
    patches : the data sets.
    codec : ``portable`` (gzip) or ``none``, which any HDF5 reader decodes; Fletcher-32 with both.
    facts : texts about all of it, kept as attributes of the file.

    Raises
    ------
    OptionError : for another codec, or a patch that is too large for a chunk. StoreError : when the file cannot be
        written.
    """

    def __init__(
        self, path: Path, count: int, patches: Sequence[Patches], *, codec: str, facts: Mapping[str, str]
    ) -> None:
        if codec not in ("portable", "none"):
            raise OptionError("patches cannot be stored with this codec", got=repr(codec), expected="portable or none")
        for one in patches:
            if prod(one.shape) * one.dtype.itemsize > MAX_CHUNK_BYTES:
                raise OptionError(f"a patch of {one.path!r} is too large", got=f"{one.shape} of {one.dtype}")
        self._columns: dict[str, NDArray[Any]] = {}
        self._publication = ExitStack()
        self._file: h5py.File = self._publication.enter_context(new_file(path, self._verify))
        for name, text in facts.items():
            put_text(self._file, name, text)
        self._patches: dict[str, ChunkedDataset] = {}
        for one in patches:
            kind, name = one.path.split("/")
            group = self._file.require_group(kind)
            shape, chunk = (count, *one.shape), (1, *one.shape)
            dataset = ChunkedDataset(group, name, shape, one.dtype, chunk, named_codecs(codec)[0], fill=None)
            put_text(group[name], "axes", one.axes)
            if one.not_annotated is not None:
                group[name].attrs["not_annotated"] = one.not_annotated
            self._patches[one.path] = dataset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publication.__exit__(kind, error, trace)

    def put(self, path: str, number: int, patch: NDArray[Any]) -> None:
        """Write patch `number` of the data set at `path`, once."""
        self._patches[path].put((number, *[0] * patch.ndim), patch[None])

    def put_table(self, group: str, columns: Mapping[str, Column]) -> None:
        """Write a group of columns of equal length, texts with a fixed length in UTF-8."""
        for name, column in columns.items():
            path = f"{group}/{name}"
            self._columns[path] = _array(column)
            settings = {"chunks": self._columns[path].shape, "compression": "gzip", "compression_opts": TABLE.level}
            self._file.create_dataset(path, data=self._columns[path], shuffle=True, fletcher32=True, **settings)

    def _verify(self, part: Path) -> list[Damage]:
        damage = compare_written([*self._patches.values()], part)
        with open_once(part) as file:
            for path, column in self._columns.items():
                if get_dataset(file, path)[...].tobytes() != column.tobytes():
                    damage.append(Damage("a column has changed", path))
        return damage


def _array(column: Column) -> NDArray[Any]:
    if isinstance(column, np.ndarray):
        return column
    data = [text.encode() for text in column]
    return np.array(data, h5py.string_dtype("utf-8", max(map(len, data), default=0) or 1))
