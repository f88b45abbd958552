"""DICOM files that are packed, by their transfer syntax or by gzip, inflated under a cap."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import BinaryIO

from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from ndvol.errors import SourceError
from ndvol.formats.members import FREE_INFLATED, MAX_RATIO, head_of, open_source, split, stamp_of

MAX_INFLATED = 2**29
"""Bytes that a file may inflate to: zlib packs up to 1000 to 1, so a file of 1 MB can ask for 1 GB."""
HEAD_BYTES = 4096
GZIP = b"\x1f\x8b"

_META_AT = 132
"""The preamble and ``DICM`` (PS3.10 7.1)."""
_GZIP_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, -zlib.MAX_WBITS


def dicom_head(file: Path) -> bytes:
    """The first `HEAD_BYTES` of a file, or of what gzip packed into it when that is a DICOM file."""
    head = head_of(file, HEAD_BYTES)
    inner = gzip_head(head)
    return inner if inner[128:132] == b"DICM" else head


def gzip_head(head: bytes) -> bytes:
    """What the beginning of a gzip file unpacks to, at most `HEAD_BYTES`; empty for what is no gzip file."""
    if head[:2] != GZIP:
        return b""
    inflater, out = zlib.decompressobj(_GZIP_BITS), bytearray()
    try:
        # Bit by bit, so that damage further on does not hide what the file is.
        for at in range(0, len(head), 64):
            out += inflater.decompress(head[at : at + 64], HEAD_BYTES)
            if len(out) >= HEAD_BYTES:
                break
    except zlib.error:
        pass
    return bytes(out[:HEAD_BYTES])


def open_dicom(file: Path, name: str) -> BinaryIO:
    """The content of a file from its beginning, inflated where gzip packed it or its transfer syntax is deflated.

    In a deflated file all that follows the meta information is one raw deflate stream (PS3.5 A.5). The caller closes
    it; what was inflated is an `io.BytesIO`.

    Raises
    ------
    SourceError : code ``deflated`` or ``gzip`` when the stream is damaged, cut or inflates to more than
        `MAX_INFLATED`, or to more than `FREE_INFLATED` and `MAX_RATIO` times the file.
    """
    stream = open_source(file)
    try:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        inflated = _unpacked(file, name, stream, head)
    except BaseException:
        stream.close()
        raise
    if inflated is None:
        return stream
    stream.close()
    return inflated


def _unpacked(file: Path, name: str, stream: BinaryIO, head: bytes) -> io.BytesIO | None:
    """The inflated content of a file that begins with `head`; None for one that is not packed."""
    if (inner := gzip_head(head))[128:132] == b"DICM":
        if DeflatedExplicitVRLittleEndian.encode() in inner:
            raise _refused(name, "a deflated DICOM file inside gzip", "gzip", 0)
        return io.BytesIO(_inflated(stream, name, _limit(file), _GZIP_BITS))
    if head[128:132] != b"DICM" or DeflatedExplicitVRLittleEndian.encode() not in head:
        return None
    if split(file):
        raise _refused(name, "a deflated DICOM file inside an archive", "deflated", 0)
    meta = read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    # (0002,0000) UL 4, then its value: the length of the rest of the group.
    stream.seek(_META_AT)
    length = int.from_bytes(stream.read(12)[8:], "little")
    stream.seek(_META_AT + 12 + length)
    content = _inflated(stream, name, _limit(file), _RAW_BITS)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole = io.BytesIO()
    whole.write(head[:_META_AT])
    write_file_meta_info(whole, meta, enforce_standard=False)
    whole.write(content)
    whole.seek(0)
    return whole


def _limit(file: Path) -> int:
    return min(MAX_INFLATED, max(FREE_INFLATED, MAX_RATIO * stamp_of(file)[0]))


def _inflated(stream: BinaryIO, name: str, limit: int, bits: int) -> bytes:
    code = "gzip" if bits == _GZIP_BITS else "deflated"
    inflater = zlib.decompressobj(bits)
    out = bytearray()
    try:
        while not inflater.eof and (packed := inflater.unconsumed_tail or stream.read(2**20)):
            out += inflater.decompress(packed, limit + 1 - len(out))
            if len(out) > limit:
                raise _refused(name, f"more than {limit} bytes", code, limit)
    except zlib.error as error:
        raise _refused(name, error, code, limit) from error
    if not inflater.eof:
        raise _refused(name, f"a stream that ends after {len(out)} bytes", code, limit)
    if code == "gzip" and inflater.unused_data[:2] == GZIP:
        raise _refused(name, "several gzip members", code, limit)
    return bytes(out)


def _refused(name: str, got: object, code: str, limit: int) -> SourceError:
    unpack = "unpack it (gunzip)" if code == "gzip" else "convert it to Explicit VR Little Endian (dcmconv +te)"
    return SourceError(
        f"the {'gzipped' if code == 'gzip' else 'deflated'} content of {name} cannot be inflated",
        got=got,
        expected=f"one deflate stream of at most {limit} bytes" if limit else None,
        hint=f"copy the file again, or {unpack}",
        code=code,
    )
