"""DICOM headers: which files are DICOM, and the few values that decide about geometry and type."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.uid import UID

from ndvol.errors import SourceError
from ndvol.formats.dicom_deflate import open_dicom
from ndvol.formats.dicom_diffusion import DIFFUSION_TAGS, private_diffusion
from ndvol.formats.faults import reason
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
_PRESENCE = ("PerFrameFunctionalGroupsSequence",)
UIH_FRAMES = 0x00651051
"""MRVFrameSequence: United Imaging's private list of the tiles of a mosaic."""

MAX_PLANE_PIXELS = 2**28
"""A plane with more pixels is a damaged or hostile header: detectors have up to 2**26."""


@dataclass(frozen=True, slots=True)
class Header:
    """The values of one plane that ndvol looks at: of a file, of a frame, or of a tile of a mosaic.

    Attributes
    ----------
    path : relative to the import's root, with ``/``.
    syntax : transfer syntax UID.
    values : by keyword; numbers, strings and tuples. None where absent or empty, an exception where unreadable.
    frame : which frame of the file, from 0.
    tile : row and column of the first pixel of a mosaic's tile; None when the plane is the whole frame.
    frame_size : rows and columns of the frame that holds the tile.
    """

    path: str
    syntax: str
    values: Mapping[str, Any]
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
        if len(found) != count or not np.isfinite(found).all():
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
    def has_geometry(self) -> bool:
        return all(self.get(k) is not None for k in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))

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
        with (root / path).open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise SourceError(f"{path} cannot be opened", got=reason(error, root), code="unreadable") from error
    marked = head[128:132] == b"DICM"
    if not marked and head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        return None
    try:
        header = _parse(root / path, path, force=not marked)
    except SourceError:
        raise
    except Exception as error:  # pydicom raises whatever the bytes provoke
        if not marked:
            return None
        raise SourceError(f"the header of {path} cannot be read", got=reason(error, root), code="unreadable") from error
    if header.values["SOPClassUID"] is not None:
        return header
    if not marked:
        return None
    raise SourceError(f"the header of {path} has no SOPClassUID: it is cut or damaged", code="unreadable")


def uid_hash(uid: str) -> str:
    """16 hexadecimal digits that stand for a UID without naming it; empty for none."""
    return sha256(uid.encode()).hexdigest()[:16] if uid else ""


def known_uid(text: str) -> UID:
    """A UID as pydicom knows it, without its complaints about characters."""
    return UID(text, validation_mode=pydicom.config.IGNORE)


def _parse(file: Path, path: str, *, force: bool) -> Header:
    keywords = dict.fromkeys((*_KEYWORDS, *SOFT_KEYS, *PHYSICS))
    tags = [*keywords, *_PRESENCE, "ModalityLUTSequence", UIH_FRAMES, *DIFFUSION_TAGS]
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        source = open_dicom(file, path)
        dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=tags, force=force)
        values: dict[str, Any] = {keyword: plain(dataset, keyword) for keyword in keywords}
        values |= {keyword: keyword in dataset or None for keyword in _PRESENCE}
        values["MosaicFrames"] = UIH_FRAMES in dataset or None
        values["ModalityLUT"] = _table_range(dataset)
        values |= private_diffusion(dataset, values)
        meta = dataset.file_meta
        if values["SOPClassUID"] is None:
            values["SOPClassUID"] = str(meta.get("MediaStorageSOPClassUID", "")) or None
        syntax = str(meta.get("TransferSyntaxUID", "")) or _guessed_syntax(dataset)
    return Header(path, syntax, values)


def _table_range(dataset: pydicom.Dataset) -> Any:
    """Bytes per entry, lowest and highest entry of the modality LUT (PS3.3 C.11.1.1); None without one."""
    try:
        if "ModalityLUTSequence" not in dataset or not dataset.ModalityLUTSequence:
            return None
        table = dataset.ModalityLUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        data = table.LUTData
        entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.atleast_1d(np.asarray(data, np.int64))
        if bits not in (8, 16) or not len(entries):
            raise ValueError(f"a LUT of {len(entries)} entries of {bits} bits")
        return bits // 8, int(entries.min()), int(entries.max())
    except Exception as error:
        return ValueError(f"the modality LUT cannot be read: {error}")


def plain(dataset: pydicom.Dataset, keyword: str) -> Any:
    """A value as number, string or tuple of them; the exception when it cannot be converted."""
    try:
        value = dataset.get(keyword)
        if isinstance(value, MultiValue | list):
            return tuple(_scalar(v) for v in value) or None
        return _scalar(value)
    except Exception as error:  # a bad value of a tag nobody needs must not lose the file
        return error


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bytes):
        return None
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    text = str(value).strip(" \0")
    return text or None


def _guessed_syntax(dataset: pydicom.Dataset) -> str:
    """The transfer syntax of a file without meta information: implicit or explicit, as pydicom found it."""
    implicit, little = dataset.original_encoding
    if not little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
