"""CaseWriter: one case into one immutable HDF5 file, published whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from ndvol.errors import GridError, NdvolError, OptionError, StoreError
from ndvol.geometry import Grid, Reorientation, chunk_shape
from ndvol.geometry.tiling import chunk_counts, chunk_window
from ndvol.label_index import count_chunks
from ndvol.store.codec import FAST, TABLE, Codec
from ndvol.store.hdf5 import LIBVER, forget, put_text
from ndvol.store.objects import find_objects
from ndvol.store.verify import ATTRIBUTES_DIGEST, FORMAT_VERSION, attributes_digest, verify_file
from ndvol.version import __version__

NAME = re.compile(r"[\w-][\w.-]*")
"""Names of volumes: no slash, no leading dot."""
_METADATA_ROOM = 2**20


class CaseWriter:
    """Writes ``<path>.part``, and on a clean exit verifies it, syncs it and renames it to `path`.

    Parameters
    ----------
    path : the file to publish; an existing one is replaced as a whole.
    case : name of the case.
    uuid : identity of the content; derive it from the sources and the options, so that the same import makes
        the same bytes.
    codec : compression of images and labels.

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

    def __init__(self, path: str | Path, *, case: str, uuid: str, codec: Codec = FAST) -> None:
        self._path = Path(path)
        self._part = self._path.with_name(self._path.name + ".part")
        self._codec = codec
        self._manifest: dict[str, list[tuple[int, int]]] = {}
        try:
            self._file = h5py.File(self._part, "w", libver=LIBVER, locking=False, rdcc_nbytes=0)
        except OSError as error:
            raise StoreError.from_os(error, self._part) from error
        for name, text in (("ndvol_format", FORMAT_VERSION), ("case", case), ("uuid", uuid)):
            put_text(self._file, name, text)
        put_text(self._file, "created_by", f"ndvol {__version__}")
        self._file.create_group("images")
        self._file.create_group("labels")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._publish()
                return
            except OSError as failure:
                error = failure
        self._abandon()
        if isinstance(error, OSError) and not isinstance(error, NdvolError):
            raise StoreError.from_os(error, self._part) from error
        if kind is None:
            raise error

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
        self._add_volume(f"images/{name}", array, grid, reorientation, attributes)

    def add_label(
        self,
        name: str,
        array: NDArray[Any],
        grid: Grid,
        *,
        categories: Mapping[int, str],
        reorientation: Reorientation | None = None,
        objects: str = "component",
    ) -> None:
        """Add a label volume with its index: voxels per chunk and value, and the objects.

        Parameters
        ----------
        array : integers in storage order, 0 is background; chunks of background alone are not stored.
        categories : value -> category name, for every value that occurs and any that was looked for.
        objects : ``component`` or ``category``, see `find_objects`.
        """
        if array.dtype.kind not in "biu":
            raise OptionError(f"label volume {name!r} must be integers", got=array.dtype)
        found = {int(v) for v in np.unique(array)} - {0}
        if unnamed := sorted(found - set(categories)):
            raise OptionError(f"label volume {name!r} holds values without a category", got=unnamed[:10])
        self._add_volume(f"labels/{name}", array, grid, reorientation, {"objects": objects})
        group = self._file[f"labels/{name}"]
        put_text(group, "categories", json.dumps({str(v): categories[v] for v in sorted(categories)}))
        index = group.create_group("index")
        self._table(index, "counts", count_chunks(array, group["0"].chunks))
        self._table(index, "objects", find_objects(array, objects))

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
    ) -> None:
        if not NAME.fullmatch(path.split("/", 1)[1]):
            raise OptionError(f"{path!r} is no name for a volume", expected="letters, digits, '-', '_' and '.'")
        if array.shape != grid.shape:
            raise GridError(f"{path!r}: array and grid differ", got=array.shape, expected=grid.shape)
        if array.dtype.kind not in "biuf":
            raise OptionError(f"{path!r}: only integers and floats can be stored", got=array.dtype)
        stored = array.view(np.uint8) if array.dtype.kind == "b" else array
        group = self._file.create_group(path)
        for key, text in (("axes", grid.axes), ("frame", grid.frame), ("unit", grid.unit)):
            put_text(group, key, text)
        group.attrs["affine"] = grid.affine
        n = len(grid.spatial)
        turn = reorientation or Reorientation(tuple(range(n)), (False,) * n)
        put_text(group, "reorientation", json.dumps({"order": turn.order, "flips": turn.flips}))
        put_text(group, "attributes", json.dumps(dict(attributes or {}), sort_keys=True, ensure_ascii=False))
        chunk = chunk_shape(grid.axes, grid.shape)
        fill = 0 if path.startswith("labels/") else _common_constant(stored, chunk)
        self._chunked(group, "0", stored, chunk, self._codec, fill=fill)

    def _table(self, group: h5py.Group, name: str, array: NDArray[Any]) -> None:
        """A small array in one chunk per 2^20 entries, readable without a plug-in."""
        rows = max(1, 2**20 // max(1, prod(array.shape[1:])))
        chunk = (max(1, min(rows, len(array))), *(max(1, n) for n in array.shape[1:]))
        self._chunked(group, name, array, chunk, TABLE, fill=None)

    def _chunked(
        self,
        group: h5py.Group,
        name: str,
        array: NDArray[Any],
        chunk: tuple[int, ...],
        codec: Codec,
        *,
        fill: float | None,
    ) -> None:
        """Write an array chunk by chunk; chunks that hold only `fill` are not stored and read as HDF5's fill value."""
        dtype = array.dtype.newbyteorder("<")
        plist = codec.property_list()
        plist.set_chunk(tuple(max(1, c) for c in chunk))
        if fill:
            plist.set_fill_value(np.array(fill, dtype))
        space = h5py.h5s.create_simple(array.shape)
        dataset = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(dtype), space, plist)
        rows = self._manifest.setdefault(f"{group.name}/{name}".lstrip("/"), [])
        for number in range(prod(chunk_counts(array.shape, chunk))):
            window = chunk_window(number, array.shape, chunk)
            block = array[window.slices]
            if fill is not None and block.flat[0] == fill and _is_constant(block):
                continue
            if window.shape != chunk:
                # HDF5 stores the chunks at the border at full size.
                block = np.pad(block, [(0, c - n) for c, n in zip(chunk, window.shape, strict=True)])
            data = codec.encode(np.ascontiguousarray(block, dtype))
            dataset.write_direct_chunk(window.start, data)
            rows.append((number, xxhash.xxh3_64_intdigest(data)))

    def _publish(self) -> None:
        datasets = sorted(self._manifest)
        rows = [(i, number, digest) for i, path in enumerate(datasets) for number, digest in self._manifest[path]]
        table = np.array(rows, np.uint64).reshape(-1, 3)
        self._table(self._file, "manifest", table)
        put_text(self._file["manifest"], "datasets", json.dumps(datasets))
        put_text(self._file, "manifest_xxh3", xxhash.xxh3_64_hexdigest(table.tobytes()))
        put_text(self._file, ATTRIBUTES_DIGEST, attributes_digest(self._file))
        self._reserve_metadata()
        self._file.close()
        if damage := verify_file(self._part):
            raise StoreError(f"{self._part} does not read back as it was written", got=damage[0].what)
        descriptor = os.open(self._part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._part.replace(self._path)
        forget(self._path)
        sync_folder(self._path.parent)

    def _reserve_metadata(self) -> None:
        """Prove that there is room for HDF5's last metadata, so that a full disk shows here: an error while the
        library closes a file leaves it in a state that crashes the process at exit."""
        room = self._part.with_suffix(".room")
        try:
            room.write_bytes(bytes(_METADATA_ROOM))
        finally:
            room.unlink(missing_ok=True)

    def _abandon(self) -> None:
        # The file is thrown away; the error that led here is the one to report.
        with suppress(OSError, RuntimeError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power failure, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _common_constant(array: NDArray[Any], chunk: tuple[int, ...]) -> float | None:
    """The value of most chunks that hold a single one (air, padding); None when every chunk varies."""
    found: Counter[float] = Counter()
    for number in range(prod(chunk_counts(array.shape, chunk))):
        block = array[chunk_window(number, array.shape, chunk).slices]
        if _is_constant(block):
            found[block.flat[0].item()] += 1
    # Equal counts must not be told apart by the order of a dictionary.
    return min(found, key=lambda value: (-found[value], value)) if found else None


def _is_constant(block: NDArray[Any]) -> bool:
    """Whether all voxels are one finite value; the last ones tell most blocks of a scan before all are compared."""
    first = block.flat[0]
    return bool(np.isfinite(first) and block.flat[-1] == first and (block == first).all())
