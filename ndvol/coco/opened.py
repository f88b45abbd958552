"""The volumes that a sampler of kwcoco images has open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import prod
from typing import Any

from ndvol.backends import Backend, Origin
from ndvol.volumes import ArraySource, Volume

KEPT_BYTES = 2**28
"""Warped pictures kept in memory per sampler and process, the last ones used."""
MAX_VOLUMES = 4096


class Volumes:
    """The volumes last opened through a backend; a pickle carries none of them.

    A file that is written again is another origin, and opened again.
    """

    def __init__(self, backend: Backend, room: int = KEPT_BYTES) -> None:
        self._backend, self._room = backend, room
        self._open: OrderedDict[Hashable, Volume] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __getitem__(self, origin: Origin) -> Volume:
        key = origin.key
        found = self._open.get(key)
        if found is None:
            found = self._open[key] = self._backend.volume(origin)
            while len(self._open) > 1 and (len(self._open) > MAX_VOLUMES or self._bytes() > self._room):
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return found

    def _bytes(self) -> int:
        """Of the arrays that the volumes themselves hold; decoded files are kept apart from them."""
        return sum(prod(v.shape) * v.dtype.itemsize for v in self._open.values() if isinstance(v.source, ArraySource))
