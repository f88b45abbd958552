"""Deflated DICOM files, inflated under a cap."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from ndvol.errors import SourceError

MAX_INFLATED = 2**29
"""Bytes that a deflated file may inflate to: zlib packs up to 1000 to 1, so a file of 1 MB can ask for 1 GB."""

_META_AT = 132
"""The preamble and ``DICM`` (PS3.10 7.1)."""


def open_dicom(file: Path, name: str) -> Path | io.BytesIO:
    """What pydicom may read: `file` itself, or its content where the transfer syntax is deflated.

    In a deflated file all that follows the meta information is one raw deflate stream (PS3.5 A.5).

    Raises
    ------
    SourceError : code ``deflated`` when the stream is damaged, cut or inflates to more than `MAX_INFLATED`.
    """
    with file.open("rb") as stream:
        head = stream.read(4096)
    if head[128:132] != b"DICM" or DeflatedExplicitVRLittleEndian.encode() not in head:
        return file
    meta = read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return file
    with file.open("rb") as stream:
        # (0002,0000) UL 4, then its value: the length of the rest of the group.
        stream.seek(_META_AT)
        length = int.from_bytes(stream.read(12)[8:], "little")
        stream.seek(_META_AT + 12 + length)
        content = _inflated(stream, name)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole = io.BytesIO()
    whole.write(head[:_META_AT])
    write_file_meta_info(whole, meta, enforce_standard=False)
    whole.write(content)
    whole.seek(0)
    return whole


def _inflated(stream: io.BufferedReader, name: str) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = bytearray()
    try:
        while not inflater.eof and (packed := inflater.unconsumed_tail or stream.read(2**20)):
            out += inflater.decompress(packed, MAX_INFLATED + 1 - len(out))
            if len(out) > MAX_INFLATED:
                raise _refused(name, f"more than {MAX_INFLATED} bytes")
    except zlib.error as error:
        raise _refused(name, error) from error
    if not inflater.eof:
        raise _refused(name, f"a stream that ends after {len(out)} bytes")
    return bytes(out)


def _refused(name: str, got: object) -> SourceError:
    return SourceError(
        f"the deflated content of {name} cannot be inflated",
        got=got,
        expected=f"one deflate stream of at most {MAX_INFLATED} bytes",
        hint="copy the file again, or convert it to Explicit VR Little Endian (dcmconv +te)",
        code="deflated",
    )
