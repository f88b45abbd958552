"""The numbers that a NIfTI file holds, found again from the values that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ndvol.formats.values import rescale


def as_in_file(array: NDArray[Any], attributes: Mapping[str, Any]) -> tuple[NDArray[Any], float, float]:
    """The stored numbers of a volume that `NiftiReader` read, with the slope and intercept that give its values.

    Where they do not give all of its values, as after an interpolation, and for scaled floats, whose rounding cannot be
    undone, it is the array itself with slope 1 and intercept 0.

    Parameters
    ----------
    attributes : the volume's: ``datatype``, ``scl_slope`` and ``scl_inter``, where the file's are others than its own.

    >>> as_in_file(np.array([[-1.5, 0.0]], np.float32), {"datatype": 4, "scl_slope": 0.5, "scl_inter": -1.0})
    (array([[-1,  2]], dtype=int16), 0.5, -1.0)
    """
    as_it_is = array, 1.0, 0.0
    if "datatype" not in attributes:
        return as_it_is
    dtype = np.dtype(nib.nifti1.data_type_codes.dtype[attributes["datatype"]])
    slope, inter = attributes.get("scl_slope", 1.0), attributes.get("scl_inter", 0.0)
    if (slope, inter) == (1.0, 0.0):
        return (array.astype(dtype), slope, inter) if np.can_cast(array.dtype, dtype) else as_it_is
    if dtype.kind == "f":
        return as_it_is
    limits, stored = np.iinfo(dtype), np.empty(array.shape, dtype)
    for values, out in zip(array, stored, strict=True):
        found = np.rint((values.astype(np.float64) - inter) / slope)
        if not (found >= limits.min).all() or not (found <= limits.max).all():
            return as_it_is
        out[...] = found
        if not np.array_equal(rescale(out, slope, inter, array.dtype), values):
            return as_it_is
    return stored, slope, inter
