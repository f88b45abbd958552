"""Origins: where the voxels of a volume come from, known by the content of their files."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import xxhash

from ndvol.errors import SourceError
from ndvol.formats.kept import Stamp, check_unchanged, stamp_of
from ndvol.version import __version__
from ndvol.volumes import Volume

_BLOCK = 2**22


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the voxels of a volume come from.

    Attributes
    ----------
    files : all that the voxels depend on, absolute, in a fixed order.
    open : the volume as it is read from them, in place or decoded; picklable where the volume shall be.
    recipe : what else decides about the voxels: the reader, the array in the file, a warp.
    """

    files: tuple[str, ...]
    open: Callable[[], Volume]
    recipe: str = ""

    @property
    def key(self) -> Hashable:
        """Changes when any of the files does; costs a ``stat`` each."""
        return self.recipe, tuple(stamp_of(file) for file in self.files)

    def digest(self, *, again: bool = False) -> str:
        """xxh3-128 of the files' bytes and the recipe: never of a name, so that names cannot collide.

        Parameters
        ----------
        again : read the files again; else a file that has not changed is read once per process.

        Raises
        ------
        SourceError : when a file is not there, or changes while it is read.
        """
        # Another version may decode the same bytes to other voxels.
        total = xxhash.xxh3_128(f"{__version__}\0{self.recipe}\0{len(self.files)}".encode())
        for file in self.files:
            stamp = stamp_of(file)
            total.update(_file_digest.__wrapped__(stamp) if again else _file_digest(stamp))
        return total.hexdigest()


@lru_cache(2**16)
def _file_digest(stamp: Stamp) -> bytes:
    digest = hash_file(Path(stamp.path))
    check_unchanged(stamp)
    return digest.encode()


def hash_file(path: Path) -> str:
    """xxh3-128 of a file's bytes, in hexadecimal digits."""
    state = xxhash.xxh3_128()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                state.update(block)
    except OSError as error:
        raise SourceError(f"cannot read {path}", got=error.strerror, code="unreadable") from error
    return state.hexdigest()
