"""Voxels as a run of bytes in one or more files, as headers of text and of binary kind describe them.

The stream is read to its end, so that gzip and zlib prove their checksums. ITK does not: of 60 single-bit flips
in the compressed voxels of a MetaImage, SimpleITK 2.5.7 returned 60 images of wrong voxels and no error; of 60 in
a gzipped NRRD, 4. Paths from headers stay inside the header's folder.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.faults import reason

DEFLATE_RATIO = 1100
"""Deflate packs at most 1032 bytes into one; a header that declares more than this share is false."""
MAX_FILES = 100_000
"""A pattern of file names that gives more is a mistake, or meant to be one."""
MAX_EXCESS = 2**26
"""Unpacked bytes behind the voxels that are read for the checksum at their end; tags of FreeSurfer take a few KiB."""
FROM_END = -1
"""As `Layout.skip`: the voxels are the last bytes of the file."""

_STEP = 2**20
_PLACE = re.compile(r"%0?\d{0,2}[diu]")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the values are, in file order.

    Attributes
    ----------
    files : paths relative to the root; each holds an equal share of the values.
    encoding : ``raw``, ``gzip``, ``zlib`` (MetaIO; gzip is recognised), ``ascii`` or ``hex``.
    dtype : of the values, with their byte order.
    count : number of values in all files together.
    start : bytes of header in front, in each file.
    lines, skip : text lines to pass over after `start`, and then bytes of the decoded stream, or `FROM_END`.
    """

    files: tuple[str, ...]
    encoding: str
    dtype: np.dtype[Any]
    count: int
    start: int = 0
    lines: int = 0
    skip: int = 0

    @property
    def share(self) -> int:
        """Bytes of values per file."""
        return self.count // len(self.files) * self.dtype.itemsize


def confined(root: Path, header: str, name: str) -> str:
    """The path, relative to `root`, of the file that `header` calls `name`.

    Raises
    ------
    SourceError : code ``path-escape`` when its name leads out of the header's folder, or a link out of the root;
        ``missing-file`` when there is no such file.
    """
    folder = PurePosixPath(header).parent
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    leaves = bool(windows.drive or windows.root) or posix.is_absolute() or ".." in (*windows.parts, *posix.parts)
    try:
        target = (root / folder / name).resolve()
        # A link within the root is fine: git-annex keeps all content behind links.
        leaves = leaves or not target.is_relative_to(root.resolve())
        missing = not leaves and not target.is_file()
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, links in a circle
        missing = True
    if leaves:
        raise SourceError(
            f"{header} names a data file outside its own folder",
            got=repr(name[:200]),
            hint="put the data file beside the header and correct the name in the header",
            code="path-escape",
        )
    if missing:
        raise SourceError(
            f"the data file of {header} is not there",
            got=repr(name[:200]),
            hint="copy both files",
            code="missing-file",
        )
    return (folder / posix).as_posix()


def numbered(header: str, words: list[str]) -> tuple[str, ...]:
    """The names that ``pattern first last step`` stands for, both ends included; one ``%d`` or ``%03d`` in it."""
    pattern = " ".join(words[:-3])
    try:
        first, last, step = (int(word) for word in words[-3:])
        numbers = range(first, last + (1 if step > 0 else -1), step)
    except ValueError:
        numbers = range(0)
    if not 1 <= len(numbers) <= MAX_FILES or len(_PLACE.findall(pattern)) != 1 or pattern.count("%") != 1:
        raise SourceError(
            f"{header} names its data files by a pattern that cannot be followed",
            got=repr(" ".join(words)[:200]),
            expected="<name with one %d> <first> <last> <step>",
            code="header",
        )
    return tuple(pattern % number for number in numbers)


def check_sizes(root: Path, source: str, layout: Layout) -> None:
    """Raise where the files cannot hold what the header declares; nothing is allocated for it before."""
    if layout.count % len(layout.files):
        raise SourceError(
            f"the values of {source} do not share out among its data files",
            got=f"{layout.count} values, {len(layout.files)} files",
            code="header",
        )
    for file in layout.files:
        size = (root / file).stat().st_size - layout.start
        most = {
            "raw": size - max(layout.skip, 0),
            "ascii": (size + 1) // 2 * layout.dtype.itemsize,
            "hex": size // 2,
        }.get(layout.encoding, size * DEFLATE_RATIO)
        if layout.share > most:
            raise truncated(source, f"{size} bytes of voxels in {file}", layout.share)


