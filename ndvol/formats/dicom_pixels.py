"""The pixels of DICOM files: decoded, masked, sign extended, and never filled in."""

from __future__ import annotations

import logging
import struct
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from ndvol.errors import SourceError
from ndvol.formats.dicom_deflate import open_dicom
from ndvol.formats.dicom_headers import Header, known_uid
from ndvol.formats.dicom_jpeg import check_items, check_jpeg
from ndvol.formats.faults import reason
from ndvol.formats.members import split, stamp_of

_END_MARKED = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes}
_END_MARKER = b"\xff\xd9"
"""EOI of JPEG and JPEG-LS, EOC of JPEG 2000; decoders fill with grey what follows a cut."""
_SIZ = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream and its size marker."""
_COLOURS = ("Red", "Green", "Blue")
_PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PIXEL_TAGS = [
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows"),
    *("Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ModalityLUTSequence"),
    *_PIXEL_DATA,
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _COLOURS for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
]
"""What decoding needs; functional groups and private elements would take longer than the pixels."""

logging.getLogger("pydicom").addHandler(logging.NullHandler())


def stored_plane(root: Path, header: Header) -> NDArray[Any]:
    """The stored values of one plane; see `stored_planes`."""
    return next(plane for _, plane in stored_planes(root, [header]))


def stored_planes(root: Path, headers: Sequence[Header]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The stored values of planes, before any rescale; each file is opened once, each frame decoded alone.

    Palette colours are RGB already (PS3.3 C.7.6.3.1.5), and a modality LUT is applied (C.11.1.1).

    Yields
    ------
    index, array : which of `headers`, file by file; (rows, columns), or (rows, columns, 3) RGB, integers of
        BitsAllocated and PixelRepresentation, with only the BitsStored bits below HighBit, sign extended
        (PS3.5 8.1.1). The caller owns it.

    Raises
    ------
    SourceError : truncated or undecodable pixel data, or a file that is not the one whose header was read; names
        the file and the transfer syntax.
    """
    by_file: dict[str, list[int]] = {}
    for index, header in enumerate(headers):
        by_file.setdefault(header.path, []).append(index)
    for indices in by_file.values():
        indices.sort(key=lambda i: (headers[i].frame, headers[i].tile or (0, 0)))
        yield from _file_planes(root, headers, indices)


