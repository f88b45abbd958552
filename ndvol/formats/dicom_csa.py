"""Siemens' private CSA header: a list of named elements in (0029,xx10)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAX_TAGS, _MAX_ITEMS = 1000, 10_000
_MAGIC = b"SV10"
"""A CSA2 header starts with it; CSA1 headers start with the number of elements."""


def read_csa(data: bytes) -> dict[str, tuple[str, ...]]:
    """Name -> values as text; elements without values are left out.

    The layout is Siemens' own and public only by reverse engineering: the documentation of nibabel, "Siemens
    format DICOM with CSA header", describes both forms.

    Raises
    ------
    ValueError : the bytes are no such header, or one that is cut.

    >>> read_csa(b"SV10")
    Traceback (most recent call last):
    ValueError: the CSA header is cut
    """
    try:
        return {name: values for name, values in _elements(data) if values}
    except struct.error:
        raise ValueError("the CSA header is cut") from None


def _elements(data: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
    second = data[:4] == _MAGIC
    at = 8 if second else 0
    count, _ = struct.unpack_from("<2I", data, at)
    at += 8
    if not 0 < count <= _MAX_TAGS:
        raise ValueError(f"a CSA header of {count} elements")
    base = 0
    for number in range(count):
        name, multiplicity, _, _, items, _ = struct.unpack_from("<64si4s3i", data, at)
        at += 84
        if not 0 <= items <= _MAX_ITEMS:
            raise ValueError(f"an element of {items} items")
        if number == 0:
            base = items
        values = []
        for _ in range(items):
            lengths = struct.unpack_from("<4i", data, at)
            at += 16
            # CSA1 adds the first element's number of items to every length.
            length = lengths[1] if second else lengths[0] - base
            if length < 0 or at + length > len(data):
                if second:
                    raise ValueError("the CSA header is cut")
                break
            values.append(_text(data[at : at + length]))
            at += length + -length % 4
        kept = values[:multiplicity] if multiplicity > 0 else values
        yield _text(name), tuple(v for v in kept if v)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("latin-1").strip()
