"""Planes of a volume as grey values, and the ranges of values that are worth looking at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Window
from ndvol.volumes import Volume

PERCENTILES = (1.0, 99.0)
"""Grey values between which a picture runs from black to white …"""
CT_WINDOWS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"soft tissue": (-160.0, 240.0), "lung": (-1350.0, 150.0), "bone": (-500.0, 1300.0), "brain": (0.0, 80.0)}
)
"""… but for CT in Hounsfield units, where air would take the whole range: the windows in clinical use. The first is
the default."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named range of values to show from black to white."""

    name: str
    low: float
    high: float


def read_plane(volume: Volume, start: tuple[int, ...]) -> NDArray[Any]:
    """The y-x plane (with its c axis last, if any) whose window begins at `start`."""
    axes = volume.axes
    shape = tuple(volume.shape[i] if a in "cyx" else 1 for i, a in enumerate(axes))
    plane = volume.read(Window(tuple(0 if a in "cyx" else s for a, s in zip(axes, start, strict=True)), shape))
    plane = plane.reshape([n for a, n in zip(axes, shape, strict=True) if a in "cyx"])
    return np.moveaxis(plane, 0, -1) if "c" in axes else plane


def grey_range(volume: Volume, plane: NDArray[Any]) -> tuple[float, float]:
    """The values of `plane`, from `volume`, to show as black and as white."""
    best = presets(volume, plane)[0]
    return best.low, best.high


def presets(volume: Volume, values: NDArray[Any]) -> tuple[Preset, ...]:
    """Ranges worth looking at, the best first: the windows of CT, or percentiles of `values`, some of `volume`."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return (Preset("all", 0.0, 1.0),)
    least, low, high, most = (float(v) for v in np.percentile(finite, (0.0, *PERCENTILES, 100.0)))
    ranges = (Preset("1-99 %", low, high), Preset("all", least, most))
    # Below -500 only Hounsfield units go; an importer that knows no unit still knows the modality.
    if volume.attributes.get("modality") == "CT" and least < -500:
        return (*(Preset(name, *window) for name, window in CT_WINDOWS.items()), *ranges)
    return ranges


def to_grey(plane: NDArray[Any], shown: tuple[float, float]) -> NDArray[np.uint8]:
    """A plane of (y, x) or (y, x, c) as uint8 between the two values `shown`; 8-bit colour stays as it is."""
    if plane.ndim == 3 and plane.shape[-1] == 3 and plane.dtype == np.uint8:
        return np.ascontiguousarray(plane)
    grey = plane.mean(-1) if plane.ndim == 3 else plane.astype(np.float64)
    low, high = shown
    scaled = (np.nan_to_num(grey, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(scaled * 255, 0, 255).astype(np.uint8))