def truncated(source: str, got: str, needed: int) -> SourceError:
    """The error for a file that ends before its voxels do."""
    return SourceError(
        f"{source} is truncated, or its header declares too much",
        got=got,
        expected=f"{needed} bytes",
        hint="copy the file again",
        code="truncated",
    )


def read_values(root: Path, source: str, layout: Layout) -> tuple[NDArray[Any], list[str]]:
    """The stored values, flat and in native byte order, and warnings; the sizes must have been checked.

    Raises
    ------
    SourceError : code ``truncated`` when a stream ends early or fails its checksum.
    """
    excess = False
    try:
        raw = np.empty(layout.share * len(layout.files), np.uint8)
        for k, file in enumerate(layout.files):
            out = raw[k * layout.share : (k + 1) * layout.share]
            with (root / file).open("rb") as stream:
                excess |= _fill(stream, layout, out, source)
    except (OSError, EOFError, zlib.error, MemoryError, ValueError, OverflowError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"the voxels of {source} cannot be read",
            got=reason(error, root),
            hint="copy the file again",
            code="truncated",
        ) from error
    warnings = ["bytes after the voxels are ignored"] if excess else []
    return raw.view(layout.dtype).astype(layout.dtype.newbyteorder("="), copy=False), warnings


def _fill(stream: IO[bytes], layout: Layout, out: NDArray[np.uint8], source: str) -> bool:
    """Fill `out` from an open file; True when bytes are left over."""
    stream.seek(layout.start)
    for _ in range(layout.lines):
        stream.readline(_STEP)
    if layout.skip == FROM_END:
        stream.seek(-out.size, 2)
    if layout.encoding in ("ascii", "hex"):
        data = stream.read()
        found = bytes.fromhex(data.decode("ascii")) if layout.encoding == "hex" else _numbers(data, layout.dtype)
        chunks = iter([found])
    else:
        chunks = _decoded(stream, layout.encoding)
    to_skip, filled = max(layout.skip, 0), 0
    for chunk in chunks:
        part = chunk[to_skip:]
        to_skip -= len(chunk) - len(part)
        used = part[: out.size - filled]
        out[filled : filled + len(used)] = np.frombuffer(used, np.uint8)
        filled += len(used)
        if len(used) < len(part):
            if layout.encoding in ("gzip", "zlib"):
                read_on(source, chunks, len(part) - len(used))
            return True
    if filled < out.size:
        raise truncated(source, f"{filled} bytes of voxels", out.size)
    return False


def read_on(source: str, chunks: Iterable[bytes], excess: int = 0) -> int:
    """The number of bytes that follow the voxels in a packed stream; its end proves its checksum.

    Raises
    ------
    SourceError : code ``excess`` when they are more than `MAX_EXCESS`.
    """
    for chunk in chunks:
        excess += len(chunk)
        if excess > MAX_EXCESS:
            raise SourceError(
                f"far more follows the voxels of {source} than its header declares",
                got=f"more than {MAX_EXCESS} bytes",
                hint="is its header that of another file?",
                code="excess",
            )
    return excess


def _decoded(stream: IO[bytes], encoding: str) -> Iterator[bytes]:
    """The decoded stream in pieces of at most `_STEP` bytes; raises where a checksum is missing or false."""
    if encoding == "zlib":
        magic = stream.read(2)
        stream.seek(-len(magic), 1)
        encoding = "gzip" if magic == b"\x1f\x8b" else "zlib"
    if encoding == "gzip":
        stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
    if encoding != "zlib":
        while chunk := stream.read(_STEP):
            yield chunk
        return
    inflate = zlib.decompressobj()
    pending = b""
    while not inflate.eof:
        pending = pending or stream.read(_STEP)
        if not pending:
            raise EOFError("the compressed stream ends early")
        yield inflate.decompress(pending, _STEP)
        pending = inflate.unconsumed_tail


def _numbers(text: bytes, dtype: np.dtype[Any]) -> bytes:
    """Numbers in text as the bytes of `dtype`; raises ValueError or OverflowError where one does not fit."""
    words = text.split()
    if dtype.kind == "f":
        return np.array([float(word) for word in words], dtype).tobytes()
    return np.array([int(word) for word in words], dtype).tobytes()
