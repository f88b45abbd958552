"""Objects of a label volume: connected components with exact boxes and voxel counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ndvol.errors import DamageError
from ndvol.geometry import Window
from ndvol.label_index import label_values

POLICIES = ("component", "category")
MAX_CODE = 2**16
"""Values up to this one are looked for by their own number; scipy keeps a box for every number up to the largest."""


def find_objects(labels: NDArray[Any], policy: str = "component") -> NDArray[np.int64]:
    """The objects of each non-zero value.

    Parameters
    ----------
    labels : integers, 0 is background.
    policy : ``component``: one object per connected component, where voxels that share a corner are connected
        (26 neighbours in 3-D); ``category``: all voxels of a value are one object.

    Returns
    -------
    (n, 2 + 2 * ndim) int64 with the columns value, voxels, start…, stop…; by value, then by position.

    >>> find_objects(np.array([[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 1]])).tolist()
    [[1, 2, 0, 0, 2, 2], [1, 1, 2, 3, 3, 4], [2, 1, 0, 3, 1, 4]]
    """
    rows = []
    neighbours = np.ones((3,) * labels.ndim, bool)
    for value, box in _boxes(labels):
        inner = labels[box] == value
        parts, count = ndimage.label(inner, neighbours) if policy == "component" else (inner.astype(np.uint8), 1)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        for number, part in enumerate(ndimage.find_objects(parts), start=1):
            start = [b.start + p.start for b, p in zip(box, part, strict=True)]
            stop = [b.start + p.stop for b, p in zip(box, part, strict=True)]
            rows.append([value, int(sizes[number]), *start, *stop])
    return np.array(rows, np.int64).reshape(-1, 2 + 2 * labels.ndim)


def _boxes(labels: NDArray[Any]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Each non-zero value and the box that holds it, found in one pass."""
    values = label_values(labels)
    if not values:
        return
    if values[0] > 0 and values[-1] <= MAX_CODE:
        codes = labels.view(np.uint8) if labels.dtype == bool else labels
        boxes = ndimage.find_objects(codes, values[-1])
        yield from ((value, boxes[value - 1]) for value in values)
    else:
        codes = np.where(labels != 0, np.searchsorted(values, labels) + 1, 0)
        yield from zip(values, ndimage.find_objects(codes, len(values)), strict=True)


def value_boxes(objects: NDArray[np.int64]) -> dict[int, Window]:
    """Per value the box that holds all its objects, which are rows of `find_objects`.

    >>> value_boxes(find_objects(np.array([[1, 0, 0, 2], [0, 0, 1, 0]])))
    {1: Window(start=(0, 0), shape=(2, 3)), 2: Window(start=(0, 3), shape=(1, 1))}
    """
    n = (objects.shape[1] - 2) // 2
    parts = ((int(value), objects[objects[:, 0] == value, 2:]) for value in np.unique(objects[:, 0]))
    return {value: Window.between(rows[:, :n].min(0), rows[:, n:].max(0)) for value, rows in parts}


def object_mask(labels: NDArray[Any], value: int, voxels: int) -> NDArray[np.bool_]:
    """The voxels of one object of `find_objects`, out of the labels in its box.

    Where several components of the value meet in the box, the object is the one that reaches all its sides and has
    its number of voxels.

    Raises
    ------
    DamageError : when the box holds no such object.

    >>> object_mask(np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]]), 1, 4).tolist()
    [[True, False, True], [False, True, False], [True, False, False]]
    """
    mask = np.asarray(labels == value)
    if np.count_nonzero(mask) == voxels:
        return mask
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim, bool))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    whole = tuple(slice(0, n) for n in mask.shape)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        if box == whole and sizes[number] == voxels:
            return np.asarray(parts == number)
    raise DamageError(
        f"the labels hold no object of value {value} where the catalogue says",
        got=f"{np.count_nonzero(mask)} voxels of the value in the box",
        expected=f"an object of {voxels}",
        hint="run `ndvol verify`",
    )
