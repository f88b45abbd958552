"""Names of cases and volumes: what the source proposes, as far as its names may be said, and unique."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from ndvol.importing.layouts import LABEL_FOLDERS, Place
from ndvol.importing.options import ImportOptions
from ndvol.importing.privacy import Privacy


def image_name(place: Place, options: ImportOptions, privacy: Privacy) -> str:
    """The name of an image volume: its channel, its modality, or the user's."""
    stated = privacy.channel(place.name) or privacy.modality(place.series.modality)
    return slug(stated or options.modality or "image")


def named_label(place: Place, options: ImportOptions, privacy: Privacy) -> Place:
    """A label under the name of its volume: the user's, or its folder's."""
    known = not privacy.strict or place.name.lower() in LABEL_FOLDERS
    return replace(place, name=options.label_name or (place.name if known else "labels"))


def proposed_name(
    at: tuple[str, str], place: Place, options: ImportOptions, privacy: Privacy
) -> tuple[str, PurePosixPath | None]:
    """The name a case should have, and the folder that may tell it from others; None where that may not be said."""
    hidden = privacy.case_name(place.case, place.series, "/".join(at), options.modality)
    return (place.case, PurePosixPath(place.series.files[0]).parent) if hidden is None else (hidden, None)


def case_names(proposals: Sequence[tuple[str, PurePosixPath | None]]) -> list[str]:
    """A unique file name per case: the one proposed, with its folders in front where several would be equal."""
    names = [slug(name) for name, _ in proposals]
    counts = Counter(names)
    for i, (name, folder) in enumerate(proposals):
        if folder and counts[slug(name)] > 1:
            names[i] = slug("-".join([*folder.parts, name]))
    proposed, used = Counter(map(_folded, names)), set[str]()
    for i, name in enumerate(names):
        number = 1
        while _folded(names[i]) in used or (number > 1 and _folded(names[i]) in proposed):
            number += 1
            names[i] = f"{name}-{number}"
        used.add(_folded(names[i]))
    return names


def _folded(name: str) -> str:
    """What two names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def slug(text: str) -> str:
    """`text` as a name for files and HDF5 groups: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:120] or "unnamed"
