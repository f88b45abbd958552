"""Indices into a volume: numpy's basic indexing as a window, and what a window shows beyond the border."""

from __future__ import annotations

from math import isfinite
from operator import index as as_int
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError, WindowError
from ndvol.geometry.window import Window

PadMode = Literal["constant", "edge", "reflect"]
"""What a patch holds outside the volume: a value, the nearest voxel, or the volume mirrored at its outermost voxels."""


def check_pad_mode(mode: str) -> None:
    """Raise unless `mode` is a `PadMode`."""
    if mode not in get_args(PadMode):
        raise OptionError("there is no such pad_mode", got=repr(mode), expected=f"one of {get_args(PadMode)}")


def check_fill_value(fill_value: float, dtype: np.dtype[Any]) -> None:
    """Raise unless `dtype` holds `fill_value`; numpy would wrap or truncate it silently.

    An integer type must hold it exactly; a floating type may round it, but not to infinity.
    """
    if not _fits(fill_value, dtype):
        raise WindowError(f"fill_value does not fit the type {dtype}", got=fill_value)


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    if dtype.kind in "fc":
        return not isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    if not isfinite(value) or value != int(value):
        return False
    if dtype.kind == "b":
        return value in (0, 1)
    info = np.iinfo(dtype)
    return int(info.min) <= value <= int(info.max)


def source_indices(start: int, length: int, n: int, mode: PadMode) -> NDArray[np.int64]:
    """Which of `n` voxels along an axis are shown at ``start … start + length - 1``, by ``edge`` or ``reflect``.

    As `numpy.pad` does it, any distance away; `n` is at least 1.

    >>> source_indices(-2, 7, 4, "reflect").tolist(), source_indices(-2, 7, 4, "edge").tolist()
    ([2, 1, 0, 1, 2, 3, 2], [0, 0, 0, 1, 2, 3, 3])
    """
    if mode == "edge":
        near = min(max(start, -length), n)
        return np.clip(np.arange(near, near + length), 0, n - 1)
    period = max(1, 2 * (n - 1))
    first = start % period
    at = np.arange(first, first + length) % period
    return np.minimum(at, period - at)


def basic_index(key: Any, shape: tuple[int, ...]) -> tuple[Window, tuple[Any, ...]]:
    """The window that covers numpy's basic index `key`, and the index into the patch that finishes the job.

    >>> basic_index((slice(8, 2, -3), 1), (10, 5))
    (Window(start=(5, 1), shape=(4, 1)), (slice(None, None, -3), 0))
    """
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    if len(keys) > len(shape):
        raise IndexError(f"{len(keys)} indices for a volume of {len(shape)} axes")
    keys += [slice(None)] * (len(shape) - len(keys))
    start: list[int] = []
    length: list[int] = []
    post: list[slice | int] = []
    for k, n in zip(keys, shape, strict=True):
        if isinstance(k, slice):
            span = range(n)[k]
            start.append(min(span[0], span[-1]) if span else 0)
            length.append(abs(span[-1] - span[0]) + 1 if span else 0)
            post.append(slice(None, None, span.step))
            continue
        try:
            if isinstance(k, bool):  # a mask to numpy, an index to operator.index
                raise TypeError
            i = as_int(k)
        except TypeError:
            raise IndexError(f"a volume takes integers, slices and ..., not {type(k).__name__}") from None
        if not -n <= i < n:
            raise IndexError(f"index {i} is out of range for an axis of {n}")
        start.append(i % n)
        length.append(1)
        post.append(0)
    return Window(tuple(start), tuple(length)), tuple(post)
