"""Which type a volume gets: the smallest that holds every value unchanged, decided before a voxel is converted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError

INTEGRAL_TOLERANCE = 1e-3
"""A label may be this far off an integer: resampled and float-coded label maps carry rounding noise."""

Number = float | int

_INTEGERS = tuple(np.dtype(t) for t in ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"))
_INT16 = np.dtype(np.int16)


@dataclass(frozen=True, slots=True)
class StoredRange:
    """The integers that a plane may hold, and its rescale ``value = slope * stored + intercept``.

    0 … 0 for floats, which may hold any number.
    """

    dtype: np.dtype[Any]
    low: int
    high: int
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_integral(self) -> bool:
        return float(self.slope).is_integer() and float(self.intercept).is_integer()

    @property
    def rescaled(self) -> tuple[int, int]:
        """Smallest and largest value after an integral rescale, in exact integers."""
        ends = [int(self.slope) * v + int(self.intercept) for v in (self.low, self.high)]
        return min(ends), max(ends)


def smallest_integer(low: int, high: int) -> np.dtype[Any]:
    """The smallest integer type that holds `low` … `high`; int16 before uint16, uint8 before int8.

    >>> smallest_integer(-1024, 3071), smallest_integer(0, 255)
    (dtype('int16'), dtype('uint8'))
    """
    for dtype in _INTEGERS:
        if _holds(dtype, low, high):
            return dtype
    raise SourceError("no integer type holds the values", got=f"{low} … {high}", code="value-range")


def volume_type(ranges: Iterable[StoredRange], *, signed: bool = False) -> np.dtype[Any]:
    """The type for planes of these ranges, from headers alone.

    One integral rescale for all gives an integer type (the stored one when nothing is rescaled and all
    planes share it; int16 where that holds them and the quantity is `signed`, as Hounsfield units are); a rescale
    that varies or is fractional gives float32, and stored floats stay as precise as they are.
    """
    found = set(ranges)
    if any(r.dtype.kind == "f" for r in found):
        return np.result_type(np.float32, *(r.dtype for r in found))
    if len({(r.slope, r.intercept) for r in found}) > 1 or not all(r.is_integral for r in found):
        return np.dtype(np.float32)
    ends = [r.rescaled for r in found]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if signed and _holds(_INT16, low, high):
        return _INT16
    types = {r.dtype for r in found}
    if len(types) == 1 and all((r.slope, r.intercept) == (1.0, 0.0) for r in found):
        return types.pop()
    return smallest_integer(low, high)


def settled_type(declared: np.dtype[Any], ranges: Iterable[StoredRange], *, signed: bool = False) -> np.dtype[Any]:
    """The type once the ranges are known from the voxels: `declared`, or int16 where that holds them too.

    Sixteen stored bits with an intercept of -1024 could need 32 bits, but the Hounsfield units of real
    scans fit int16; so do the uint16 of scans without negative values, for a `signed` quantity. A header that
    promised too little is widened.
    """
    if declared.kind == "f":
        return declared
    ends = [r.rescaled for r in ranges]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if (signed or declared.itemsize > 2) and _holds(_INT16, low, high):
        return _INT16
    if _holds(declared, low, high):
        return declared
    wider = [t for t in _INTEGERS if t.itemsize >= declared.itemsize and _holds(t, low, high)]
    return wider[0] if wider else smallest_integer(low, high)


def rescale(stored: NDArray[Any], slope: float, intercept: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``slope * stored + intercept`` as `dtype`: exact for integer types, rounded once from float64 for float32."""
    if (slope, intercept) == (1.0, 0.0):
        return stored.astype(dtype, copy=False)
    if dtype.kind == "f":
        return (stored.astype(np.float64) * slope + intercept).astype(dtype)
    # uint64 stored values never get here: their rescale does not fit an integer type that numpy has.
    return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)


def lossless_float32(array: NDArray[Any]) -> NDArray[Any]:
    """float64 values as float32 when that changes none of them; any other type as it is."""
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore"):
        small = array.astype(np.float32)
    return small if np.array_equal(small, array, equal_nan=True) else array


def as_stored(array: NDArray[Any], axes: str, source: str, *, as_label: bool) -> NDArray[Any]:
    """`array` as a volume stores it: a label map by `as_labels`, an image by `lossless_float32`.

    Raises
    ------
    SourceError : code ``label-values`` for a label map with channels, and by `as_labels`.
    """
    if not as_label:
        return lossless_float32(array)
    if "c" in axes:
        raise SourceError(
            f"{source} is no label volume: it has several values per voxel",
            got=f"axes {axes}",
            hint="import it as an image, or write one label map per component",
            code="label-values",
        )
    return as_labels(array, source)


def as_labels(array: NDArray[Any], source: str) -> NDArray[Any]:
    """`array` as labels: the nearest integers in the smallest unsigned type.

    Raises
    ------
    SourceError : code ``label-values`` when a value is negative, not finite, or further than
        `INTEGRAL_TOLERANCE` from an integer.
    """
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high)) or low < -INTEGRAL_TOLERANCE:
        raise SourceError(
            f"{source} is no label volume",
            got=f"values from {low} to {high}",
            expected="integers >= 0",
            hint="import it as an image, or map its values to 0, 1, 2 … first",
            code="label-values",
        )
    if array.dtype.kind == "f":
        for plane in _planes(array):
            _check_integral(plane, source)
    dtype = smallest_integer(0, round(float(high)) if array.dtype.kind == "f" else int(high))
    dtype = np.dtype(f"u{dtype.itemsize}")
    out = np.empty(array.shape, dtype)
    for target, plane in zip(_planes(out), _planes(array), strict=True):
        target[...] = np.rint(plane) if array.dtype.kind == "f" else plane
    return out


def _check_integral(plane: NDArray[Any], source: str) -> None:
    off = np.abs(plane - np.rint(plane))
    if off.max(initial=0.0) > INTEGRAL_TOLERANCE:
        raise SourceError(
            f"{source} is no label volume: its values are not integers",
            got=f"{plane.flat[int(off.argmax())]}",
            expected=f"integers within {INTEGRAL_TOLERANCE}",
            hint="import it as an image, or threshold it first",
            code="label-values",
        )


def _planes(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views along the first axis, so that temporaries stay small."""
    return (array[k, ...] for k in range(len(array)))


def _holds(dtype: np.dtype[Any], low: int, high: int) -> bool:
    info = np.iinfo(dtype)
    return int(info.min) <= low and high <= int(info.max)
