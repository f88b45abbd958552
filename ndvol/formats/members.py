"""Files inside zip and tar archives, read as if they lay beside the archive: ``study.zip!/IM001``.

Nothing is ever unpacked to disk, so the names inside reach nothing but messages. What an archive declares is checked
before a byte is inflated, and what comes out against what it declared.
"""

from __future__ import annotations

import filecmp
import gzip
import io
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ndvol.errors import SourceError

MARK = "!/"
"""Between the path of an archive and the name of a file inside."""
MAX_MEMBERS = 100_000
MAX_DIRECTORY = 2**25
"""Bytes of a zip's directory, which is read as a whole: about 300 per file."""
MAX_MEMBER = 2**31
"""Bytes of one file inside; it is held in memory."""
MAX_TAR_GZ = 2**30
"""Bytes of a packed tar, which has no index: all of it is held in memory."""
MAX_RATIO, FREE_INFLATED = 200, 2**26
"""Beyond 64 MiB anything may inflate to this many times its size: scans pack 2 to 20 to 1, blank slices more."""

_ENCRYPTED = 0x1 | 0x40
_STEP = 2**20


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file lies in its archive; `packed` bytes at `offset` that unpack to `size`.

    Of a zip, `offset` is that of its local header, and `method` 0 (stored) or 8 (deflate); of a tar `method` is -1.
    """

    offset: int
    packed: int
    size: int
    method: int = -1
    crc: int = 0


def split(file: Path) -> tuple[Path, str] | None:
    """Archive and name inside it, for the path of a member; None for the path of a file."""
    text = str(file)
    at = text.find(MARK)
    while at >= 0:
        if (archive := Path(text[:at])).is_file():
            return archive, text[at + len(MARK) :]
        at = text.find(MARK, at + 1)
    return None


def open_source(file: Path) -> BinaryIO:
    """A file or member, open at its beginning; a member is an `io.BytesIO` whose checksum was proved.

    Raises
    ------
    OSError : when the file is not there.
    SourceError : when the member is damaged.
    """
    if (found := split(file)) is None:
        return file.open("rb")
    return io.BytesIO(_content(*found))


def head_of(file: Path, size: int) -> bytes:
    """The first `size` bytes of a file or member."""
    if (found := split(file)) is None:
        with file.open("rb") as stream:
            return stream.read(size)
    return _content(*found, most=size)


def stamp_of(file: Path) -> tuple[int, int]:
    """Size and mtime_ns: what tells that a file is still the same; of a member its size and its archive's mtime_ns."""
    if (found := split(file)) is None:
        stat = file.stat()
        return stat.st_size, stat.st_mtime_ns
    return _member(*found).size, found[0].stat().st_mtime_ns


def are_equal(one: Path, other: Path) -> bool:
    """Whether two files or members hold the same bytes."""
    if split(one) is None and split(other) is None:
        return filecmp.cmp(one, other, shallow=False)
    with open_source(one) as first, open_source(other) as second:
        return first.read() == second.read()


