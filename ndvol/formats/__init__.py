"""Files in: one reader per family of formats, found through the entry-point group ``ndvol.readers``.

A reader works in two steps, so that an import can be planned without decoding a pixel: `Reader.scan` looks at
names and headers and answers with series and verdicts; `Reader.read` turns one series into an array and a grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from numpy.typing import NDArray

from ndvol.errors import OptionError, UnknownNameError
from ndvol.geometry import Grid
from ndvol.geometry.gaps import OnGap
from ndvol.verdict import Verdict
from ndvol.volumes import Volume

Holes = Literal["auto", "xor", "union"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How sources are read where the choice is the user's; a reader looks at what concerns it.

    Attributes
    ----------
    on_gap : what becomes of a DICOM series whose planes have gaps. Attributes say it: lists of indices (JSON) along
        the axis that ``planes_axis`` names, both of the volume as it is stored, whatever its orientation.

        ``refuse`` it.

        ``mask`` the planes that are missing: their places hold one value, the padding or the lowest of the volume
        (0 in labels). ``missing_planes`` lists them, ``missing_planes_fill`` is the value. Unevenly spaced planes
        are refused.

        ``resample``: planes that are missing, and all planes of a series with uneven spacing, are interpolated
        linearly between the source's planes, from their true positions (see `ndvol.geometry.gaps.place_planes` for
        the even spacing). ``interpolated_planes`` lists those that are no plane of the source, ``source_planes``
        the indices, also fractions, at which the source's planes lie. Values become float32 (float64 where that does
        not hold the source's type), in all planes; where padding has a part in a voxel it is padding. Labels keep
        their type and take the nearest plane.
    deskew : shift the planes of a sheared volume (tilted gantry) until its grid is orthogonal, linearly within each
        plane; of every format, in the source's order of axes, before the volume is turned. The grid grows so that it
        holds all voxels; the rest holds the padding, or the lowest value (0 in labels), which ``deskewed_fill``
        says, beside ``deskewed_degrees``. Values become floats as for ``resample``, unless every plane moves
        by whole pixels; labels move by the nearest number of whole pixels.
    holes : what the contours of one ROI of an RTSTRUCT make of each other in one plane. ``auto``: those inside
        others cut holes and those inside holes are islands, others are united, and where all are CLOSEDPLANAR_XOR
        they are combined by even-odd; ``xor``: all are combined by even-odd; ``union``: no holes.
    dataset : path in HDF5 files of the data set to import, the same in all of them; empty for the only one that may
        be a volume.
    """

    on_gap: OnGap = "refuse"
    deskew: bool = False
    holes: Holes = "auto"
    dataset: str = ""

    def __post_init__(self) -> None:
        if self.holes not in get_args(Holes):
            raise OptionError("holes is no way to combine contours", got=self.holes, expected=get_args(Holes))
        if self.on_gap not in get_args(OnGap):
            raise OptionError("on_gap is no way to treat missing planes", got=self.on_gap, expected=get_args(OnGap))


DEFAULT_READING = ReadOptions()


