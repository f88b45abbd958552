"""Good files of every kind, and the seeded ways to spoil them."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_more
import nibabel as nib
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from ndvol.formats.writing import DicomOptions, write_dicom_series, write_enhanced_dicom, write_nifti
from ndvol.geometry import Grid

SHAPE = (3, 24, 20)
GRID = Grid.regular("zyx", SHAPE, spacing=(2.5, 0.75, 0.5), origin=(-60, 12, 8))
KINDS = ("dicom", "nifti", "tiff", "png", "nrrd", "mha", "mgh", "minc", "arrays")
NUMBERS = (0, 1, 2, 3, 7, 8, 255, 256, 4095, 2**15 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
"""What headers are not prepared for: borders of the integer types, and the undefined lengths of DICOM."""

DICOM_EDITS: dict[str, tuple[Any, ...]] = {
    "Rows": (0, 1, 23, 25, 65535),
    "Columns": (0, 1, 19, 21, 65535),
    "BitsAllocated": (0, 1, 8, 12, 32, 64, 65535),
    "BitsStored": (0, 1, 17, 65535),
    "HighBit": (0, 7, 63, 65535),
    "PixelRepresentation": (0, 1, 7),
    "SamplesPerPixel": (0, 2, 3, 65535),
    "NumberOfFrames": ("0", "2", "-1", "2147483647", "99999999999"),
    "PhotometricInterpretation": ("RGB", "PALETTE COLOR", "YBR_FULL_422", "MONOCHROME1", "NONSENSE"),
    "ImagePositionPatient": (["0", "0"], ["1e308", "0", "0"], ["0", "0", "1e-30"], ["0"] * 30),
    "ImageOrientationPatient": (["1", "0", "0", "1", "0", "0"], ["0"] * 6, ["1", "0"], ["1e200"] * 6),
    "PixelSpacing": (["0", "0"], ["-1", "1"], ["1e-300", "1"], ["1"], ["1e300", "1e300"]),
    "SliceThickness": ("0", "-3", "1e300"),
    "RescaleSlope": ("0", "1e308", "-1", "1e-320", "1.5"),
    "RescaleIntercept": ("1e308", "-1e18", "0.5"),
    "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.1.3.10", "1.2"),
    "ImageType": (["ORIGINAL", "PRIMARY", "M", "MOSAIC"], ["DERIVED"]),
    "SpecificCharacterSet": ("ISO 2022 IR 87", "NONSENSE"),
}
NIFTI_EDITS = {
    **{f"dim{i}": (40 + 2 * i, "h", (-1, 0, 1, 2, 8, 30000, 32767)) for i in range(8)},
    **{f"pixdim{i}": (76 + 4 * i, "f", (0.0, -1.0, 1e30, float("inf"), float("nan"))) for i in range(5)},
    "sizeof_hdr": (0, "i", (0, 540, 2**31 - 1)),
    "datatype": (70, "h", (0, 1, 2, 8, 32, 128, 256, 1024, 1536, 2304, 32767)),
    "bitpix": (72, "h", (0, 1, 8, 64, 32767)),
    "vox_offset": (108, "f", (0.0, -352.0, 353.0, 1e9, float("nan"))),
    "slope": (112, "f", (0.0, 1e38, float("nan"), 0.5)),
    "inter": (116, "f", (1e38, float("nan"), -1.5)),
    "units": (123, "b", (0, 1, 3, 127)),
    "intent": (68, "h", (1001, 1007, 2003, 32767)),
    "codes": (252, "h", (-1, 0, 7, 32767)),
    "srow": (280, "f", (0.0, float("inf"), float("nan"), 1e30)),
    "magic": (344, "i", (0, 0x00326E69)),
}

Spoil = Callable[[bytes, np.random.Generator], bytes]


def seeds(kind: str, folder: Path) -> list[tuple[str, bytes]]:
    """Name and bytes of the good files of a kind; all are small and made without chance."""
    if kind in ("nrrd", "mha", "mgh", "arrays"):
        return list(getattr(fuzz_more, kind)(_stored()))
    more = {"minc": lambda at: fuzz_more.minc(_stored(), at)}
    return ({"dicom": _dicom, "nifti": _nifti, "tiff": _tiff, "png": _png} | more)[kind](folder)


def spoiled(kind: str, data: bytes, others: list[tuple[str, bytes]], rng: np.random.Generator) -> tuple[str, bytes]:
    """How the file was spoiled, and what is left of it."""
    packed = data[:2] == b"\x1f\x8b"
    unpack = packed and rng.random() < 0.6
    if unpack:
        data = gzip.decompress(data)
    ways: dict[str, Spoil] = {
        "flip": _flip,
        "cut": _cut,
        "length": _length,
        "number": EDITS.get(kind, _length),
        "splice": lambda d, r: _splice(d, others[r.integers(len(others))][1], r),
    }
    name = str(rng.choice(list(ways)))
    out = ways[name](data, rng)
    return (f"{name} packed again", gzip.compress(out, 1, mtime=0)) if unpack else (name, out)


def is_proved(name: str, way: str) -> bool:
    """True when a checksum over the whole file must have noticed what was done to it."""
    made_good = way.endswith("packed again") or (name.endswith(".png") and way == "number")
    return name.endswith((".nii.gz", ".mgz", ".npz", ".png")) and not made_good


def neighbours(folder: Path, number: int) -> list[bytes]:
    """The first and last file of the series whose middle one was spoiled; for every other number none."""
    files = sorted((folder / "ct").glob("*.dcm"))
    return [fresh_identity(f.read_bytes(), number) for f in files[::2]] if number % 2 else []


def fresh_identity(data: bytes, number: int) -> bytes:
    """The same DICOM file under UIDs of the same length, so that files of one folder are no copies of each other."""
    for uid in {u for u in _uids(data) if len(u) > 20}:
        data = data.replace(uid, uid[:-6] + f"{number % 10**6:06d}".encode())
    return data


def _uids(data: bytes) -> list[bytes]:
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
    except Exception:
        return []
    names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return [str(dataset.get(n, "")).encode() for n in names]


# Ways that know nothing of the format.


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    reach = min(len(out), int(rng.choice([64, 400, 2000, len(out)])))
    for _ in range(int(rng.choice([1, 2, 8, 64]))):
        out[rng.integers(reach)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.3:
        return data[: int(rng.integers(0, min(len(data), 400)))]
    return data[: int(rng.integers(0, len(data)))]


def _length(data: bytes, rng: np.random.Generator) -> bytes:
    """An integer somewhere in the head becomes one that headers are not prepared for."""
    out, code = bytearray(data), str(rng.choice(["<H", ">H", "<I", ">I", "<Q", ">Q"]))
    size = struct.calcsize(code)
    at = int(rng.integers(0, max(1, min(len(out), 2000) - size)))
    value = int(rng.choice(NUMBERS)) % 2 ** (8 * size)
    out[at : at + size] = struct.pack(code, value)
    return bytes(out)


def _splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, start = int(rng.integers(len(data))), int(rng.integers(len(other)))
    size = int(rng.choice([1, 7, 64, 1000]))
    way = int(rng.integers(4))
    if way == 0:  # head of one, tail of another
        return data[:at] + other[start:]
    if way == 1:  # insertion
        return data[:at] + other[start : start + size] + data[at:]
    if way == 2:  # loss
        return data[:at] + data[at + size :]
    return data[:at] + other[start : start + size] + data[at + size :]


# Ways that know the header.


def _dicom_number(data: bytes, rng: np.random.Generator) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            for _ in range(int(rng.integers(1, 3))):
                keyword = str(rng.choice(list(DICOM_EDITS)))
                values = DICOM_EDITS[keyword]
                setattr(dataset, keyword, values[rng.integers(len(values))])
            out = io.BytesIO()
            dataset.save_as(out, enforce_file_format=False)
    except Exception:  # pydicom will not write it; the blunt way will
        return _length(data, rng)
    return out.getvalue()


def _nifti_number(data: bytes, rng: np.random.Generator) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return _length(data, rng)
    out = bytearray(data)
    order = ">" if data[:2] == b"\0\0" else "<"
    for _ in range(int(rng.integers(1, 3))):
        at, code, values = NIFTI_EDITS[str(rng.choice(list(NIFTI_EDITS)))]
        struct.pack_into(order + code, out, at, values[rng.integers(len(values))])
    return bytes(out)


def _tiff_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Tag, type, count or value of one entry of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    if big or len(data) < 8:
        return _length(data, rng)
    (first,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack_from(order + "H", data, first)
    at = first + 2 + 12 * int(rng.integers(count))
    out = bytearray(data)
    field, code = [(0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")][rng.integers(5)]
    struct.pack_into(order + code, out, at + field, int(rng.choice(NUMBERS)) % 2 ** (8 * struct.calcsize(code)))
    return bytes(out)


def _png_number(data: bytes, rng: np.random.Generator) -> bytes:
    """A field of IHDR or the content of another chunk, with the checksum made good again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], bytearray(data[at + 8 : at + 8 + size])))
        at += 12 + size
    name, content = chunks[0] if rng.random() < 0.7 else chunks[rng.integers(len(chunks))]
    if name == b"IHDR" and rng.random() < 0.6:
        struct.pack_into(">I", content, int(rng.choice([0, 4])), int(rng.choice(NUMBERS)))
    elif name == b"IHDR":
        content[int(rng.integers(8, 13))] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]))
    elif content:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    out = data[:8]
    for each, body in chunks:
        out += struct.pack(">I", len(body)) + each + body + struct.pack(">I", zlib.crc32(each + body))
    return out


