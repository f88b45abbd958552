"""Diffusion weighting that vendors keep in private elements."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydicom

_B_VALUES = (0x0019100C, 0x00431039, 0x20011003, 0x00651009)
_GRADIENTS = ((0x0019100E,), (0x001910BB, 0x001910BC, 0x001910BD), (0x200510B0, 0x200510B1, 0x200510B2), (0x00651037,))
_CREATORS = {
    0x0019: ("SIEMENS MR HEADER", "GEMS_ACQU_01"),
    0x0043: ("GEMS_PARM_01",),
    0x0065: ("Image Private Header",),
    0x2001: ("Philips Imaging DD 001", "PHILIPS IMAGING DD 001"),
    0x2005: ("Philips MR Imaging DD 001", "PHILIPS MR IMAGING DD 001"),
}
"""The first private creator per group, as these vendors write it; another owner means something else."""
_GE_OFFSET = 10**9
"""GE adds 1e9 to b-values of multi-shell series."""
_MAX_B = 10**6
"""Larger numbers in GE's element are no b-values (series that are not diffusion weighted)."""

DIFFUSION_TAGS = (
    *_B_VALUES,
    *(tag for tags in _GRADIENTS for tag in tags),
    *((group << 16) + 0x10 for group in _CREATORS),
)


def private_diffusion(dataset: pydicom.Dataset, values: Mapping[str, Any]) -> dict[str, Any]:
    """``DiffusionBValue`` and ``DiffusionGradientOrientation`` from Siemens, GE, Philips or United Imaging elements.

    Only what `values` does not state already; the directions keep the vendor's frame, they only tell planes apart.
    """
    found: dict[str, Any] = {}
    if values.get("DiffusionBValue") is None:
        for tag in _B_VALUES:
            numbers = _numbers(dataset, tag)
            if tag == 0x00431039:
                numbers = tuple(n - _GE_OFFSET if n >= _GE_OFFSET else n for n in numbers[:1])
            if numbers and 0 <= numbers[0] < _MAX_B:
                found["DiffusionBValue"] = numbers[0]
                break
    if values.get("DiffusionGradientOrientation") is None:
        for tags in _GRADIENTS:
            direction = tuple(n for tag in tags for n in _numbers(dataset, tag))
            if len(direction) == 3:
                found["DiffusionGradientOrientation"] = direction
                break
    return found


def _numbers(dataset: pydicom.Dataset, tag: int) -> tuple[float, ...]:
    """The finite numbers of an element, also where an unknown VR left them as bytes; () for anything else."""
    if tag not in dataset.keys():  # noqa: SIM118, the data set's own test converts the tag first
        return ()
    try:
        creator = str(dataset[(tag & 0xFFFF0000) + 0x10].value).strip()
        if creator not in _CREATORS[tag >> 16]:
            return ()
        value = dataset[tag].value
        if isinstance(value, bytes):
            is_text = all(c in b"0123456789+-.eE\\ \0" for c in value)
            value = value.decode().strip(" \0").split("\\") if is_text else struct.unpack(f"<{len(value) // 8}d", value)
        elif isinstance(value, str | int | float):
            value = [value]
        numbers = tuple(float(v) for v in value)
    except Exception:  # private elements may hold anything; nothing here is needed
        return ()
    return numbers if np.isfinite(numbers).all() else ()
