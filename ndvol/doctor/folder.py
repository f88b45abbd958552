"""The file system of a folder: what a bundle in it would stand on."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ndvol.doctor.findings import Finding, judged

MUCH_SPACE, LITTLE_SPACE = 10 * 10**9, 10**9
_GROUP = "folder"


def check_folder(folder: Path) -> Iterator[Finding]:
    """What can be done in `folder`, tried in a temporary folder inside it; nothing is left behind.

    A folder that is yet to be made is judged by the one that it would be made in.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    kind = _file_system(there)
    yield Finding(_GROUP, "path", f"{there}{f' ({kind})' if kind else ''}")
    yield _space(there)
    try:
        with tempfile.TemporaryDirectory(prefix=".ndvol-doctor-", dir=there) as trial:
            yield Finding(_GROUP, "writable", "yes")
            yield from _trials(Path(trial))
    except OSError as error:
        advice = "choose another folder, or ask for the right to write"
        yield Finding(_GROUP, "writable", f"no: {error}", "problem", advice)


def _trials(folder: Path) -> Iterator[Finding]:
    yield _tried("replace and fsync", folder, _replace, "a bundle is published by these: put it on another file system")
    yield _tried("memory map", folder, _map, "files are read by mapping them: put the bundle on another file system")
    yield _locking(folder)
    yield _case_sensitivity(folder)


def _tried(name: str, folder: Path, trial: Callable[[Path], None], advice: str) -> Finding:
    try:
        trial(folder)
    except (OSError, ValueError) as error:
        return Finding(_GROUP, name, f"no: {error}", "problem", advice)
    return Finding(_GROUP, name, "works")


def _replace(folder: Path) -> None:
    """As a case is published: over an older file, both the file and the folder on disk."""
    part, target = folder / "a.part", folder / "a"
    target.write_bytes(b"old")
    with part.open("wb") as stream:
        stream.write(b"new")
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(target)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if target.read_bytes() != b"new":
        raise OSError("the old file is still there")


def _map(folder: Path) -> None:
    content = bytes(range(256)) * 64
    (folder / "map").write_bytes(content)
    with (folder / "map").open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        if view[:] != content:
            raise OSError("the map shows other bytes than the file")


def _locking(folder: Path) -> Finding:
    import fcntl

    advice = (
        "two imports into one bundle at a time are not kept apart there; other HDF5 programs may need "
        "HDF5_USE_FILE_LOCKING=FALSE, ndvol reads without locks"
    )
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "?")
            return Finding(_GROUP, "file locking", f"no: {error} ({name})", "warning", advice)
    return Finding(_GROUP, "file locking", "works")


def _case_sensitivity(folder: Path) -> Finding:
    (folder / "Case").touch()
    if (folder / "cASE").exists():
        advice = "cases whose names differ in case only would have one file: rename such sources before the import"
        return Finding(_GROUP, "case sensitivity", "A and a are one name", "warning", advice)
    return Finding(_GROUP, "case sensitivity", "A and a are two names")


def _space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    advice = "" if free >= MUCH_SPACE else "a bundle takes about as much as its compressed sources: make room"
    return judged(_GROUP, "free space", f"{free / 1e9:.1f} GB", advice, "problem" if free < LITTLE_SPACE else "warning")


def _file_system(folder: Path) -> str:
    """The kind of file system, from Linux' table of mounts; empty elsewhere."""
    table = Path("/proc/self/mountinfo")
    best, kind = -1, ""
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines() if table.is_file() else ():
        left, _, right = line.partition(" - ")
        place = left.split()[4].replace("\\040", " ")
        if folder.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), right.split()[0]
    return kind