def _file_planes(root: Path, headers: Sequence[Header], indices: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
    dataset, number, frame = None, -1, np.empty(0)
    _check_unchanged(root, headers[indices[0]])
    for index in indices:
        header = headers[index]
        try:
            if header.frame != number and (native := _native_frame(root, header)) is not None:
                frame, number = native, header.frame
            elif header.frame != number:
                with warnings.catch_warnings(), pydicom.config.disable_value_validation():
                    warnings.simplefilter("ignore")
                    dataset = _pixel_dataset(root, header) if dataset is None else dataset
                    frame, number = _frame(root, dataset, header), header.frame
        except SourceError:
            raise
        except Exception as error:  # decoders raise whatever the bytes provoke
            raise _undecodable(root, header, error) from error
        yield index, frame if header.tile is None else _tile(frame, header)


def _native_frame(root: Path, header: Header) -> NDArray[Any] | None:
    """An uncompressed grey frame straight from its bytes; None where there is more to do, or too few of them.

    pydicom takes five times as long for a small frame: it parses the whole header again.
    """
    if header.native is None or header.channels > 1 or header.is_float or header.get("ModalityLUT") is not None:
        return None
    if split(root / header.path):
        return None
    start, length = header.native
    dtype = np.dtype(f"<{'i' if header.is_signed else 'u'}{header.integer('BitsAllocated') // 8}")
    count = header.size[0] * header.size[1]
    needed = count * dtype.itemsize
    if min(length, header.stamp[0] - start) < needed * header.integer("NumberOfFrames", 1):
        return None
    plane = np.fromfile(root / header.path, dtype, count, offset=start + header.frame * needed)
    return _stored_bits(plane.reshape(header.size), header)


def _pixel_dataset(root: Path, header: Header) -> pydicom.Dataset:
    with open_dicom(root / header.path, header.path) as source:
        dataset = pydicom.dcmread(source, specific_tags=_PIXEL_TAGS, force=True)
    dataset.file_meta.TransferSyntaxUID = _inner_syntax(header)
    return dataset


def _check_unchanged(root: Path, header: Header) -> None:
    """Raise where the file is no longer the one whose header was read: place, slope and type would be another's."""
    try:
        stamp = stamp_of(root / header.path)
    except OSError:
        stamp = None
    if stamp != header.stamp:
        raise SourceError(
            f"{header.path} changed since it was scanned" if stamp else f"{header.path} vanished since it was scanned",
            hint="run the import again when nothing writes to the sources",
            code="changed",
        )


def _inner_syntax(header: Header) -> UID:
    """The syntax of the content that `open_dicom` hands out."""
    return ExplicitVRLittleEndian if header.syntax == DeflatedExplicitVRLittleEndian else known_uid(header.syntax)


def _tile(frame: NDArray[Any], header: Header) -> NDArray[Any]:
    assert header.tile is not None
    cut = tuple(slice(at, at + header.integer(k)) for at, k in zip(header.tile, ("Rows", "Columns"), strict=True))
    return frame[cut].copy()


def _frame(root: Path, dataset: pydicom.Dataset, header: Header) -> NDArray[Any]:
    _check_complete(dataset, header)
    plane = _decoded(root, dataset, header)
    expected = (*header.size, 3)[: 2 if header.samples == 1 else 3]
    if plane.shape != expected:
        raise ValueError(f"decoded to {plane.shape}, the header says {expected}")
    plane = _stored_bits(plane, header)
    if header.samples != header.channels:
        return np.asarray(apply_color_lut(plane, dataset))
    if header.get("ModalityLUT") is not None:
        return np.asarray(apply_modality_lut(plane, dataset))
    return plane


def _check_complete(dataset: pydicom.Dataset, header: Header) -> None:
    """Raise where pixel data is missing or cut; excess bytes are padding and do no harm."""
    data = next((dataset.get(k) for k in _PIXEL_DATA if k in dataset), None)
    if data is None:
        raise SourceError(f"{header.path} holds no pixel data: it was cut or never sent", code="truncated")
    frames = header.integer("NumberOfFrames", 1)
    if not known_uid(header.syntax).is_encapsulated:
        samples = 2 if header.text("PhotometricInterpretation") == "YBR_FULL_422" else header.samples
        needed = header.size[0] * header.size[1] * samples * frames * (header.integer("BitsAllocated") // 8)
        if len(data) < needed:
            raise SourceError(
                f"the pixel data of {header.path} is truncated",
                got=f"{len(data)} bytes",
                expected=f"{needed}",
                hint="copy the file again",
                code="truncated",
            )
    elif header.syntax in _END_MARKED and _END_MARKER not in data.rstrip(b"\0")[-16:]:
        raise SourceError(
            f"the compressed pixel data of {header.path} is truncated: it has no end marker",
            hint="copy the file again",
            code="truncated",
        )
    if header.syntax in JPEGTransferSyntaxes:
        check_items(data)
        bits = header.integer("BitsAllocated")
        check_jpeg(_encapsulated_frame(dataset, header, frames), (*header.size, header.samples), bits)
    if header.syntax in JPEG2000TransferSyntaxes:
        _check_codestream(data if frames == 1 else _encapsulated_frame(dataset, header, frames), header)


def _encapsulated_frame(dataset: pydicom.Dataset, header: Header, frames: int) -> bytes:
    offsets = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    extended = None if None in offsets else offsets
    return bytes(get_frame(dataset.PixelData, header.frame, extended_offsets=extended, number_of_frames=frames))


def _check_codestream(data: bytes, header: Header) -> None:
    """The size in a JPEG 2000 codestream (ISO 15444-1 A.5.1, SIZ) must be the header's.

    A damaged one keeps the decoder busy for minutes with tiles that are not there.
    """
    start = data.find(_SIZ)
    found = struct.unpack_from(">IIII", data, start + 8) if 0 <= start <= len(data) - 24 else (0, 0, 0, 0)
    size = (found[1] - found[3], found[0] - found[2])
    if size != header.size:
        raise ValueError(f"the JPEG 2000 codestream has {size[0]} rows and {size[1]} columns")


PLUGINS = {
    RLELossless: "pydicom",
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
}
"""GDCM, and SimpleITK with it, ends the whole process on some damaged frames of these: it is not asked for them."""


def _decoded(root: Path, dataset: pydicom.Dataset, header: Header) -> NDArray[Any]:
    plugin = PLUGINS.get(known_uid(header.syntax), "")
    try:
        return np.asarray(pixel_array(dataset, index=header.frame, correct_unused_bits=False, decoding_plugin=plugin))
    except Exception as error:
        if header.syntax != JPEGExtended12Bit or header.samples != 1:
            raise
        frame = _encapsulated_frame(dataset, header, header.integer("NumberOfFrames", 1))
        return _decoded_by_itk(frame, header, error)


def _decoded_by_itk(frame: bytes, header: Header, failure: Exception) -> NDArray[Any]:
    """What pydicom's plug-ins cannot decode: a frame of 12-bit JPEG, through a file that holds nothing else.

    SimpleITK would apply the rescale of the source and invert MONOCHROME1, and GDCM in it makes room for whatever
    damaged elements of the source declare, 700 MiB at a time, and keeps it.
    """
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = header.size
    for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(dataset, keyword, header.integer(keyword, header.integer("BitsStored") - 1))
    dataset.PixelData = encapsulate([frame])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = known_uid(header.syntax)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with tempfile.TemporaryDirectory() as folder:
        dataset.save_as(Path(folder, "frame.dcm"), enforce_file_format=True)
        reader.SetFileName(str(Path(folder, "frame.dcm")))
        stored = SimpleITK.GetArrayFromImage(reader.Execute()).reshape(header.size)
    allowed = header.stored_range
    if stored.min() < allowed.low or stored.max() > allowed.high:
        raise failure
    return np.asarray(stored.astype(allowed.dtype))


def _stored_bits(plane: NDArray[Any], header: Header) -> NDArray[Any]:
    """Only the bits that BitsStored and HighBit name; the others may hold overlays (PS3.5 8.1.1, retired use)."""
    if plane.dtype.kind == "f":
        return plane.astype(plane.dtype.newbyteorder("="), copy=False)
    bits, signed = header.integer("BitsStored"), header.is_signed
    width = 8 * plane.dtype.itemsize
    compressed = header.syntax in _END_MARKED
    if bits >= width or (compressed and not signed):
        return plane.astype(plane.dtype.newbyteorder("="), copy=False)
    # A JPEG decoder returns values, not words: nothing to shift, but none of them knows about signs.
    shift = 0 if compressed else header.integer("HighBit", bits - 1) - (bits - 1)
    if shift == 0 and not signed and plane.max(initial=0) < 2**bits:
        return plane.astype(plane.dtype.newbyteorder("="), copy=False)  # as nearly all files: nothing above the bits
    words = plane.astype(f"u{plane.dtype.itemsize}") >> shift
    lifted = words << (width - bits)
    return lifted.view(f"i{plane.dtype.itemsize}" if signed else lifted.dtype) >> (width - bits)


def _undecodable(root: Path, header: Header, error: Exception) -> SourceError:
    syntax = known_uid(header.syntax)
    return SourceError(
        f"the pixels of {header.path} cannot be decoded",
        got=f"transfer syntax {syntax.name} ({syntax}): {reason(error, root)}",
        hint="copy the file again, or convert it to Explicit VR Little Endian (dcmdjpeg, gdcmconv --raw)",
        code="undecodable",
        transfer_syntax=str(syntax),
    )
