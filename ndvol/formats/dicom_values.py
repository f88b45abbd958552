"""What the values of a DICOM volume mean: unit, padding, and the facts kept beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ndvol.formats.dicom_headers import PHYSICS, Header
from ndvol.formats.values import Number

_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")


def value_unit(headers: Sequence[Header]) -> str:
    """HU for CT (PS3.3 C.8.2.1), Units (0054,1001) for PET; none for colours."""
    if headers[0].channels > 1:
        return ""
    types = {h.text("RescaleType") for h in headers}
    if headers[0].modality == "CT":
        return "HU" if types <= {"", "HU", "US"} else _only(types)
    return _only({h.text("Units") for h in headers})


def _only(values: set[str]) -> str:
    return values.pop() if len(values) == 1 else ""


def attributes(headers: Sequence[Header]) -> dict[str, Number | str]:
    """Facts that all slices share and that name nobody; BurnedInAnnotation is YES where it is so for any slice."""
    found: dict[str, Number | str] = {}
    for keyword in (*PHYSICS, "BitsStored", "PhotometricInterpretation", "BurnedInAnnotation", *_PADDING):
        values = {h.values.get(keyword) for h in headers if not isinstance(h.values.get(keyword), Exception | tuple)}
        if keyword == "BurnedInAnnotation" and "YES" in values:
            values = {"YES"}
        if len(values) == 1 and (value := values.pop()) is not None:
            found[keyword] = value
    rescales = {h.rescale for h in headers}
    if len(rescales) == 1 and headers[0].get("RescaleSlope") is not None:
        found["RescaleSlope"], found["RescaleIntercept"] = rescales.pop()
    return found | padding(headers)[0]


def padding(headers: Sequence[Header]) -> tuple[dict[str, Number | str], list[str]]:
    """``PixelPaddingValueOutput`` and ``PixelPaddingRangeLimitOutput``, and why there are none.

    The stored padding (PS3.3 C.7.5.1.1.2) through the rescale of all planes: what a voxel that is padding holds in
    the volume. A padding written with the other signedness, as some scanners do, is taken for the same bits.
    """
    found: dict[str, Number | str] = {}
    for keyword in _PADDING:
        stated = {h.values.get(keyword) for h in headers}
        if not all(isinstance(v, int) for v in stated):
            continue
        outputs = {_output(h, h.values[keyword]) for h in headers}
        if len(outputs) > 1:
            return {}, [f"{keyword} means {len(outputs)} different values after the rescale of each slice"]
        if (value := outputs.pop()) is None:
            text = (
                f"{keyword} {headers[0].values[keyword]} is no value of {headers[0].integer('BitsStored')} stored bits"
            )
            return {}, [f"{text}: padding cannot be told from other voxels"]
        found[f"{keyword}Output"] = value
    return found, []


def _output(header: Header, stored: int) -> Number | None:
    """A stored value as it is in the volume; None when no stored value can be it, or a lookup table hides it."""
    allowed = header.stored_range
    if header.get("ModalityLUT") is not None or header.channels > 1 or allowed.dtype.kind == "f":
        return None
    word = 2 ** (8 * allowed.dtype.itemsize)
    for value in (stored, stored - word, stored + word):
        if allowed.low <= value <= allowed.high:
            slope, intercept = header.rescale
            if allowed.is_integral:
                return int(slope) * value + int(intercept)
            return float(np.float32(value * slope + intercept))
    return None
