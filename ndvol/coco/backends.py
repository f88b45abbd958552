"""Backends: how the voxels of a picture are kept between two windows.

A backend turns an `Origin` into a `Volume`. What it stores is named by a hash of the content, never by a path: two
pictures of one relative name never share voxels, and a picture that is overwritten is another one.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from ndvol.errors import OptionError, StoreError
from ndvol.geometry import Grid, Window
from ndvol.store import CaseWriter, open_case
from ndvol.volumes import ArraySource, Volume

KEPT_BYTES = 2**28
"""Decoded pictures that are kept in memory per process, the last ones used."""

STORED_AS = "1"
"""Part of every hash: changes when the same bytes would be decoded to other voxels."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the voxels of a picture come from.

    Attributes
    ----------
    key : changes when any of the files does, at the price of a ``stat`` each.
    digest : hash of the files' content and of what is done to it, in hexadecimal digits.
    open : decodes the picture, at once or on first use.
    """

    key: Hashable
    digest: Callable[[], str]
    open: Callable[[], Volume]


class Backend(Protocol):
    """Keeps decoded pictures; picklable, and safe with several processes on one `workdir`."""

    def volume(self, origin: Origin) -> Volume:
        """The volume of an origin, with `KEPT_BYTES` of room for those that live in memory."""
        ...


class InMemory:
    """Backend None: a picture is decoded as a whole when a window of it is first read."""

    def volume(self, origin: Origin) -> Volume:
        return origin.open()


class _Stored:
    """A backend that converts each picture once, into a file of its own below `workdir`."""

    suffix = ""

    def __init__(self, workdir: Path) -> None:
        self._folder = workdir.absolute() / self.suffix.strip(".")

    def volume(self, origin: Origin) -> Volume:
        digest = origin.digest()
        folder = self._folder / digest[:2]
        # The name says the axes, so that nothing of the picture need be looked at.
        found = sorted(folder.glob(f"{digest}.*{self.suffix}"))
        if not found:
            decoded = origin.open()
            found = [folder / f"{digest}.{decoded.axes}{self.suffix}"]
            with _published(found[0]) as part:
                self._write(part, digest, decoded)
        return self._open(found[0])

    def _write(self, path: Path, digest: str, volume: Volume) -> None:
        raise NotImplementedError

    def _open(self, path: Path) -> Volume:
        raise NotImplementedError


class InHdf5(_Stored):
    """Backend ``hdf5``: chunked, compressed, with a hash per chunk; a window decodes only the chunks it touches."""

    suffix = ".h5"

    def _write(self, path: Path, digest: str, volume: Volume) -> None:
        with CaseWriter(path, case=digest, uuid=digest) as writer:
            writer.add_image("image", np.asarray(volume), volume.grid)

    def _open(self, path: Path) -> Volume:
        return open_case(path).images["image"]


class InNpy(_Stored):
    """Backend ``npy``: uncompressed, read by memory map."""

    suffix = ".npy"

    def _write(self, path: Path, digest: str, volume: Volume) -> None:
        with path.open("wb") as stream:
            np.save(stream, np.asarray(volume), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())

    def _open(self, path: Path) -> Volume:
        source = NpySource(path)
        return Volume("image", Grid.regular(path.name.split(".")[1], source.shape), source)


class NpySource:
    """A `PatchSource` over a .npy file, mapped anew in each process; pickles as its path."""

    levels = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {path}", got=error, hint="delete it; it is made again") from error
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self._mapped: ArraySource | None = ArraySource(array)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """See `PatchSource`."""
        if self._mapped is None:
            self._mapped = NpySource(self._path)._mapped
        assert self._mapped is not None  # a source is born with its map
        return self._mapped.read_into(window, out, level=level, fill_value=fill_value)


BACKENDS: dict[str, type[_Stored]] = {"hdf5": InHdf5, "npy": InNpy}


def backend_of(name: object, workdir: str | os.PathLike[str] | None) -> Backend:
    """The backend of that name, storing below `workdir`.

    Raises
    ------
    OptionError : when there is none of that name, or it has nowhere to store.
    """
    if name is None:
        return InMemory()
    if isinstance(name, dict):  # ndsampler's {'type': …, 'config': {…}}
        if name.get("config"):
            raise OptionError("a backend takes no configuration here", got=name["config"])
        return backend_of(name.get("type"), workdir)
    if name == "cog":
        raise OptionError("the backend 'cog' is not available yet", expected=f"None or one of {tuple(BACKENDS)}")
    if not isinstance(name, str) or name not in BACKENDS:
        raise OptionError("there is no such backend", got=repr(name), expected=f"None or one of {tuple(BACKENDS)}")
    if workdir is None:
        raise OptionError(f"the backend {name!r} needs a folder to store in", hint="give workdir=…")
    return BACKENDS[name](Path(workdir))


class Volumes:
    """The volumes last opened through a backend; a pickle carries none of them.

    Those of pictures in memory count with their decoded size, others with nothing.
    """

    def __init__(self, backend: Backend, room: int = KEPT_BYTES, handles: int = 4096) -> None:
        self._backend, self._room, self._handles = backend, room, handles
        self._open: OrderedDict[Hashable, Volume] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __getitem__(self, origin: Origin) -> Volume:
        found = self._open.pop(origin.key, None)
        new = found is None
        if found is None:
            found = self._backend.volume(origin)
        # Put at the end: the first is the one that was used longest ago.
        self._open[origin.key] = found
        while new and len(self._open) > 1 and (len(self._open) > self._handles or self._bytes() > self._room):
            self._open.popitem(last=False)
        return found

    def _bytes(self) -> int:
        return sum(
            prod(v.shape) * v.dtype.itemsize for v in list(self._open.values()) if isinstance(v.source, ArraySource)
        )


def file_stamp(path: Path) -> tuple[object, ...]:
    """What changes when the file at `path` is written again."""
    try:
        stat = path.stat()
    except OSError as error:
        raise StoreError(f"cannot read {path}", got=error, hint="has the kwcoco file been moved?") from error
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino


def file_digest(path: Path) -> str:
    """xxh3-128 of a file's bytes."""
    digest = xxhash.xxh3_128(STORED_AS.encode())
    with path.open("rb") as stream:
        while block := stream.read(2**22):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _published(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place when the block ends well; processes may race."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
            part = Path(folder, path.name)
            yield part
            part.replace(path)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError.from_os(error, path) from error
