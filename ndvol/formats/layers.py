"""Named structures as label volumes: their names cleaned, and as many layers as their overlaps need."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats import LabelData
from ndvol.geometry import Window

MAX_LAYERS = 32
"""More label volumes than this are no overlap of anatomy but a damaged or hostile file: each is a whole volume."""

MAX_NAME = 64
"""Characters of a name: what SegmentLabel and ROIName (LO, PS3.5 6.2) may hold."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some voxels of a structure: `mask` (bool, one length per spatial axis) begins at voxel `start`."""

    start: tuple[int, ...]
    mask: NDArray[np.bool_]

    @property
    def slices(self) -> tuple[slice, ...]:
        return Window(self.start, self.mask.shape).slices


@dataclass(frozen=True, slots=True)
class Structure:
    """A named structure: the union of its pieces, which all lie inside the volume."""

    value: int
    name: str
    pieces: Sequence[Piece]


def clean_name(raw: object, fallback: str) -> tuple[str, str]:
    """A printable name, and a warning that quotes the original where more than outer blanks was changed.

    >>> clean_name(" Left\\tlung ", "ROI 1")
    ('Left lung', "the structure 'Left\\\\tlung' is called 'Left lung'")
    >>> clean_name("", "ROI 1")
    ('ROI 1', "a structure without a name is called 'ROI 1'")
    """
    original = ("" if raw is None else str(raw)).strip(" \0")
    text = unicodedata.normalize("NFC", original)
    text = "".join(c if c.isprintable() else " " for c in text)
    name = " ".join(text.split())[:MAX_NAME].strip() or fallback
    if name == original:
        return name, ""
    return name, f"{f'the structure {original!r}' if original else 'a structure without a name'} is called {name!r}"


def label_volumes(
    name: str, shape: Sequence[int], structures: Iterable[Structure], *, highest: int, source: str
) -> tuple[LabelData, ...]:
    """Structures as as few label volumes as a greedy choice needs for no voxel of any to be lost.

    Each structure goes to the first volume in which all its voxels are free; a structure is never divided.
    Volumes are called ``name``, ``name-2``, ``name-3`` …; there is at least one. Structures without a voxel
    are named in the categories of the first volume.

    Parameters
    ----------
    structures : with distinct values from 1 to `highest`, which decides the type of all volumes.

    Raises
    ------
    SourceError : code ``too-many-layers``.
    """
    dtype = np.min_scalar_type(highest)
    layers: list[tuple[NDArray[Any], dict[int, str]]] = [(np.zeros(shape, dtype), {})]
    for structure in structures:
        free = (
            i for i, (array, _) in enumerate(layers) if not any(array[p.slices][p.mask].any() for p in structure.pieces)
        )
        at = next(free, len(layers))
        if at == MAX_LAYERS:
            raise SourceError(
                f"the structures of {source} overlap so much that they need more than {MAX_LAYERS} label volumes",
                hint="export them in several files",
                code="too-many-layers",
            )
        if at == len(layers):
            layers.append((np.zeros(shape, dtype), {}))
        array, categories = layers[at]
        for piece in structure.pieces:
            array[piece.slices][piece.mask] = structure.value
        categories[structure.value] = structure.name
    return tuple(
        LabelData(f"{name}-{i}" if i > 1 else name, array, categories)
        for i, (array, categories) in enumerate(layers, start=1)
    )


def annotated(
    volumes: Sequence[LabelData], found: Iterable[str], originals: Mapping[int, str]
) -> tuple[LabelData, ...]:
    """The volumes with the names that the source has where they are others; the first of them with the warnings, and
    with a note when there are several."""
    volumes = [replace(v, originals={k: originals[k] for k in v.categories if k in originals}) for v in volumes]
    notes = [w for w in found if w]
    if len(volumes) > 1:
        notes.append(f"structures overlap: they are kept in {len(volumes)} label volumes")
    return replace(volumes[0], warnings=tuple(notes)), *volumes[1:]


def listing(names: Mapping[str, int] | Iterable[str], limit: int = 20) -> str:
    """Names, or names with their counts, for a message."""
    rows = [f"{k} ({v})" for k, v in names.items()] if isinstance(names, Mapping) else list(names)
    return ", ".join(rows[:limit]) + (f" and {len(rows) - limit} more" if len(rows) > limit else "")
