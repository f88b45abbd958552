"""Archives among the sources, told from unknown files."""

from __future__ import annotations

from pathlib import Path

from ndvol.formats.dicom_deflate import HEAD_BYTES, gzip_head
from ndvol.verdict import Verdict

_MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
_PACKED_TAR = (".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_DOCUMENTS = (b"[Content_Types].xml", b"mimetype", b"META-INF/")
"""First entry of office documents, electronic books and Java archives, which are zip files too."""


def archive_kind(file: Path) -> str:
    """``zip``, ``tar``, ``7z`` or ``rar``, by content (packed tar other than gzip by suffix); empty for the rest."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return ""
    if any(head[30:].startswith(entry) for entry in _DOCUMENTS):
        return ""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    is_tar = b"ustar" in (head[257:262], gzip_head(head)[257:262])
    return "tar" if is_tar or file.name.lower().endswith(_PACKED_TAR) else ""


def archive_verdict(root: Path, path: str) -> Verdict | None:
    """The verdict on a file that no reader claimed, if it is an archive."""
    if not (kind := archive_kind(root / path)):
        return None
    message = f"a {kind} archive is opened only for DICOM in .zip, .tar and .tar.gz; unpack it first, import the folder"
    return Verdict(path, "refused", "archive", message)
