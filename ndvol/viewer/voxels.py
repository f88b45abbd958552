"""What lies at one place: the value of an image there, and of every label volume whose place is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ndvol.geometry import Window
from ndvol.sampling.aligned import fits
from ndvol.volumes import Case, Volume


def voxel_facts(case: Case, image: Volume, at: Sequence[int], others: Mapping[str, int]) -> dict[str, Any]:
    """The values at a voxel of `image`, read at level 0, as JSON values.

    Parameters
    ----------
    at : index of the voxel on the spatial axes of `image`; may lie outside.
    others : index on the axes t and c; an image of several channels gives them all where c is missing.

    Returns
    -------
    ``values``, the texts of the image's voxel by channel, empty outside; ``world``, its place (x, y, z); ``labels``,
    by name the ``value`` and ``category`` of the nearest voxel, for the label volumes that hold the place.
    """
    labels = {}
    for name, label in case.labels.items():
        index = _nearest(image, at, label)
        found = [] if index is None else _values(label, index, others)
        if found:
            labels[name] = {"value": str(found[0]), "category": label.categories.get(int(found[0]), "")}
    values = [str(v) for v in _values(image, at, others)]
    return {"values": values, "world": image.grid.world(at).tolist(), "labels": labels}


def _nearest(image: Volume, at: Sequence[int], other: Volume) -> tuple[int, ...] | None:
    """The index of the voxel of `other` that is nearest to a voxel of `image`; None where that is not known."""
    if fits(other.grid, image.grid):
        return tuple(at)
    if not image.grid.frame == other.grid.frame == "LPS":
        return None
    index = np.rint(other.grid.index(image.grid.world(at)))
    return tuple(int(i) for i in index)


def _values(volume: Volume, at: Sequence[int], others: Mapping[str, int]) -> list[Any]:
    """The voxel of each channel that is asked for; none outside the volume."""
    spans = dict(zip((volume.axes[i] for i in volume.grid.spatial), ((i, 1) for i in at), strict=True))
    for axis, n in zip(volume.axes, volume.shape, strict=True):
        if axis not in spans:
            spans[axis] = (others[axis], 1) if axis in others else (0, n if axis == "c" else 1)
    window = Window(tuple(spans[a][0] for a in volume.axes), tuple(spans[a][1] for a in volume.axes))
    if window.clip(volume.shape).shape != window.shape:
        return []
    return list(volume.read(window).ravel())
