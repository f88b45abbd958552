"""Copies of DICOM files: one SOPInstanceUID in several files, told apart from different images under one UID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ndvol.errors import SourceError
from ndvol.formats.dicom_headers import Header
from ndvol.formats.dicom_pixels import stored_plane
from ndvol.formats.faults import reason
from ndvol.formats.members import are_equal


def without_copies(root: Path, headers: Sequence[Header]) -> tuple[list[Header], list[str]]:
    """One header per SOPInstanceUID, and what was dropped; only files that share a UID are opened.

    Raises
    ------
    SourceError : code ``duplicate-uid`` when files of the same UID are different images.
    """
    first: dict[tuple[str, int, object], Header] = {}
    same_files: dict[tuple[str, str], bool] = {}
    dropped = 0
    # Of two exports keep the fuller folder, so that a volume does not mix files of both.
    in_folder = Counter(h.folder for h in headers)
    for header in sorted(headers, key=lambda h: (-in_folder[h.folder], h.path)):
        uid = header.text("SOPInstanceUID") or header.path
        known = first.setdefault((uid, header.frame, header.tile), header)
        if known is header:
            continue
        pair = (known.path, header.path)
        if pair not in same_files:
            same_files[pair] = _are_equal(root, *pair)
        if not same_files[pair] and not _is_copy(root, known, header):
            raise SourceError(
                f"{known.path} and {header.path} carry the same SOPInstanceUID but differ",
                hint="keep the right one",
                code="duplicate-uid",
            )
        dropped += 1
    said = "1 copy of a slice (same UID, same pixels) was dropped"
    if dropped > 1:
        said = f"{dropped} copies of slices (same UID, same pixels) were dropped"
    return list(first.values()), [said] if dropped else []


def _are_equal(root: Path, one: str, other: str) -> bool:
    try:
        return are_equal(root / one, root / other)
    except OSError as error:
        raise SourceError(
            f"{one} and {other} cannot be compared",
            got=reason(error, root),
            hint="see that both can be read, or keep one of them",
            code="unreadable",
        ) from error


def _is_copy(root: Path, one: Header, other: Header) -> bool:
    keys = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "PhotometricInterpretation")
    if any(one.get(k) != other.get(k) for k in keys) or one.rescale != other.rescale:
        return False
    return bool(np.array_equal(stored_plane(root, one), stored_plane(root, other), equal_nan=True))
