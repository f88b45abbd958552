"""The markers of a JPEG stream (ISO 10918-1 B.1 and B.2), walked before a decoder sees it.

GDCM, the only permissive decoder of lossless JPEG, ends the whole process on some streams with damaged markers, and
makes room for whatever size they declare.
"""

from __future__ import annotations

import re

_ITEM = b"\xfe\xff\x00\xe0"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15; the three are tables and an extension."""
_ALONE = frozenset({0x01, _SOI, *range(0xD0, 0xD8)})
"""Markers without a segment; they have no place between segments."""
_AFTER_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
"""The next marker behind entropy-coded data, which stuffs its own 0xff with 0x00 and may hold restart markers."""


def check_items(data: bytes) -> None:
    """Raise ValueError unless encapsulated pixel data (PS3.5 A.4) is items that end where it ends.

    SimpleITK makes room for what an item declares, 800 MiB in a file of 1 KiB, and keeps some of it.

    >>> check_items(bytes.fromhex("feff00e0 00000000 feff00e0 02000000 ffd8"))
    >>> check_items(bytes.fromhex("feff00e0 00000000 feff00e0 04000000 ffd8"))
    Traceback (most recent call last):
    ...
    ValueError: an item of the pixel data does not end where the pixel data ends
    """
    at = 0
    while at < len(data):
        if data[at : at + 4] != _ITEM:
            raise ValueError("the pixel data is not made of items")
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    if at != len(data):
        raise ValueError("an item of the pixel data does not end where the pixel data ends")


def check_jpeg(data: bytes, shape: tuple[int, int, int], bits: int) -> None:
    """Raise ValueError unless `data` is one whole JPEG stream for a frame of `shape` (rows, columns, samples).

    `bits` are those of a decoded sample: 8 or 16, and no fewer than the stream has.

    >>> check_jpeg(b"\\xff\\xd8\\xff\\xd9", (1, 1, 1), 8)
    Traceback (most recent call last):
    ...
    ValueError: the JPEG stream holds no image
    """
    if data[:2] != bytes([0xFF, _SOI]):
        raise ValueError("the JPEG stream does not begin with its marker")
    at, found, precision, scans = 2, None, 0, 0
    while True:
        marker, at = _marker(data, at)
        if marker == _EOI:
            break
        length = int.from_bytes(data[at : at + 2], "big")
        segment, at = data[at + 2 : at + length], at + length
        if marker in _ALONE or length < 2 or at > len(data):
            raise ValueError(f"the JPEG stream is damaged at its marker {marker:02x}")
        if marker in _FRAMES:
            if found is not None or len(segment) < 6:
                raise ValueError("the JPEG stream has more than one frame header, or a damaged one")
            found = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big"), segment[5]
            precision = segment[0]
        elif marker == _SOS:
            scans += 1
            following = _AFTER_SCAN.search(data, at)
            if following is None:
                raise ValueError("the JPEG stream has no end marker")
            at = following.start()
    if not scans or found is None:
        raise ValueError("the JPEG stream holds no image")
    if found != shape:
        raise ValueError(f"the JPEG stream has {found[0]} rows, {found[1]} columns and {found[2]} components")
    if not precision <= bits <= 16:
        raise ValueError(f"the JPEG stream has samples of {precision} bits, the header of {bits}")


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """The code of the marker at `at`, and where its segment begins; any number of 0xff may stand in front of it."""
    start = at
    while data[at : at + 1] == b"\xff":
        at += 1
    if at == start or at >= len(data):
        raise ValueError("the JPEG stream is cut, or holds bytes that belong to no segment")
    return data[at], at + 1
