"""PNG files of small pictures by the standard library alone, for pages that hold their pictures themselves."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2


def png(picture: NDArray[np.uint8]) -> bytes:
    """The PNG file of a uint8 picture, (y, x) for grey or (y, x, 3) for red, green and blue (ISO 15948).

    >>> png(np.zeros((2, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    height, width = picture.shape[:2]
    kind = _RGB if picture.ndim == 3 else _GREY
    rows = np.zeros((height, 1 + picture[:1].size), np.uint8)  # the first byte of a row names its filter: none
    rows[:, 1:] = picture.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in parts)


def png_uri(picture: NDArray[np.uint8]) -> str:
    """A picture of (y, x) or (y, x, 3) as the text of a ``data:`` URI; the same pixels make the same text."""
    return f"data:image/png;base64,{b64encode(png(picture)).decode()}"


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
