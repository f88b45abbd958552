"""The plan of an import: which sources become which volumes of which cases. Data, printable, no pixel decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ndvol.formats import Series
from ndvol.importing.options import ImportOptions
from ndvol.importing.privacy import Disguise, Privacy
from ndvol.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PlannedVolume:
    """A series and the name its volume gets.

    Attributes
    ----------
    name : of the volume; those of all channels, if it has any.
    root : the folder that the series' files are relative to.
    channels : names of the images that its t axis holds; empty when it is one image.
    """

    name: str
    root: str
    series: Series
    channels: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the image volumes that are made of it."""
        return self.channels or (self.name,)


@dataclass(frozen=True, slots=True)
class PlannedLabel:
    """The sources of one case's labels.

    Attributes
    ----------
    name : of the label volume; structures bring their own names.
    root : the folder that the files are relative to.
    series : one label map, or several binary masks of one structure each, or structures drawn on an image.
    kind : ``map``, ``masks`` or ``structures``.
    images : names of the images that structures may have been drawn on; a map's or mask's own grid tells its image.
    structure : category of a map that holds a single structure; the name of the volume when empty.
    names : value -> category name of a map, where the layout says it.
    """

    name: str
    root: str
    series: tuple[Series, ...]
    kind: str
    images: tuple[str, ...] = ()
    structure: str = ""
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LostLabel:
    """A source of labels of a case that a reader refused with `code`; `volume` is what it would have been called."""

    volume: str
    source: str
    code: str


@dataclass(frozen=True, slots=True)
class CasePlan:
    """One case: its images and labels, and the categories that its layout states."""

    name: str
    images: tuple[PlannedVolume, ...]
    labels: tuple[PlannedLabel, ...] = ()
    categories: tuple[Mapping[str, Any], ...] = ()
    lost: tuple[LostLabel, ...] = ()

    @property
    def volumes(self) -> tuple[PlannedVolume, ...]:
        """All series of the case, images first, each under the name of its volume."""
        labels = (PlannedVolume(label.name, label.root, s) for label in self.labels for s in label.series)
        return (*self.images, *labels)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """Everything that an import will do, and what it will not do and why. It names files: as private as they are.

    Attributes
    ----------
    root : the folder that was searched.
    cases : in order of their names.
    verdicts : for the sources that are not part of a case.
    disguise : how sources may be named, see `ImportOptions.phi`; ``disguise.aliases`` leads from pseudonyms back.
    """

    root: str
    cases: tuple[CasePlan, ...]
    verdicts: tuple[Verdict, ...]
    options: ImportOptions = field(default_factory=ImportOptions)
    disguise: Disguise = field(default_factory=lambda: Disguise(Privacy("keep")))
