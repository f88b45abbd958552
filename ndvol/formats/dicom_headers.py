"""DICOM headers: which files are DICOM, and the few values that decide about geometry and type."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ndvol.errors import SourceError
from ndvol.formats.dicom_deflate import dicom_head, open_dicom
from ndvol.formats.dicom_diffusion import DIFFUSION_TAGS, private_diffusion
from ndvol.formats.dicom_elements import plain_element, real_world, table_range
from ndvol.formats.faults import reason
from ndvol.formats.members import stamp_of
from ndvol.formats.values import StoredRange

SOFT_KEYS = (
    *("ImageType", "ConvolutionKernel", "TemporalPositionIdentifier", "EchoTime"),
    *("DiffusionBValue", "DiffusionGradientOrientation", "InversionTime", "FlipAngle"),
    *("NominalPercentageOfCardiacPhase", "TriggerTime", "FrameReferenceTime", "AcquisitionDate", "AcquisitionTime"),
    *("ContentDate", "ContentTime", "AcquisitionNumber", "InstanceNumber", "NumberOfTemporalPositions"),
)
"""What tells planes at one position apart: kind, echo, time, diffusion weighting, phase of the heart."""

PHYSICS = ("KVP", "SliceThickness", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "MagneticFieldStrength")
"""Acquisition physics that may leave the source: numbers that name nobody."""

_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelSpacing"),
    "RedPaletteColorLookupTableDescriptor",
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "RescaleType", "Units"),
)
_NOTED = ("BurnedInAnnotation", "SpacingBetweenSlices")
"""What only warnings and attributes look at; a bad value loses nothing."""
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
"""What places a plane in the patient."""
_PRESENCE = ("PerFrameFunctionalGroupsSequence",)
UIH_FRAMES = 0x00651051
"""MRVFrameSequence: United Imaging's private list of the tiles of a mosaic."""
_BY_TAG = {Tag(keyword): keyword for keyword in (*_KEYWORDS, *SOFT_KEYS, *PHYSICS, *_NOTED, *_PRESENCE)}
_SEQUENCES = ("ModalityLUTSequence", "RealWorldValueMappingSequence")
_TAGS: list[Any] = [*_BY_TAG, *map(Tag, (*_SEQUENCES, UIH_FRAMES, *DIFFUSION_TAGS))]

_PIXEL_DATA, _UNDEFINED = b"\xe0\x7f\x10\x00", 0xFFFFFFFF
"""The tag (7FE0,0010) as little endian files have it, and the length of what ends by a delimiter (PS3.5 7.1.1)."""

MAX_PLANE_PIXELS = 2**28
"""A plane with more pixels is a damaged or hostile header: detectors have up to 2**26."""


