"""Elements of a DICOM data set as plain numbers, strings and tuples of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue


def table_range(dataset: pydicom.Dataset) -> Any:
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
        return _plain(dataset.get(keyword))
    except Exception as error:  # a bad value of a tag nobody needs must not lose the file
        return error


def plain_element(dataset: pydicom.Dataset, tag: Any) -> Any:
    """As `plain`, for a tag that is there."""
    try:
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.value is not None:
            vr = raw.VR or _dictionary_vr(tag)
            if vr in _TEXT_OF:
                return _parts(raw.value, _TEXT_OF[vr])
            if vr == "US" and len(raw.value) == 2:
                return int.from_bytes(raw.value, "little" if raw.is_little_endian else "big")
    except (ValueError, KeyError):
        pass  # not plain ASCII, or not what its VR promises: pydicom knows how to take it
    try:
        return _plain(dataset[tag].value)
    except Exception as error:
        return error


def _parts(value: bytes, convert: Any) -> Any:
    parts = [text.strip(" \0") for text in value.decode("ascii").split("\\")]
    found = tuple(convert(text) if text else None for text in parts)
    return found if len(found) > 1 else found[0]


_TEXT_OF: dict[str, Any] = {"DS": float, "IS": int, **dict.fromkeys(("CS", "DA", "LO", "SH", "TM", "UI"), str)}
"""Plain ASCII elements by VR (PS3.5 6.2), without pydicom's objects: a header has dozens, an import millions."""
_dictionary_vr = cache(dictionary_VR)


def _plain(value: Any) -> Any:
    if isinstance(value, MultiValue | list):
        return tuple(_scalar(v) for v in value) or None
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bytes):
        return None
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    text = str(value).strip(" \0")
    return text or None


def real_world(dataset: pydicom.Dataset) -> tuple[float | None, float | None, str] | None:
    """Slope, intercept and unit of the first real-world value mapping (PS3.3 C.7.6.16.2.11); None without one.

    Slope and intercept are None for a mapping by table.
    """
    try:
        if "RealWorldValueMappingSequence" not in dataset or not dataset.RealWorldValueMappingSequence:
            return None
        item = dataset.RealWorldValueMappingSequence[0]
        units = item.get("MeasurementUnitsCodeSequence") or [pydicom.Dataset()]
        slope, intercept = (plain(item, f"RealWorldValue{part}") for part in ("Slope", "Intercept"))
        both = isinstance(slope, int | float) and isinstance(intercept, int | float)
        unit = str(plain(units[0], "CodeValue") or "")
        return (float(slope), float(intercept), unit) if both else (None, None, unit)
    except Exception:  # a mapping that nobody can read is not applied either
        return None
