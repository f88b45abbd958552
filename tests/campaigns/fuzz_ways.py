"""The seeded ways to spoil a file."""

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
import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

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
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(fresh_identity(gzip.decompress(data), number), mtime=0)
    start = 144 + int.from_bytes(data[140:144], "little")
    if DeflatedExplicitVRLittleEndian.encode() in data[:start]:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = _renamed(zlib.decompress(data[start:], -zlib.MAX_WBITS), _uids(data), number)
        packed = packer.compress(content) + packer.flush()
        return _renamed(data[:start], _uids(data), number) + packed + b"\0" * (len(packed) % 2)
    return _renamed(data, _uids(data), number)


def _renamed(data: bytes, uids: set[bytes], number: int) -> bytes:
    for uid in uids:
        data = data.replace(uid, uid[:-6] + f"{number % 10**6:06d}".encode())
    return data


def _uids(data: bytes) -> set[bytes]:
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
    except Exception:
        return set()
    names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return {str(dataset.get(n, "")).encode() for n in names if len(str(dataset.get(n, ""))) > 20}


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
