"""Frame: one image as volumes with named channels on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import CatalogError
from ndvol.geometry import Grid, Window
from ndvol.volumes import Volume

IDENTITY = np.eye(3)
IDENTITY.flags.writeable = False


@dataclass(frozen=True, slots=True)
class Part:
    """Channels that one volume holds, in the order of its c axis (which a single one need not have)."""

    channels: tuple[str, ...]
    volume: Callable[[], Volume]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image as it is sampled.

    Attributes
    ----------
    gid : id of the kwcoco image.
    axes, shape : without c.
    parts : all its channels, by volume.
    default : the channels to read when none are asked for. channels : all, of a case those on one grid.
    to_scene : 3 x 3, (x, y) of the image to (x, y) of what is sampled: differs from 1 in videos only.
    grid : of a case; None for a picture.
    labels : of a case, the label volumes on the frame's grid, whose objects lie in it; None when all do, and "" stands
        for what is annotated without one, on the first image.
    """

    gid: int
    axes: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    default: tuple[str, ...]
    to_scene: NDArray[np.float64]
    grid: Grid | None = None
    labels: frozenset[str] | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.channels)

    def dtype(self, channels: Sequence[str]) -> np.dtype[Any]:
        """The type that holds these channels; channels that the frame lacks are nan, so they make it a float."""
        used = [p.volume().dtype for p in self.parts if set(p.channels) & set(channels)]
        if set(channels) - set(self.channels):
            used.append(np.dtype(np.float32))
        return np.result_type(*used)

    def take(self, indices: Sequence[NDArray[np.int64]], channels: Sequence[str]) -> NDArray[Any]:
        """The voxels at the outer product of `indices`, all inside and at least one per axis; (axes…, channel)."""
        shape = tuple(len(i) for i in indices)
        found: dict[str, NDArray[Any]] = {}
        for part in self.parts:
            if set(part.channels) & set(channels):
                planes = self._take(part, indices)
                found.update((name, planes[k]) for k, name in enumerate(part.channels))
        out = np.empty((*shape, len(channels)), self.dtype(channels))
        for k, name in enumerate(channels):
            out[..., k] = found.get(name, np.nan)
        return out

    def _take(self, part: Part, indices: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
        """(channel, axes…) of one part."""
        volume = part.volume()
        sizes = dict(zip(volume.axes, volume.shape, strict=True))
        # A page of its own (some TIFF files say z or t of their only one) is no axis.
        extra = tuple(i for i, a in enumerate(volume.axes.replace("c", "")) if a not in self.axes and sizes[a] == 1)
        axes = "".join(a for i, a in enumerate(volume.axes.replace("c", "")) if i not in extra)
        if axes != self.axes or tuple(sizes[a] for a in self.axes) != self.shape:
            raise CatalogError(
                f"image {self.gid} has another size than the catalogue says",
                got=f"{volume.axes} {volume.shape}",
                expected=f"{self.axes} {self.shape}",
            )
        if sizes.get("c", 1) != len(part.channels):
            raise CatalogError(
                f"image {self.gid} has another number of channels than the catalogue says",
                got=sizes.get("c", 1),
                expected=len(part.channels),
            )
        low = {a: int(i.min()) for a, i in zip(self.axes, indices, strict=True)}
        high = {a: int(i.max()) + 1 for a, i in zip(self.axes, indices, strict=True)}
        window = Window.between([low.get(a, 0) for a in volume.axes], [high.get(a, sizes[a]) for a in volume.axes])
        patch = volume.read(window)
        patch = np.moveaxis(patch, volume.axes.index("c"), 0) if "c" in volume.axes else patch[None]
        patch = patch.squeeze(tuple(i + 1 for i in extra))
        for axis, (a, index) in enumerate(zip(self.axes, indices, strict=True), start=1):
            if len(index) != patch.shape[axis] or (np.diff(index) != 1).any():
                patch = patch.take(index - low[a], axis)
        return patch


def without_channels(axes: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Axes and shape without c."""
    kept = [i for i, a in enumerate(axes) if a != "c"]
    return "".join(axes[i] for i in kept), tuple(shape[i] for i in kept)
