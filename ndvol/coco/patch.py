"""Patches: the voxels of a lattice out of a scene, with padding, resampling and the type asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ndvol.coco.lattice import Lattice
from ndvol.coco.resample import INTERPOLATIONS, apply_weights, margin, scaled_length, weights
from ndvol.errors import OptionError
from ndvol.geometry.grid import SPATIAL_AXES
from ndvol.geometry.indexing import check_fill_value

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


class Readable(Protocol):
    """What a patch is read from."""

    @property
    def axes(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def take(self, indices: Sequence[NDArray[np.int64]], channels: Sequence[str]) -> NDArray[Any]:
        """The voxels at the outer product of `indices`, all inside; channels on the last axis."""
        ...

    def dtype(self, channels: Sequence[str]) -> np.dtype[Any]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """How the voxels of a lattice become a patch.

    Attributes
    ----------
    pad : voxels before and after, per axis.
    mode, fill_value : what lies outside: `fill_value`, or the volume repeated as ``numpy.pad`` does.
    scale : per axis; 1 for t.
    dtype : of the patch; None keeps that of the source.
    """

    pad: tuple[tuple[int, int], ...]
    scale: tuple[float, ...]
    mode: str = "constant"
    fill_value: float = 0
    interpolation: str = "linear"
    antialias: bool = True
    dtype: np.dtype[Any] | None = None

    def shape(self, lattice: Lattice) -> tuple[int, ...]:
        """Of the patch of a lattice that is padded already, without channels."""
        return tuple(n if s == 1 else scaled_length(n, s) for n, s in zip(lattice.count, self.scale, strict=True))


def reading_of(target: Mapping[str, Any], axes: str) -> Reading:
    """The reading that a target asks for.

    Raises
    ------
    OptionError : for values that make no sense, or padding and resampling that is not offered.
    """
    interpolation = target.get("interpolation", "auto")
    if interpolation not in INTERPOLATIONS:
        raise OptionError("unknown interpolation", got=repr(interpolation), expected=f"one of {INTERPOLATIONS}")
    interpolation = "linear" if interpolation == "auto" else interpolation
    antialias = target.get("antialias", "auto")
    mode, fill_value = _padding(target.get("padkw", {}))
    return Reading(
        pad=_pad(target.get("pad", 0), axes),
        scale=_scale(target.get("scale", 1.0), axes),
        mode=mode,
        fill_value=fill_value,
        interpolation=interpolation,
        antialias=interpolation != "nearest" if antialias == "auto" else bool(antialias),
        dtype=np.dtype(target["dtype"]) if "dtype" in target else None,
    )


def read_patch(scene: Readable, lattice: Lattice, reading: Reading, channels: Sequence[str]) -> NDArray[Any]:
    """The patch of a padded lattice: (axes…, channel), in the type of the source or the one asked for.

    Raises
    ------
    WindowError : when the fill value does not fit the type; OptionError when the values do not fit `dtype`.
    """
    scaled = [s != 1 for s in reading.scale]
    extra = [
        margin(s, reading.interpolation, reading.antialias) if changed else 0
        for s, changed in zip(reading.scale, scaled, strict=True)
    ]
    wide = lattice.padded([(e, e) for e in extra])
    patch = _read(scene, wide, reading, channels)
    if any(scaled):
        tables = [
            weights(n, s, e, reading.interpolation, reading.antialias) if changed else None
            for n, s, e, changed in zip(lattice.count, reading.scale, extra, scaled, strict=True)
        ]
        patch = apply_weights(patch, tables)
    return patch if reading.dtype is None else _cast(patch, reading.dtype)


def _read(scene: Readable, lattice: Lattice, reading: Reading, channels: Sequence[str]) -> NDArray[Any]:
    indices = [lattice.indices(a) for a in range(lattice.ndim)]
    shape = (*lattice.count, len(channels))
    if 0 not in shape and reading.mode != "constant":
        indices = [_reflected(i, n, reading.mode) for i, n in zip(indices, scene.shape, strict=True)]
        return scene.take(indices, channels)
    valid = lattice.valid(scene.shape)
    inside = None
    if valid.size:
        inside = scene.take([i[s] for i, s in zip(indices, valid.slices, strict=True)], channels)
    dtype = scene.dtype(channels) if inside is None else inside.dtype
    check_fill_value(reading.fill_value, dtype)
    if inside is not None and valid.shape == lattice.count:
        return inside
    patch = np.full(shape, reading.fill_value, dtype)
    if inside is not None:
        patch[valid.slices] = inside
    return patch


def _reflected(indices: NDArray[np.int64], length: int, mode: str) -> NDArray[np.int64]:
    """Where numpy.pad's modes find the voxel of an index outside.

    >>> [_reflected(np.arange(-3, 6), 3, mode).tolist() for mode in ("edge", "reflect", "symmetric")]
    [[0, 0, 0, 0, 1, 2, 2, 2, 2], [1, 2, 1, 0, 1, 2, 1, 0, 1], [2, 1, 0, 0, 1, 2, 2, 1, 0]]
    """
    if mode == "edge" or length == 1:
        return np.clip(indices, 0, length - 1)
    if mode == "wrap":
        return indices % length
    period = 2 * (length - 1) if mode == "reflect" else 2 * length
    at = indices % period
    return np.where(at < length, at, period - at - (0 if mode == "reflect" else 1))


def _cast(patch: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`patch` in another type, whose range must hold its values: a wrapped number is no voxel."""
    if dtype.kind in "iu" and patch.size and not np.can_cast(patch.dtype, dtype):
        low, high = patch.min(), patch.max()
        info = np.iinfo(dtype)
        if not (low >= info.min and high <= info.max):
            raise OptionError(f"the voxels do not fit the type {dtype}", got=f"{low} … {high}", expected=f"{info}")
    return patch.astype(dtype)