@dataclass(frozen=True, slots=True)
class Header:
    """The values of one plane that ndvol looks at: of a file, of a frame, or of a tile of a mosaic.

    Attributes
    ----------
    path : relative to the import's root, with ``/``.
    syntax : transfer syntax UID.
    values : by keyword; numbers, strings and tuples. None where empty, an exception where unreadable; SOPClassUID
        is always there, other keywords where the file has them.
    stamp : size and mtime_ns of the file when it was read; the header holds for no other.
    native : first byte and length of the PixelData in the file, where it is uncompressed and little endian.
    frame : which frame of the file, from 0.
    tile : row and column of the first pixel of a mosaic's tile; None when the plane is the whole frame.
    frame_size : rows and columns of the frame that holds the tile.
    """

    path: str
    syntax: str
    values: Mapping[str, Any]
    stamp: tuple[int, int] = (0, 0)
    native: tuple[int, int] | None = None
    frame: int = 0
    tile: tuple[int, int] | None = None
    frame_size: tuple[int, int] | None = None

    def get(self, keyword: str) -> Any:
        value = self.values.get(keyword)
        if isinstance(value, Exception):
            raise SourceError(f"{keyword} of {self.path} cannot be read", got=str(value), code="bad-header")
        return value

    def text(self, keyword: str) -> str:
        """The value as text, parts joined by a backslash as DICOM does; empty when absent."""
        value = self.get(keyword)
        return "" if value is None else "\\".join(map(str, value if isinstance(value, tuple) else (value,)))

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """`count` finite numbers, or None when absent."""
        value = self.get(keyword)
        if value is None:
            return None
        try:
            found = tuple(float(v) for v in (value if isinstance(value, tuple) else (value,)))
        except (TypeError, ValueError):
            found = ()
        if len(found) != count or not all(map(math.isfinite, found)):
            raise SourceError(
                f"{keyword} of {self.path} is not {count} finite numbers", got=repr(value), code="bad-header"
            )
        return found

    def number(self, keyword: str, default: float | None = None) -> float | None:
        found = self.numbers(keyword, 1)
        return default if found is None else found[0]

    def integer(self, keyword: str, default: int = 0) -> int:
        found = self.number(keyword)
        if found is not None and not found.is_integer():
            raise SourceError(f"{keyword} of {self.path} is not an integer", got=found, code="bad-header")
        return default if found is None else int(found)

    def check(self) -> None:
        """Raise unless every value that grouping, geometry and type need can be read."""
        for keyword in _KEYWORDS:
            self.get(keyword)
        for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
            self.numbers(keyword, count)
        _ = self.stored_range

    @property
    def modality(self) -> str:
        return self.text("Modality")

    @property
    def image_type(self) -> tuple[str, ...]:
        return tuple(self.text("ImageType").upper().split("\\"))

    @property
    def samples(self) -> int:
        return self.integer("SamplesPerPixel", 1)

    @property
    def channels(self) -> int:
        """Samples per pixel after palette colours became RGB."""
        return 3 if self.text("PhotometricInterpretation") == "PALETTE COLOR" else self.samples

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the frame as it is stored."""
        return self.frame_size or (self.integer("Rows"), self.integer("Columns"))

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def is_signed(self) -> bool:
        return self.integer("PixelRepresentation") == 1

    @property
    def is_float(self) -> bool:
        """True for FloatPixelData and DoubleFloatPixelData (PS3.3 C.7.6.24): they have no stored bits and no sign."""
        if self.get("BitsStored") is not None or self.get("PixelRepresentation") is not None:
            return False
        return self.samples == 1 and self.integer("BitsAllocated") in (32, 64)

    @property
    def has_geometry(self) -> bool:
        return all(self.get(k) is not None for k in GEOMETRY)

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept (PS3.3 C.11.1); 1 and 0 where the file states none, for colours and lookup tables."""
        if self.channels > 1 or self.get("ModalityLUT") is not None:
            return 1.0, 0.0
        slope = self.number("RescaleSlope", 1.0)
        intercept = self.number("RescaleIntercept", 0.0)
        assert slope is not None
        assert intercept is not None
        if slope == 0:
            raise SourceError(f"RescaleSlope of {self.path} is 0", expected="a non-zero slope", code="bad-rescale")
        return slope, intercept

    @property
    def stored_range(self) -> StoredRange:
        """What BitsStored and PixelRepresentation (PS3.3 C.7.6.3), or the lookup table, allow the plane to hold."""
        if table := self.get("ModalityLUT"):
            return StoredRange(np.dtype(f"u{table[0]}"), table[1], table[2])
        if self.samples != self.channels:
            entry = self.numbers("RedPaletteColorLookupTableDescriptor", 3) or (0, 0, 16)
            return StoredRange(np.dtype(np.uint8 if entry[2] <= 8 else np.uint16), 0, 2 ** min(int(entry[2]), 16) - 1)
        if self.is_float:
            return StoredRange(np.dtype(f"f{self.integer('BitsAllocated') // 8}"), 0, 0, *self.rescale)
        bits = self.integer("BitsStored")
        dtype = np.dtype(f"{'i' if self.is_signed else 'u'}{self.integer('BitsAllocated') // 8}")
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if self.is_signed else (0, 2**bits - 1)
        return StoredRange(dtype, low, high, *self.rescale)


