"""Names of cases and volumes: what the source proposes, as far as its names may be said, and unique."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from ndvol.importing.bids import LABEL_SUFFIXES
from ndvol.importing.layouts import IMAGE_FOLDERS, LABEL_FOLDERS, Place
from ndvol.importing.options import ImportOptions
from ndvol.importing.privacy import Privacy, from_dicom


def image_names(members: Sequence[Place], options: ImportOptions, privacy: Privacy) -> list[tuple[str, ...]]:
    """The names of the images of a case, per place: its channels, its modality, or the user's; unique in the case."""
    stated = [[privacy.channel(name) for name in p.channels or (p.name,)] for p in members]
    proposed = [
        slug(name or privacy.modality(p.series.modality) or options.modality or "image")
        for p, names in zip(members, stated, strict=True)
        for name in names
    ]
    names = iter(numbered(proposed))
    return [tuple(next(names) for _ in channels) for channels in stated]


def label_name(place: Place, options: ImportOptions, privacy: Privacy) -> str:
    """The name of a label volume: the user's, or its folder's, or that of BIDS."""
    if options.label_name:
        return options.label_name
    if not privacy.strict or place.name.lower() in LABEL_FOLDERS | LABEL_SUFFIXES:
        return place.name
    # Several label volumes of one case must keep apart, and mean the same in every case.
    return f"labels-{privacy.digest('label', place.name)}" if place.whole else "labels"


def proposed_name(
    at: tuple[str, str], members: Sequence[Place], options: ImportOptions, privacy: Privacy
) -> tuple[str, PurePosixPath | None]:
    """The name a case should have, and the folder that may tell it from others; None where that may not be said."""
    first = next((p for p in members if from_dicom(p.series)), members[0])
    series = first.series
    study = series.study if options.case_by == "study" else ""
    plain = f"study-{study[:8]}" if study else series.name
    kind = "study" if study else privacy.modality(series.modality) or options.modality or "image"
    identity = f"study/{study}" if study else f"{series.uid}/{series.name}" if series.uid else "/".join(at)
    hidden = privacy.case_name(plain, series, identity, kind.lower())
    if hidden is not None:
        return hidden, None
    folder = PurePosixPath(series.files[0]).parent
    if options.case_by == "folder":
        # The case is called like its folder already.
        folder = folder.parent.parent if folder.name.lower() in IMAGE_FOLDERS else folder.parent
    return plain if study else first.case, folder


def case_names(proposals: Sequence[tuple[str, PurePosixPath | None]]) -> list[str]:
    """A unique file name per case: the one proposed, with its folders in front where several would be equal."""
    names = [slug(name) for name, _ in proposals]
    counts = Counter(names)
    for i, (name, folder) in enumerate(proposals):
        if folder and counts[slug(name)] > 1:
            names[i] = slug("-".join([*folder.parts, name]))
    return numbered(names)


def numbered(names: Sequence[str]) -> list[str]:
    """The names, those that stand there before with a number behind them; also where only a file system takes two
    for one.

    >>> numbered(["MR", "CT", "MR", "MR-2"])
    ['MR', 'CT', 'MR-3', 'MR-2']
    """
    proposed, used, unique = Counter(map(_folded, names)), set[str](), []
    for name in names:
        number, found = 1, name
        while _folded(found) in used or (number > 1 and _folded(found) in proposed):
            number += 1
            found = f"{name}-{number}"
        used.add(_folded(found))
        unique.append(found)
    return unique


def _folded(name: str) -> str:
    """What two names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def slug(text: str) -> str:
    """`text` as a name for files and HDF5 groups: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:120] or "unnamed"