def _pad(pad: Any, axes: str) -> tuple[tuple[int, int], ...]:
    try:
        parts = [pad] * len(axes) if _is_number(pad) else list(pad)
        pairs = [(p, p) if _is_number(p) else tuple(p) for p in parts]
        result = tuple((int(low), int(high)) for low, high in pairs)
        exact = all(pair == found for pair, found in zip(pairs, result, strict=True))
    except (TypeError, ValueError):
        result, exact = (), False
    if not exact or len(result) != len(axes) or min(min(p) for p in result) < 0:
        raise OptionError(
            "'pad' makes no sense",
            got=repr(pad),
            expected=f"a number, or one (or before and after) per axis of {axes!r}",
        )
    return result


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)


def _padding(padkw: Any) -> tuple[str, float]:
    if not isinstance(padkw, Mapping) or set(padkw) - {"mode", "constant_values"}:
        raise OptionError("'padkw' makes no sense", got=repr(padkw), expected="'mode' and 'constant_values' only")
    mode, fill_value = padkw.get("mode", "constant"), padkw.get("constant_values", 0)
    if mode not in PAD_MODES or not _is_number(fill_value):
        raise OptionError(
            "this padding is not offered", got=repr(padkw), expected=f"a mode of {PAD_MODES} and one constant value"
        )
    return mode, fill_value


def _scale(scale: Any, axes: str) -> tuple[float, ...]:
    spatial = [a for a in axes if a in SPATIAL_AXES]
    # ndsampler states scales from x on: (x, y), and for a volume (x, y, z).
    factors = [scale] * len(spatial) if _is_number(scale) else list(scale)[::-1]
    if len(factors) != len(spatial) or not all(isfinite(f) and f > 0 for f in factors):
        raise OptionError("'scale' makes no sense", got=repr(scale), expected="a positive number, or (x, y[, z])")
    by_axis = dict(zip(spatial, map(float, factors), strict=True))
    return tuple(by_axis.get(a, 1.0) for a in axes)
