"""Sample: what was read at a target, with everything needed to understand it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry import Grid, Window
from ndvol.sampling.target import Target


@dataclass(frozen=True, slots=True)
class ObjectInWindow:
    """An annotated object of which a window sees at least one voxel of its box.

    Attributes
    ----------
    category : name.
    box : relative to the patch and unclipped, so it may leave the patch on any side.
    label, value : the label volume that holds it ("" when there is none) and its value there.
    voxels : of the whole object, inside and outside the window.
    """

    category: str
    box: Window
    label: str
    value: int
    voxels: int


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The answer to a target; the arrays belong to the caller.

    Attributes
    ----------
    images : patches by name, in the images' own types. A patch has the window's shape; axes t and c that only
        that image lacks are missing, and those that the window does not have (colours of a picture) are whole.
    labels : integer patches by name, 0 outside the volume; a label volume that the case does not have is left
        out: "not annotated" is not "background".
    grid : of the patch, over the window's axes; its affine is that of the patch's voxel 0.
    valid : the part of the patch that lies in the volume; the rest is padding.
    annotations : the case's objects whose box shares a voxel with the window.
    target : what was asked for.
    """

    images: Mapping[str, NDArray[Any]]
    labels: Mapping[str, NDArray[Any]]
    grid: Grid
    valid: Window
    annotations: tuple[ObjectInWindow, ...]
    target: Target


def boxes_in_window(start: NDArray[np.int64], stop: NDArray[np.int64], window: Window) -> NDArray[np.intp]:
    """Positions of the half-open boxes, as (n, axes) columns, that share at least one voxel with `window`.

    >>> boxes_in_window(np.array([[0], [3], [5]]), np.array([[3], [5], [9]]), Window((3,), (2,)))
    array([1])
    """
    low = np.maximum(start, window.start)
    high = np.minimum(stop, window.stop)
    return np.flatnonzero((low < high).all(1))
