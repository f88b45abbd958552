"""What opening a volume needs to know of a data set, so that HDF5 itself need not open it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import h5py
import numpy as np

from ndvol.errors import DamageError, StoreError, UnsafeFileError
from ndvol.hdf5 import MAX_CHUNK_BYTES, get_dataset

FLETCHER32 = 3
_TYPE = re.compile(r"[<>|][iuf][1248]")


@dataclass(frozen=True, slots=True, eq=False)
class StoredArray:
    """How the voxels of a data set are stored.

    Attributes
    ----------
    file, name : where it is; the name begins with a slash.
    shape, dtype : of the whole.
    chunk : shape of a chunk; None for a data set without chunks.
    filters : HDF5's numbers of the filters, in the order in which they were applied.
    fill_value : of voxels that are not stored.
    """

    file: h5py.File
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...] | None
    filters: tuple[int, ...]
    fill_value: Any

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Self:
        """What HDF5 says of a data set; raises `StoreError` when it holds no numbers."""
        if dataset.shape is None or dataset.dtype.kind not in "biuf":
            raise StoreError(f"{dataset.name!r} in {dataset.file.filename} holds no numbers", got=dataset.dtype)
        plist = dataset.id.get_create_plist()
        filters = tuple(plist.get_filter(i)[0] for i in range(plist.get_nfilters()))
        chunk = plist.get_chunk() if plist.get_layout() == h5py.h5d.CHUNKED else None
        return cls(dataset.file, dataset.name, dataset.shape, dataset.dtype, chunk, filters, dataset.fillvalue)

    @classmethod
    def from_json(cls, file: h5py.File, name: str, facts: Mapping[str, Any]) -> Self:
        """What `to_json` has told.

        Raises
        ------
        UnsafeFileError : for chunks too large. ValueError, TypeError, LookupError : for anything else than such facts.
        """
        shape, filters = _numbers(facts["shape"]), _numbers(facts["filters"])
        chunk = None if facts["chunk"] is None else _numbers(facts["chunk"])
        wrong = chunk is not None and (len(chunk) != len(shape) or 0 in chunk)
        if wrong or not _TYPE.fullmatch(facts["type"]) or not isinstance(facts["fill_value"], int | float):
            raise ValueError(f"{name!r} cannot be stored like this: {facts}")
        dtype = np.dtype(facts["type"])
        if prod(chunk or ()) * dtype.itemsize > MAX_CHUNK_BYTES:
            raise UnsafeFileError(
                f"{name!r} in {file.filename} has chunks of {chunk} voxels", expected=f"at most {MAX_CHUNK_BYTES} bytes"
            )
        # Of the array's type, so that it is cast as voxels are. An integer beyond the type is an OverflowError.
        try:
            fill_value = np.array(facts["fill_value"], dtype)[()]
        except OverflowError as error:
            raise ValueError(f"{name!r} cannot be filled with {facts['fill_value']}") from error
        return cls(file, name, shape, dtype, chunk, filters, fill_value)

    def to_json(self) -> dict[str, Any]:
        """All but where it is, as JSON."""
        return {
            "shape": list(self.shape),
            "type": self.dtype.str,
            "chunk": None if self.chunk is None else list(self.chunk),
            "filters": list(self.filters),
            "fill_value": self.fill_value.item(),
        }

    @property
    def is_checked(self) -> bool:
        """Whether HDF5's checksum follows each chunk."""
        return FLETCHER32 in self.filters

    def open(self) -> h5py.Dataset:
        """The data set itself, audited; raises `DamageError` when it is stored otherwise than this says."""
        dataset = get_dataset(self.file, self.name)
        found = StoredArray.of(dataset).to_json()
        # As text: a fill value that is not a number is not equal to itself.
        if str(found) != str(self.to_json()):
            raise DamageError(
                f"{self.name!r} in {self.file.filename} is not stored as the file's contents say",
                got=found,
                expected=self.to_json(),
                hint="run `ndvol verify`",
                path=self.file.filename,
                dataset=self.name.lstrip("/"),
            )
        return dataset


def _numbers(values: Any) -> tuple[int, ...]:
    """A tuple of the integers in a JSON list."""
    if not isinstance(values, list) or any(type(v) is not int or not 0 <= v < 2**63 for v in values):
        raise ValueError(f"no list of lengths: {values}")
    return tuple(values)
