"""Resampling a patch along its axes: one small matrix of weights per axis, the same in any number of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTERPOLATIONS = ("auto", "linear", "cubic", "nearest")
_SUPPORT = {"nearest": 0.5, "linear": 1.0, "cubic": 2.0}


def scaled_length(length: int, scale: float) -> int:
    """Samples of an axis of `length` after scaling, rounded up.

    >>> scaled_length(50, 1.3), scaled_length(61, 0.7)
    (65, 43)
    """
    # Products such as 50 * 1.1 = 55.00000000000001 would round up to one too many.
    return ceil(length * scale - 1e-6)


def margin(scale: float, interpolation: str, antialias: bool) -> int:
    """Samples beyond a patch's borders that its resampled border depends on, so that it never shows."""
    if interpolation == "nearest":
        return 0
    return ceil(_SUPPORT[interpolation] * (max(1.0, 1.0 / scale) if antialias else 1.0)) + 1


def weights(length: int, scale: float, extra: int, interpolation: str, antialias: bool) -> NDArray[np.float64]:
    """(scaled length, length + 2 * extra) weights; each row sums to 1.

    Sample p of the result lies at (p + 0.5) / scale − 0.5, so that the edges of the patch stay its edges. When the
    patch shrinks, `antialias` widens the kernel by as much.

    >>> weights(4, 0.5, 0, "nearest", False).tolist()
    [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    count = scaled_length(length, scale)
    at = (np.arange(count) + 0.5) / scale - 0.5
    if interpolation == "nearest":
        nearest = np.clip(np.floor(at + 0.5).astype(np.int64), 0, length - 1)
        return np.asarray(np.eye(length + 2 * extra)[nearest + extra])
    width = max(1.0, 1.0 / scale) if antialias else 1.0
    distance = np.abs(np.arange(-extra, length + extra) - at[:, None]) / width
    table = _linear(distance) if interpolation == "linear" else _cubic(distance)
    return np.asarray(table / table.sum(1, keepdims=True))


def _linear(d: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(1 - d, 0, None)


def _cubic(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Catmull-Rom: Keys (1981), a = −1/2."""
    near = (1.5 * d - 2.5) * d**2 + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def apply_weights(patch: NDArray[Any], tables: Sequence[NDArray[np.float64] | None]) -> NDArray[Any]:
    """`patch` resampled along the axes that have a table; its type stays, integers are rounded and never wrap."""
    values = patch.astype(np.float64)
    missing = ~np.isfinite(values)
    if not missing.any():
        result = _product(values, tables)
    else:
        # Times a weight of 0 a nan is still a nan: only where it really counts may it show.
        touched = _product(missing.astype(np.float64), [None if t is None else np.abs(t) for t in tables])
        result = np.where(touched > 0, np.nan, _product(np.where(missing, 0, values), tables))
    if patch.dtype.kind in "iu":
        info = np.iinfo(patch.dtype)
        result = np.clip(np.rint(result), info.min, info.max)
    return result.astype(patch.dtype)


def _product(values: NDArray[np.float64], tables: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    for axis, table in enumerate(tables):
        if table is not None:
            values = np.moveaxis(np.tensordot(table, values, (1, axis)), 0, axis)
    return values
