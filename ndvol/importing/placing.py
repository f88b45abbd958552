"""Label maps on the grid of their image: by geometry, whole or in part, never by their shape alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats import VolumeData
from ndvol.geometry import Grid, Reorientation, Window
from ndvol.geometry.lattice import place_on

LABEL_TOLERANCE = 0.01
"""Share of a voxel by which a label's voxels may miss those of its image: NIfTI's quaternions round …"""
SAME_TOLERANCE = 1e-3
"""… but another image of the case may agree better, and comes first then."""


def place_on_one(data: VolumeData, images: Sequence[Grid], source: str) -> tuple[VolumeData, Reorientation]:
    """A label map on the grid of the image it lies on, of those of a case; see `place_label`.

    An image that it covers exactly comes before one of which it covers a part. Of several it goes to the one that it
    agrees with best.

    Raises
    ------
    SourceError : as `place_label`; code ``many-images-for-label`` where it covers a part of images on several grids.
    """
    different: list[Grid] = []
    for image in sorted(images, key=lambda grid: place_on(data.grid, grid, tolerance=SAME_TOLERANCE) is None):
        if not any(image.matches(other) for other in different):
            different.append(image)
    parts: list[tuple[VolumeData, Reorientation]] = []
    errors = []
    for image in different:
        try:
            placed, turn = place_label(data, image, source)
        except SourceError as error:
            errors.append(error)
            continue
        if placed.warnings == data.warnings:
            return placed, turn
        parts.append((placed, turn))
    if not parts:
        beside = [error for error in errors if error.code != "label-off-grid"]
        raise (beside or ([_off_grid(data.grid, different, source)] if len(different) > 1 else errors))[0]
    if len(parts) > 1:
        raise SourceError(
            f"label {source} covers a part of {len(parts)} images of its case, which have different grids",
            hint="import with --case-by series, or save the label on the whole grid of its image",
            code="many-images-for-label",
        )
    return parts[0]


def place_label(data: VolumeData, image: Grid, source: str) -> tuple[VolumeData, Reorientation]:
    """A label map on the whole spatial grid of `image`, and how its axes were turned.

    Its voxels must lie on voxels of the image. It may cover a part of the image, as the cropped segmentations of
    3D Slicer do, and may reach beyond with background alone: a warning says so then.

    Raises
    ------
    SourceError : code ``label-off-grid`` where the voxels do not lie on each other, or where a map of another shape
        has no position that proves its place; ``label-outside`` where labelled voxels lie beside the image.
    """
    placed = place_on(data.grid, image, tolerance=LABEL_TOLERANCE)
    if placed is None:
        raise _off_grid(data.grid, [image], source)
    turn, first = placed
    axes, array = data.grid.axes, turn.array(data.array, axes=data.grid.axes)
    begin = dict(zip(data.grid.spatial, first, strict=True))
    ends = {i: image.shape[k] for i, k in zip(data.grid.spatial, image.spatial, strict=True)}
    window = Window(tuple(begin.get(i, 0) for i in range(array.ndim)), array.shape)
    whole = tuple(ends.get(i, n) for i, n in enumerate(array.shape))
    warnings = data.warnings
    if window != Window.full(whole):
        # A header that says nothing of the position reads as 0 0 0.
        if data.grid.frame != "LPS" or not any(data.grid.origin):
            raise _off_grid(data.grid, [image], source)
        array = _on_canvas(array, window, whole, source)
        box = f"{list(first)} + {[window.shape[i] for i in data.grid.spatial]}"
        warnings = (*warnings, f"it covers the voxels {box} of its image; what lies around them is background")
    # The image's grid is the truth; the label's may differ from it by rounding.
    grid = Grid(axes, array.shape, image.affine, image.frame, image.unit)
    return replace(data, array=array, grid=grid, warnings=warnings), turn


def _on_canvas(array: NDArray[Any], window: Window, shape: tuple[int, ...], source: str) -> NDArray[Any]:
    """The voxels of `window` in an array of `shape` that is background elsewhere."""
    clip = window.clip(shape)
    canvas = np.zeros(shape, array.dtype)
    canvas[clip.inside] = array[clip.placement]
    if lost := np.count_nonzero(array) - np.count_nonzero(canvas):
        raise SourceError(
            f"label {source} has labelled voxels outside of its image",
            got=f"{lost} voxels; it covers {list(window.start)} + {list(window.shape)}",
            expected=f"{[0] * len(shape)} + {list(shape)}",
            hint="pair it with the image that it was drawn on",
            code="label-outside",
        )
    return canvas


def _off_grid(label: Grid, images: Sequence[Grid], source: str) -> SourceError:
    def describe(grid: Grid) -> str:
        steps, origin = np.round(grid.spacing, 4).tolist(), np.round(grid.origin, 3).tolist()
        return f"{grid.axes} {grid.shape}, spacing {steps}, origin {origin}, {grid.frame}"

    return SourceError(
        f"label {source} does not lie on the grid of {'its image' if len(images) == 1 else 'an image of its case'}",
        got=describe(label),
        expected=" or ".join(map(describe, images)),
        hint="resample the label onto the image, or pair it with the image that it was drawn on",
        code="label-off-grid",
    )