def members(archive: Path) -> Mapping[str, Member]:
    """The files in an archive by name, in its order; folders, links and hidden files are passed over.

    Raises
    ------
    SourceError : codes ``archive`` (cannot be read), ``too-large``, ``encrypted``, ``encoding``, ``path-escape`` and
        ``duplicate-member``.
    """
    stat = archive.stat()
    return _members(archive, (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=4)
def _members(archive: Path, stamp: tuple[int, int]) -> Mapping[str, Member]:
    try:
        # Not zipfile.is_zipfile, which takes a tar that ends in a zip for one.
        is_zip = head_of(archive, 2) == b"PK"
        found = _zip_members(archive) if is_zip else _tar_members(archive, stamp)
    except SourceError:
        raise
    except Exception as error:  # zipfile and tarfile raise whatever the bytes provoke
        got = f"{type(error).__name__}: {str(error)[:100]}"
        raise SourceError(
            f"{archive.name} cannot be read as an archive", got=got, hint="copy it again", code="archive"
        ) from error
    found = [(PurePosixPath(name).as_posix() if name else name, member) for name, member in found]
    total, limit = sum(member.size for _, member in found), max(2**30, MAX_RATIO * stamp[0])
    if total > limit or max((member.size for _, member in found), default=0) > MAX_MEMBER:
        raise _too_large(archive, f"{total} bytes in {len(found)} files", f"at most {limit}, {MAX_MEMBER} in one")
    counts = Counter(name for name, _ in found)
    for name, count in counts.items():
        _check_name(archive, name)
        if count > 1:
            raise SourceError(f"{archive.name} holds {count} files of one name", got=name, code="duplicate-member")
    return {n: m for n, m in found if not any(p.startswith((".", "__MACOSX")) for p in PurePosixPath(n).parts)}


def _check_name(archive: Path, name: str) -> None:
    """Raise for names that would lead out of a folder, were they unpacked: whoever wrote them means harm."""
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in PurePosixPath(name).parts or name[1:2] == ":":
        raise SourceError(
            f"{archive.name} holds a name that leads out of its folder", got=repr(name[:100]), code="path-escape"
        )


def _zip_members(archive: Path) -> list[tuple[str, Member]]:
    if (size := _directory_size(archive)) > MAX_DIRECTORY:
        raise _too_large(archive, f"a directory of {size} bytes", f"at most {MAX_DIRECTORY}")
    with zipfile.ZipFile(archive) as file:
        infos = [info for info in file.infolist() if not info.is_dir()]
    if len(infos) > MAX_MEMBERS:
        raise _too_large(archive, f"{len(infos)} files", f"at most {MAX_MEMBERS}")
    for info in infos:
        if info.flag_bits & _ENCRYPTED:
            hint = "unpack it with its password first"
            raise SourceError(f"{archive.name} is encrypted", hint=hint, code="encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            got, hint = f"zip method {info.compress_type}", "unpack it first"
            raise SourceError(f"{archive.name} is packed in a way not supported", got=got, hint=hint, code="encoding")
    return [(i.filename, Member(i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC)) for i in infos]


def _directory_size(archive: Path) -> int:
    """Size of a zip's central directory as its end record states it (APPNOTE 4.3.14, 4.3.16)."""
    with archive.open("rb") as stream:
        end = stream.seek(0, 2)
        stream.seek(max(0, end - 2**16 - 22))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    large = tail.rfind(b"PK\x06\x06")
    return size if size < 2**32 - 1 or large < 0 else int.from_bytes(tail[large + 40 : large + 48], "little")


def _tar_members(archive: Path, stamp: tuple[int, int]) -> list[tuple[str, Member]]:
    found: list[tuple[str, Member]] = []
    with _tar_stream(archive, stamp) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        for info in file:
            if len(found) >= MAX_MEMBERS:
                raise _too_large(archive, "more files", f"at most {MAX_MEMBERS}")
            if info.isreg() and not info.issparse():
                found.append((info.name, Member(info.offset_data, info.size, info.size)))
        # tarfile takes a tar that is cut between two members for a whole one.
        stream.seek(file.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise SourceError(f"{archive.name} ends before its end mark", hint="copy it again", code="archive")
    return found


def _tar_stream(archive: Path, stamp: tuple[int, int]) -> BinaryIO:
    with archive.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return io.BytesIO(_inflated_tar(archive, stamp)) if packed else archive.open("rb")


@lru_cache(maxsize=1)
def _inflated_tar(archive: Path, stamp: tuple[int, int]) -> bytes:
    """A packed tar as a whole; kept, for every member lies somewhere in the one stream."""
    limit = min(MAX_TAR_GZ, max(FREE_INFLATED, MAX_RATIO * stamp[0]))
    with gzip.open(archive) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise _too_large(archive, f"more than {limit} bytes inflated", f"at most {limit}")
    return content


def _member(archive: Path, name: str) -> Member:
    known = members(archive)
    if name not in known:
        raise SourceError(f"{archive.name} holds no {name} any more", hint="scan it again", code="changed")
    return known[name]


def _content(archive: Path, name: str, *, most: int | None = None) -> bytes:
    """The content of a member, or its first `most` bytes, which prove no checksum."""
    member = _member(archive, name)
    where = f"{archive.name}{MARK}{name}"
    wanted = member.size if most is None else min(most, member.size)
    if member.method == zipfile.ZIP_DEFLATED and member.size > max(FREE_INFLATED, MAX_RATIO * member.packed):
        raise _too_large(archive, f"{member.size} bytes out of {member.packed} in {name}", f"{MAX_RATIO} to 1")
    stat = archive.stat()
    stamp = stat.st_size, stat.st_mtime_ns
    try:
        with archive.open("rb") if member.method >= 0 else _tar_stream(archive, stamp) as stream:
            stream.seek(member.offset)
            content = stream.read(wanted) if member.method < 0 else _unzipped(stream, member, wanted)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(where, error) from error
    if len(content) != wanted or (most is None and member.method >= 0 and zlib.crc32(content) != member.crc):
        raise _damaged(where, f"{len(content)} bytes")
    return content


def _unzipped(stream: BinaryIO, member: Member, wanted: int) -> bytes:
    """The first `wanted` bytes of the member of a zip whose local header comes next (APPNOTE 4.3.7)."""
    local = stream.read(30)
    if local[:4] != b"PK\x03\x04":
        raise zlib.error("no local header")
    stream.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
    if member.method == zipfile.ZIP_STORED:
        return stream.read(min(wanted, member.packed))
    inflater, out, left = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), member.packed
    while len(out) < wanted and (packed := inflater.unconsumed_tail or stream.read(min(left, _STEP))):
        left -= 0 if inflater.unconsumed_tail else len(packed)
        out += inflater.decompress(packed, wanted - len(out))
    return bytes(out)


def _too_large(archive: Path, got: str, expected: str) -> SourceError:
    return SourceError(
        f"{archive.name} is too large to be read in place",
        got=got,
        expected=expected,
        hint="unpack it first and import the folder",
        code="too-large",
    )


def _damaged(where: str, got: object) -> SourceError:
    return SourceError(f"{where} is damaged in its archive", got=got, hint="copy the archive again", code="archive")
