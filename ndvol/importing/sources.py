"""Fingerprints of sources: what tells an unchanged file, and what makes the identity of a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ndvol.errors import SourceError
from ndvol.importing.plan import PlannedVolume
from ndvol.importing.privacy import Privacy
from ndvol.store import file_sha256


def quick_fingerprint(volume: PlannedVolume, privacy: Privacy) -> dict[str, Any]:
    """Size and mtime_ns per file: what tells an unchanged source without reading it. Hashed where names are hidden."""
    stats = {name: file.stat() for name, file in _named_files(volume, privacy).items()}
    found = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    if privacy.hides(volume.series):
        # The time of an export tells the day of an examination.
        return {name: privacy.digest("stat", f"{size} {mtime}", 16) for name, (size, mtime) in found.items()}
    return found


def _named_files(volume: PlannedVolume, privacy: Privacy) -> dict[str, Path]:
    """The files of a volume by the names that the journal gives them."""
    names = privacy.file_names(volume.series)
    return {name: Path(volume.root, file) for name, file in zip(names, volume.series.files, strict=True)}


def fingerprint(volume: PlannedVolume, privacy: Privacy) -> dict[str, Any]:
    """Stats and SHA-256 per file of a volume, as the journal keeps them."""
    try:
        stats = quick_fingerprint(volume, privacy)
        digests = {name: file_sha256(file) for name, file in _named_files(volume, privacy).items()}
    except OSError as error:
        raise SourceError(f"cannot read {volume.series.source}", got=error, code="unreadable") from error
    return {"volume": volume.name, "stats": stats, "sha256": digests}
