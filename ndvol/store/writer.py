"""CaseWriter: one case into one immutable HDF5 file, published whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import h5py
import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from ndvol.errors import GridError, OptionError
from ndvol.geometry import Grid, Reorientation, chunk_shape
from ndvol.geometry.pyramid import level_factors, level_grids, level_majorities, level_means
from ndvol.label_index import count_chunks, label_values
from ndvol.store.chunked import ChunkedDataset, ChunkedLabels, common_constant
from ndvol.store.codec import PLAIN, TABLE, Codec, choose_codec, named_codecs
from ndvol.store.contents import CONTENTS, describe
from ndvol.store.hdf5 import put_text
from ndvol.store.manifest import CHUNKS, MANIFEST, manifest_of
from ndvol.store.objects import find_objects, value_boxes
from ndvol.store.publishing import new_file
from ndvol.store.verify import ATTRIBUTES_DIGEST, FORMAT_VERSION, attributes_digest, verify_file
from ndvol.version import __version__

NAME = re.compile(r"[\w-][\w.-]*")
"""Names of volumes: no slash, no leading dot."""


class CaseWriter:
    """Writes ``<path>.part``, and on a clean exit verifies it, syncs it and renames it to `path`.

    Parameters
    ----------
    path : the file to publish; an existing one is replaced as a whole.
    case : name of the case.
    uuid : identity of the content; derive it from the sources and the options, so that the same import makes
        the same bytes. By default it follows from all that is written.
    codec : compression of images and labels: a name of `CODECS`, or one codec for all.
    levels : pyramid levels of every volume, 1 for the finest alone; see `ndvol.geometry.pyramid.level_grids`.

    Raises
    ------
    StorageFullError : when the device or quota is full; StoreError for other trouble with the device.
    GridError, OptionError : when an array does not fit its grid, or is of a type that cannot be stored.

    Whatever is raised inside the ``with`` block, nothing is published then, and an older file at `path` is left
    as it was.

    >>> import tempfile
    >>> from ndvol.store import open_case
    >>> path = Path(tempfile.mkdtemp()) / "toy.h5"
    >>> grid = Grid.regular("zyx", (2, 3, 4), spacing=(2, 1, 1))
    >>> with CaseWriter(path, case="toy", uuid="0") as writer:
    ...     writer.add_image("CT", np.arange(24, dtype=np.int16).reshape(2, 3, 4), grid)
    >>> open_case(path).images["CT"][1, 0].tolist()
    [12, 13, 14, 15]
    """

    def __init__(
        self, path: str | Path, *, case: str, uuid: str = "", codec: str | Codec = "fast", levels: int = 1
    ) -> None:
        self._codecs = (codec,) if isinstance(codec, Codec) else named_codecs(codec)
        self._levels = levels
        self._datasets: dict[str, ChunkedDataset] = {}
        self._streamed_labels: list[ChunkedLabels] = []
        self._publication = ExitStack()
        self._file: h5py.File = self._publication.enter_context(new_file(Path(path), verify_file))
        texts = {"ndvol_format": FORMAT_VERSION, "case": case, "uuid": uuid, "created_by": f"ndvol {__version__}"}
        for name, text in texts.items():
            if text or name != "uuid":
                put_text(self._file, name, text)
        self._file.create_group("images")
        self._file.create_group("labels")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._publication.__exit__(kind, error, trace)
            return
        with self._publication:
            self._finish()

    def add_image(
        self,
        name: str,
        array: NDArray[Any],
        grid: Grid,
        *,
        reorientation: Reorientation | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an image volume.

        Parameters
        ----------
        array : in storage order, of the grid's shape; bool is stored as uint8.
        reorientation : what was done to the source's axes, so that an export can undo it.
        attributes : JSON values kept beside the volume (``modality``, ``value_unit``, ``RescaleSlope`` …).
        """
        group = self._add_volume(f"images/{name}", array, grid, reorientation, attributes)
        stored, grids = _stored(array), level_grids(grid, self._levels)
        for level, means in enumerate(level_means(stored, level_factors(grid, grids)), start=1):
            self._put_level(group, level, means, grids[level - 1])

    def add_label(
        self,
        name: str,
        array: NDArray[Any],
        grid: Grid,
        *,
        categories: Mapping[int, str],
        reorientation: Reorientation | None = None,
        objects: str = "component",
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a label volume with its index: voxels per chunk and value, and the objects.

        Parameters
        ----------
        array : integers in storage order, 0 is background; chunks of background alone are not stored.
        categories : value -> category name, for every value that occurs and any that was looked for.
        objects : ``component`` or ``category``, see `find_objects`.
        attributes : JSON values kept beside the volume.
        """
        if array.dtype.kind not in "biu":
            raise OptionError(f"label volume {name!r} must be integers", got=array.dtype)
        if unnamed := sorted(set(label_values(array)) - set(categories)):
            raise OptionError(f"label volume {name!r} holds values without a category", got=unnamed[:10])
        attributes = {**(attributes or {}), "objects": objects}
        group = self._add_volume(f"labels/{name}", array, grid, reorientation, attributes)
        put_categories(group, categories)
        rows = find_objects(array, objects)
        self._index(group, count_chunks(array, group["0"].chunks), rows)
        grids = level_grids(grid, self._levels)
        levels = level_majorities(_stored(array), level_factors(grid, grids), value_boxes(rows))
        for level, majorities in enumerate(levels, start=1):
            self._put_level(group, level, majorities, grids[level - 1])

    def stream(
        self,
        name: str,
        dtype: DTypeLike,
        grid: Grid,
        *,
        categories: Mapping[int, str] | None = None,
        reorientation: Reorientation | None = None,
    ) -> ChunkedDataset:
        """Add a volume that is never in memory as a whole: all its boxes must be `put` within the ``with`` block.

        It is an image volume, or a label volume when it has `categories`: then all voxels of a value are one object,
        since connected components would need the whole volume at once. Chunks that hold only 0 are not stored.
        It has level 0 alone, and the first of several codecs.
        """
        if self._levels > 1:
            raise OptionError("a streamed volume has level 0 alone", got=f"{self._levels} levels")
        dtype, chunk = np.dtype(dtype), chunk_shape(grid.axes, grid.shape)
        if dtype.kind not in ("iuf" if categories is None else "iu"):
            raise OptionError(f"volume {name!r} cannot be streamed in this type", got=dtype)
        if categories is None:
            group = self._new_volume(f"images/{name}", dtype, grid, reorientation, None)
            return self._register(ChunkedDataset(group, "0", grid.shape, dtype, chunk, self._codecs[0], fill=0))
        group = self._new_volume(f"labels/{name}", dtype, grid, reorientation, {"objects": "category"})
        put_categories(group, categories)
        labels = ChunkedLabels(group, "0", grid.shape, dtype, chunk, self._codecs[0], categories)
        self._streamed_labels.append(labels)
        return self._register(labels)

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Keep JSON facts on where the case comes from: digests of the sources, versions, decisions."""
        text = json.dumps(provenance, sort_keys=True, ensure_ascii=False).encode()
        self._table(self._file, "provenance", np.frombuffer(text, np.uint8))

    def _add_volume(
        self,
        path: str,
        array: NDArray[Any],
        grid: Grid,
        reorientation: Reorientation | None,
        attributes: Mapping[str, Any] | None,
    ) -> h5py.Group:
        """A new volume with its level 0."""
        if array.shape != grid.shape:
            raise GridError(f"{path!r}: array and grid differ", got=array.shape, expected=grid.shape)
        group = self._new_volume(path, array.dtype, grid, reorientation, attributes)
        self._put_level(group, 0, _stored(array), grid)
        return group

    def _put_level(self, group: h5py.Group, level: int, array: NDArray[Any], grid: Grid) -> None:
        chunk = chunk_shape(grid.axes, grid.shape)
        fill = 0 if group.name.startswith("/labels/") else common_constant(array, chunk)
        codec = choose_codec(self._codecs, array, chunk)
        dataset = ChunkedDataset(group, str(level), grid.shape, array.dtype, chunk, codec, fill)
        self._register(dataset).put((0,) * grid.ndim, array)

    def _new_volume(
        self,
        path: str,
        dtype: np.dtype[Any],
        grid: Grid,
        reorientation: Reorientation | None,
        attributes: Mapping[str, Any] | None,
    ) -> h5py.Group:
        """The group of a volume and all that is said of it, but for its voxels."""
        if not NAME.fullmatch(path.split("/", 1)[1]):
            raise OptionError(f"{path!r} is no name for a volume", expected="letters, digits, '-', '_' and '.'")
        if dtype.kind not in "biuf":
            raise OptionError(f"{path!r}: only integers and floats can be stored", got=dtype)
        group = self._file.create_group(path)
        for key, text in (("axes", grid.axes), ("frame", grid.frame), ("unit", grid.unit)):
            put_text(group, key, text)
        group.attrs["affine"] = grid.affine
        n = len(grid.spatial)
        turn = reorientation or Reorientation(tuple(range(n)), (False,) * n)
        put_text(group, "reorientation", json.dumps({"order": turn.order, "flips": turn.flips}))
        put_text(group, "attributes", json.dumps(dict(attributes or {}), sort_keys=True, ensure_ascii=False))
        return group

    def _index(self, group: h5py.Group, counts: NDArray[np.int64], objects: NDArray[np.int64]) -> None:
        index = group.create_group("index")
        self._table(index, "counts", counts)
        self._table(index, "objects", objects)

    def _table(self, group: h5py.Group, name: str, array: NDArray[Any], codec: Codec = TABLE) -> None:
        """A small array in one chunk per 2^20 entries, readable without a plug-in."""
        rows = max(1, 2**20 // max(1, prod(array.shape[1:])))
        chunk = (min(rows, len(array)), *array.shape[1:])
        dataset = ChunkedDataset(group, name, array.shape, array.dtype, chunk, codec, fill=None)
        self._register(dataset).put((0,) * array.ndim, array)

    def _register(self, dataset: ChunkedDataset) -> ChunkedDataset:
        self._datasets[dataset.path] = dataset
        return dataset

    def _finish(self) -> None:
        """Write the indices of streamed labels, the contents, the manifest and the digests."""
        for dataset in self._datasets.values():
            dataset.require_complete()
        for labels in self._streamed_labels:
            self._index(labels.group, labels.counts, labels.objects)
        # Not sorted: a case that is read from here has its tables in the order of the attributes.
        contents = json.dumps(describe(self._file)).encode()
        self._table(self._file, CONTENTS, np.frombuffer(contents, np.uint8), PLAIN)
        names = sorted(self._datasets)
        table, places = manifest_of([self._file[n] for n in names], [self._datasets[n].hashes for n in names])
        self._table(self._file, MANIFEST, table, PLAIN)
        self._table(self._file, CHUNKS, places, PLAIN)
        put_text(self._file[MANIFEST], "datasets", json.dumps(names))
        put_text(self._file, "manifest_xxh3", xxhash.xxh3_64_hexdigest(table.tobytes()))
        if "uuid" not in self._file.attrs:
            # The attributes' digest stands for the whole file: that of the manifest is among them.
            content = hashlib.sha256(attributes_digest(self._file).encode()).digest()
            put_text(self._file, "uuid", str(UUID(bytes=content[:16], version=5)))
        put_text(self._file, ATTRIBUTES_DIGEST, attributes_digest(self._file))


def put_categories(group: h5py.Group, categories: Mapping[int, str]) -> None:
    """Write the table value -> category name of a label volume."""
    put_text(group, "categories", json.dumps({str(v): categories[v] for v in sorted(categories)}))


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    return array.view(np.uint8) if array.dtype.kind == "b" else array