@dataclass(frozen=True, slots=True)
class Series:
    """Files that become one volume, known from names and headers alone. Picklable.

    Attributes
    ----------
    reader : name of the reader that made it and can read it.
    source : how verdicts name it: a path relative to the root, with ``/``.
    files : paths relative to the root, with ``/``, in the order of the volume's planes where that matters.
    key : what an image and its label share besides their folder: the path without suffix, or the folder.
    name : proposal for the name of the case.
    modality : DICOM Modality (``CT``, ``MR`` …), empty when the source does not say.
    axes, shape, dtype : of the volume as the source has it, before reorientation.
    spacing : mm per spatial axis in storage order; None when the source does not state it.
    uid : hash of what identifies the series (DICOM SeriesInstanceUID), empty when nothing does.
    frame : hash of the frame of reference (DICOM FrameOfReferenceUID), empty when not stated.
    study : hash of the examination (DICOM StudyInstanceUID), empty when not stated.
    refers_to : `uid` of the image series that structures were drawn on; see `StructureReader`.
    volume : name of the image volume among several of its case, where the source states one.
    warnings : what the user should know though the series is readable.
    reading : what the scan was told, where `Reader.read` depends on it.
    recipe : what the scan learned and `Reader.read` need not find out again, for the reader alone; picklable.
    """

    reader: str
    source: str
    files: tuple[str, ...]
    key: str
    name: str
    modality: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...] | None
    uid: str = ""
    frame: str = ""
    refers_to: tuple[str, ...] = ()
    volume: str = ""
    warnings: tuple[str, ...] = ()
    reading: ReadOptions = DEFAULT_READING
    recipe: Any = field(default=None, compare=False, repr=False)
    study: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a reader found: its series, verdicts for files it knows but will not import, and all it recognised."""

    series: tuple[Series, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    claimed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class VolumeData:
    """A volume as its source has it: array in storage order with its grid.

    Attributes
    ----------
    array : axes as in `grid`, C order not required; the caller owns it.
    value_unit : unit of the values (``HU``, ``BQML`` …), empty when not stated.
    attributes : allow-listed facts kept beside the volume, with DICOM keywords or NIfTI names as keys
        (``RescaleSlope``, ``PhotometricInterpretation`` …): numbers and short strings. ``PixelPaddingValue`` is the
        stored value; ``PixelPaddingValueOutput`` is what such a voxel holds in `array`.
        ``t_spacing_s`` is the time from one index of t to the next in seconds; where that varies, ``t_times_s`` holds
        the time of each as JSON.
    warnings : what the user should know though the volume was read.
    layers : of a label volume whose source names its values: value -> name as the source has it, one mapping per
        layer. Layers lie along the axis c when there is one.
    """

    array: NDArray[Any]
    grid: Grid
    modality: str = ""
    value_unit: str = ""
    attributes: Mapping[str, float | int | str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    layers: tuple[Mapping[int, str], ...] = ()

    @property
    def facts(self) -> dict[str, float | int | str]:
        """The attributes of the volume when it is kept: `attributes`, ``modality`` and ``value_unit``."""
        return {**self.attributes, "modality": self.modality, "value_unit": self.value_unit}


@dataclass(frozen=True, slots=True)
class LabelData:
    """A label volume drawn on the grid of an image.

    Attributes
    ----------
    name : of the label volume.
    array : unsigned integers of the shape of the image's spatial axes; 0 is background.
    categories : value -> name of the structure, cleaned.
    warnings : what the user should know: empty structures, contours left out.
    originals : value -> name as the source has it, where cleaning changed it.
    """

    name: str
    array: NDArray[Any]
    categories: Mapping[int, str]
    warnings: tuple[str, ...] = ()
    originals: Mapping[int, str] = field(default_factory=dict)


class Reader(Protocol):
    """One family of formats. Stateless; raises only `NdvolError`, whatever the bytes are."""

    name: str

    def scan(self, root: Path, files: Sequence[str], options: ReadOptions = DEFAULT_READING, *, jobs: int = 0) -> Scan:
        """Group those of `files` (relative to `root`, sorted) that this reader knows; decodes no pixel.

        Options that `read` needs go into the series.

        `jobs` is how many processes it may start where that pays; 0 and 1 stay in this one. The answer is the
        same for any number.
        """
        ...

    def read(self, root: Path, series: Series, *, as_label: bool = False) -> VolumeData:
        """Decode a series. As a label the values must be integers within 1e-3 and stay so."""
        ...


@runtime_checkable
class InPlaceReader(Reader, Protocol):
    """A reader that can leave the voxels of some series where they are."""

    def in_place(self, root: Path, series: Series) -> Volume | None:
        """The volume `Reader.read` gives, its windows read from the file; None where it must be decoded as a whole."""
        ...


@runtime_checkable
class StructureReader(Reader, Protocol):
    """A reader whose series are structures drawn on an image (DICOM SEG, RTSTRUCT), not volumes of their own.

    The axes, shape and spacing of such a series are empty.
    """

    def read_structures(self, root: Path, series: Series, grid: Grid) -> tuple[LabelData, ...]:
        """The structures as label volumes on the spatial `grid` of the image they belong to.

        Structures that overlap go to different label volumes, so that none hides another.
        """
        ...


@cache
def readers() -> dict[str, Reader]:
    """The installed readers by name; those of other packages come first, so that they can take over a format."""
    found = sorted(entry_points(group="ndvol.readers"), key=lambda e: (e.value.startswith("ndvol."), e.name))
    loaded = {}
    for entry in found:
        try:
            loaded[entry.name] = entry.load()()
        except Exception as error:
            # Another package's broken reader must not take ours along, but nobody should miss it unknowingly.
            warnings.warn(f"the reader {entry.name!r} ({entry.value}) cannot be loaded: {error!r}", stacklevel=2)
    return loaded


def reader(name: str) -> Reader:
    """The reader called `name`."""
    if name not in readers():
        raise UnknownNameError(
            f"there is no reader {name!r}",
            expected=f"one of {', '.join(readers())}",
            hint="install the package that provides it (entry-point group ndvol.readers)",
        )
    return readers()[name]
