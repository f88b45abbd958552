"""The columns of a large catalogue in a file beside it, so that it opens again without parsing the JSON.

The file holds numbers and JSON text only (nothing is pickled) and belongs to one content of the kwcoco file; it is as
good as not there when it is stale or damaged, or cannot be written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import xxhash
from numpy.typing import NDArray

from ndvol.version import __version__

LEAST_BYTES = 2**20
"""Smaller kwcoco files parse in milliseconds and get no cache."""
_BLOCK = 2**22

Columns = dict[str, NDArray[Any]]


def cache_path(path: Path) -> Path:
    """Where the cache of the kwcoco file `path` lies: hidden beside it."""
    return path.with_name(f".{path.name}.columns.npz")


def cached_columns(path: Path, build: Callable[[], Columns]) -> Columns:
    """The columns of the kwcoco file `path`: kept ones when they are those of its content, else of `build`."""
    if path.stat().st_size < LEAST_BYTES:
        return build()
    key = f"{__version__} {_digest_of_file(path)}"
    found = _read(cache_path(path), key)
    if found is None:
        found = build()
        _write(cache_path(path), key, found)
    return found


def _read(file: Path, key: str) -> Columns | None:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
        stated = columns.pop("key").tobytes().decode()
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return columns if stated == f"{key} {_digest(columns)}" else None


def _write(file: Path, key: str, columns: Columns) -> None:
    stated = np.frombuffer(f"{key} {_digest(columns)}".encode(), np.uint8)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with suppress(OSError):  # a folder that cannot be written costs time, no more
        try:
            with part.open("wb") as stream:
                np.savez(stream, allow_pickle=False, key=stated, **columns)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


def _digest(columns: Columns) -> str:
    state = xxhash.xxh3_128()
    for name in sorted(columns):
        state.update(f"{name} {columns[name].dtype} {columns[name].shape}".encode())
        state.update(np.ascontiguousarray(columns[name]).view(np.uint8).data)
    return state.hexdigest()


def _digest_of_file(path: Path) -> str:
    state = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            state.update(block)
    return state.hexdigest()