def read_header(root: Path, path: str) -> Header | None:
    """The header of the file at ``root / path``; None when the file is not DICOM.

    DICOM is what holds ``DICM`` at byte 128 (PS3.10 7.1), and what parses without it and carries a
    SOPClassUID, as files of old archives do. The suffix plays no part.

    Raises
    ------
    SourceError : the file is DICOM but its header cannot be read.
    """
    try:
        source = open_dicom(root / path, path)
    except SourceError:
        raise
    except Exception as error:  # of the file system, or what pydicom makes of meta information in front of a stream
        raise SourceError(
            f"{path} cannot be opened",
            got=reason(error, root),
            hint="see that the file is there, is whole and may be read",
            code="unreadable",
        ) from error
    with source:
        head = source.read(132)
        source.seek(0)
        marked = head[128:132] == b"DICM"
        if not marked and not _may_begin(head):
            return None
        try:
            header = _parse(source, path, stamp_of(root / path), force=not marked)
        except Exception as error:  # pydicom raises whatever the bytes provoke
            if not marked:
                return None
            raise SourceError(
                f"the header of {path} cannot be read",
                got=reason(error, root),
                hint="copy the file again, or leave it out",
                code="unreadable",
            ) from error
    if header.values["SOPClassUID"] is not None:
        return header
    if not marked:
        return None
    raise SourceError(
        f"the header of {path} has no SOPClassUID: it is cut or damaged", hint="copy the file again", code="unreadable"
    )


def may_be_dicom(root: Path, path: str) -> bool:
    """Whether the first bytes may be those of a DICOM file; true also for what cannot be opened."""
    try:
        head = dicom_head(root / path)
    except (OSError, SourceError):
        return True
    return head[128:132] == b"DICM" or _may_begin(head)


def _may_begin(head: bytes) -> bool:
    """Group 0002 or 0008, in either byte order: what a data set without preamble begins with."""
    return head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")


def uid_hash(uid: str) -> str:
    """16 hexadecimal digits that stand for a UID without naming it; empty for none."""
    return sha256(uid.encode()).hexdigest()[:16] if uid else ""


def known_uid(text: str) -> UID:
    """A UID as pydicom knows it, without its complaints about characters."""
    return UID(text, validation_mode=pydicom.config.IGNORE)


def _parse(source: BinaryIO, path: str, stamp: tuple[int, int], *, force: bool) -> Header:
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=_TAGS, force=force)
        values: dict[str, Any] = {}
        # Over what is there, and by tag: most keywords are absent, and looking each up took as long as parsing.
        for tag in dataset.keys():  # noqa: SIM118, iterating over the data set would convert every element
            if (keyword := _BY_TAG.get(tag)) is not None:
                values[keyword] = True if keyword in _PRESENCE else plain_element(dataset, tag)
        found = {"ModalityLUT": table_range(dataset), "RealWorldValue": real_world(dataset)}
        found["MosaicFrames"] = UIH_FRAMES in dataset or None
        values |= {keyword: value for keyword, value in found.items() if value is not None}
        values |= private_diffusion(dataset, values)
        meta = dataset.file_meta
        if values.get("SOPClassUID") is None:
            values["SOPClassUID"] = str(meta.get("MediaStorageSOPClassUID", "")) or None
        syntax = str(meta.get("TransferSyntaxUID", "")) or _guessed_syntax(dataset)
    return Header(path, syntax, values, stamp, _native_pixels(source, dataset, syntax))


def _native_pixels(source: BinaryIO, dataset: pydicom.Dataset, syntax: str) -> tuple[int, int] | None:
    """Where the uncompressed PixelData lies that `source` has come to; None where there is none in the file itself."""
    if syntax not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) or isinstance(source, io.BytesIO):
        return None
    implicit, little = dataset.original_encoding
    at, size = source.tell(), 8 if implicit else 12
    element = source.read(size)
    length = int.from_bytes(element[-4:], "little")
    whole = little and len(element) == size and element[:4] == _PIXEL_DATA and length < _UNDEFINED
    return (at + size, length) if whole else None


def _guessed_syntax(dataset: pydicom.Dataset) -> str:
    """The transfer syntax of a file without meta information: implicit or explicit, as pydicom found it."""
    implicit, little = dataset.original_encoding
    if not little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
