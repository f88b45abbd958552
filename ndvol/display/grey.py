"""Planes of a volume as grey values, and the ranges of values that are worth looking at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Grid, Window

PERCENTILES = (1.0, 99.0)
"""Grey values between which a picture runs from black to white …"""
CT_WINDOWS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"soft tissue": (-160.0, 240.0), "lung": (-1350.0, 150.0), "bone": (-500.0, 1300.0), "brain": (0.0, 80.0)}
)
"""… but for CT in Hounsfield units, where air would take the whole range: the windows in clinical use. The first is
the default."""


class ShownVolume(Protocol):
    """What is needed of a `ndvol.volumes.Volume` to show it; volumes show themselves, so they lie above."""

    @property
    def name(self) -> str: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def levels(self) -> int: ...

    @property
    def attributes(self) -> Mapping[str, Any]: ...

    def level_grid(self, level: int) -> Grid: ...

    def read(self, window: Window, *, level: int = 0) -> NDArray[Any]: ...


class ShownLabels(ShownVolume, Protocol):
    """The same of a label volume."""

    @property
    def categories(self) -> Mapping[int, str]: ...


@dataclass(frozen=True, slots=True)
class Preset:
    """A named range of values to show from black to white."""

    name: str
    low: float
    high: float


def read_plane(volume: ShownVolume, start: tuple[int, ...], *, level: int = 0) -> NDArray[Any]:
    """The y-x plane (with its c axis last, if any) whose window begins at `start`, in the indices of `level`."""
    window = plane_window(volume.level_grid(level), start)
    return plane_of(volume.read(window, level=level), volume.grid.axes, {})


def plane_window(grid: Grid, start: tuple[int, ...]) -> Window:
    """The window of one voxel along t and z, and of all along c, y and x."""
    whole = [a in "cyx" for a in grid.axes]
    return Window(
        tuple(0 if w else s for w, s in zip(whole, start, strict=True)),
        tuple(n if w else 1 for w, n in zip(whole, grid.shape, strict=True)),
    )


def plane_of(patch: NDArray[Any], axes: str, start: Mapping[str, int]) -> NDArray[Any]:
    """The y-x plane of a patch at `start` (0 by default) along the other axes, with c last where the patch has one.

    >>> plane_of(np.arange(24).reshape(2, 3, 4), "zyx", {"z": 1})[0].tolist()
    [12, 13, 14, 15]
    """
    plane = patch[tuple(slice(None) if a in "cyx" else start.get(a, 0) for a in axes)]
    return np.moveaxis(plane, 0, -1) if "c" in axes else plane


def grey_range(volume: ShownVolume, plane: NDArray[Any]) -> tuple[float, float]:
    """The values of `plane`, from `volume`, to show as black and as white."""
    best = presets(volume, plane)[0]
    return best.low, best.high


def presets(volume: ShownVolume, values: NDArray[Any]) -> tuple[Preset, ...]:
    """Ranges worth looking at, the best first: the windows of CT, or percentiles of `values`, some of `volume`."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return (Preset("all", 0.0, 1.0),)
    numbers = finite.astype(np.uint8) if finite.dtype == bool else finite
    least, low, high, most = (float(v) for v in np.percentile(numbers, (0.0, *PERCENTILES, 100.0)))
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