EDITS: dict[str, Spoil] = {"dicom": _dicom_number, "nifti": _nifti_number, "tiff": _tiff_number, "png": _png_number}
EDITS |= dict.fromkeys(("nrrd", "mha"), fuzz_more.text_number)


# Good files.


def _stored(dtype: Any = np.int16) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return ((z * 900 + y * 37 + x * x) % 3000).astype(dtype)


def _dicom(folder: Path) -> list[tuple[str, bytes]]:
    good = write_dicom_series(folder / "ct", _stored(), GRID, DicomOptions(intercept=-1024, bits_stored=12))
    found = [("plain", good[1].read_bytes())]

    def variant(name: str, change: Callable[[Dataset], None], **options: Any) -> None:
        dataset = pydicom.dcmread(good[1])
        change(dataset)
        out = io.BytesIO()
        dataset.save_as(out, **options)
        found.append((name, out.getvalue()))

    def jpeg2000(dataset: Dataset) -> None:
        stream = io.BytesIO()
        Image.fromarray(dataset.pixel_array.view(np.uint16)).save(stream, "JPEG2000", no_jp2=True, signed=True)
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless

    def bare(dataset: Dataset) -> None:
        del dataset.file_meta
        dataset.preamble = None

    def deflated(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    variant("rle", lambda d: d.compress(RLELossless, generate_instance_uid=False))
    variant("jpeg-ls", lambda d: d.compress(JPEGLSLossless, generate_instance_uid=False))
    variant("jpeg-2000", jpeg2000)
    variant("deflated", deflated)
    variant("bare", bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    for name, modality, array in (("enhanced", "MR", _stored()), ("enhanced-t", "CT", np.stack([_stored()] * 2))):
        file = write_enhanced_dicom(folder / f"{name}.dcm", array, GRID, DicomOptions(modality=modality))
        found.append((name, file.read_bytes()))
    found.append(("structures", _structure_set()))
    found.append(("segmentation", _segmentation(good)))
    return found + fuzz_more.more_dicom(good[1], folder)


def _structure_set() -> bytes:
    rt, frame, study, series, roi, drawn, contour = (Dataset() for _ in range(7))
    rt.file_meta = FileMetaDataset()
    rt.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = generate_uid(entropy_srcs=["structures"])
    rt.SOPClassUID, rt.SOPInstanceUID, rt.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", uid, uid
    rt.Modality = "RTSTRUCT"
    frame.FrameOfReferenceUID, series.SeriesInstanceUID = "1.2.3", "1.2.4"
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    rt.ReferencedFrameOfReferenceSequence = [frame]
    roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = 1, "Lung", "1.2.3"
    points = GRID.world([(1, 2, 2), (1, 2, 15), (1, 20, 15), (1, 20, 2)])
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = [f"{v:.4f}" for v in points.ravel()]
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, [contour]
    rt.StructureSetROISequence, rt.ROIContourSequence = [roi], [drawn]
    out = io.BytesIO()
    rt.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _segmentation(images: list[Path]) -> bytes:
    """One binary segment, one frame per plane (PS3.3 C.8.20)."""
    first = pydicom.dcmread(images[0])
    seg, segment, shared, measures, orientation, series = (Dataset() for _ in range(6))
    seg.file_meta = FileMetaDataset()
    seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = generate_uid(entropy_srcs=["segmentation"])
    seg.SOPClassUID, seg.SOPInstanceUID, seg.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", uid, uid
    seg.FrameOfReferenceUID, seg.Modality, seg.SegmentationType = first.FrameOfReferenceUID, "SEG", "BINARY"
    seg.Rows, seg.Columns, seg.NumberOfFrames = *SHAPE[1:], SHAPE[0]
    seg.BitsAllocated, seg.BitsStored, seg.HighBit, seg.PixelRepresentation = 1, 1, 0, 0
    seg.SamplesPerPixel, seg.PhotometricInterpretation = 1, "MONOCHROME2"
    segment.SegmentNumber, segment.SegmentLabel = 1, "Lung"
    seg.SegmentSequence = [segment]
    series.SeriesInstanceUID = first.SeriesInstanceUID
    seg.ReferencedSeriesSequence = [series]
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    seg.SharedFunctionalGroupsSequence = [shared]
    seg.PerFrameFunctionalGroupsSequence = []
    for file in images:
        group, position, identification = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = pydicom.dcmread(file).ImagePositionPatient
        identification.ReferencedSegmentNumber = 1
        group.PlanePositionSequence, group.SegmentIdentificationSequence = [position], [identification]
        seg.PerFrameFunctionalGroupsSequence.append(group)
    bits = np.packbits((_stored() > 1500).ravel(), bitorder="little").tobytes()
    seg.PixelData = bits + b"\0" * (len(bits) % 2)
    out = io.BytesIO()
    seg.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _nifti(folder: Path) -> list[tuple[str, bytes]]:
    found = []
    for dtype in (np.int16, np.float32, np.uint8):
        for suffix in (".nii", ".nii.gz"):
            array = _stored(dtype) if dtype != np.uint8 else (_stored() > 1500).astype(np.uint8)
            found.append((f"a{suffix}", write_nifti(folder / f"a{suffix}", array, GRID).read_bytes()))
    four = write_nifti(folder / "t.nii.gz", np.stack([_stored()] * 2), GRID)
    found.append(("t.nii.gz", four.read_bytes()))
    second = nib.Nifti2Image(_stored().transpose(), GRID.nifti_affine, dtype=np.int16)
    found.append(("second.nii", second.to_bytes()))
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    swapped = nib.Nifti1Image(_stored().transpose(), GRID.nifti_affine, header)
    found.append(("swapped.nii", swapped.to_bytes()))
    scaled = nib.Nifti1Image(_stored().transpose(), GRID.nifti_affine)
    scaled.header.set_slope_inter(0.5, -3)
    found.append(("scaled.nii", scaled.to_bytes()))
    return found


def _tiff(folder: Path) -> list[tuple[str, bytes]]:
    array = _stored(np.uint16)
    ways: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "plain": (array[0], {}),
        "pages": (array, {"photometric": "minisblack"}),
        "deflate": (array[0], {"compression": "zlib", "predictor": True}),
        "tiles": (np.tile(array[0], (2, 2)), {"tile": (16, 16)}),
        "big": (array, {"bigtiff": True, "photometric": "minisblack"}),
        "motorola": (array[0], {"byteorder": ">"}),
        "imagej": (array, {"imagej": True, "metadata": {"spacing": 2.0, "unit": "mm"}}),
        "ome": (array, {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "mm"}}),
        "colour": (np.stack([array[0].astype(np.uint8)] * 3, -1), {"photometric": "rgb"}),
        "float": (array[0].astype(np.float32), {}),
    }
    found = []
    for name, (pixels, options) in ways.items():
        file = folder / f"{name}{'.ome' if name == 'ome' else ''}.tif"
        tifffile.imwrite(file, pixels, **options)
        found.append((file.name, file.read_bytes()))
    for compression in ("tiff_lzw", "packbits", "jpeg"):
        stream = io.BytesIO()
        Image.fromarray((array[0] % 256).astype(np.uint8)).save(stream, "TIFF", compression=compression)
        found.append((f"{compression}.tif", stream.getvalue()))
    return found


def _png(folder: Path) -> list[tuple[str, bytes]]:
    small = (_stored()[0] % 256).astype(np.uint8)
    grey = Image.fromarray(small)
    pictures = {
        "grey": grey,
        "deep": Image.fromarray(_stored(np.uint16)[0]),
        "palette": grey.convert("P"),
        "colour": Image.fromarray(np.stack([small] * 3, -1)),
        "alpha": Image.fromarray(np.stack([small] * 4, -1)),
        "bits": grey.convert("1"),
        "two": grey.convert("LA"),
    }
    found = []
    for name, picture in pictures.items():
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        found.append((f"{name}.png", stream.getvalue()))
    return found
