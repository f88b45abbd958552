"""Structures drawn on the image that they belong to, of those of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ndvol.errors import NdvolError, OptionError, SourceError
from ndvol.formats import LabelData, Series, StructureReader, reader
from ndvol.formats.regridded import source_planes
from ndvol.geometry import Grid, Reorientation
from ndvol.geometry.resampling import repeat_planes
from ndvol.importing.plan import PlannedLabel

OFF_GRID = ("label-off-grid", "contour-off-plane", "contour-planes", "contour-not-planar")
"""Codes of structures that do not lie on the planes of the image."""


@dataclass(frozen=True, slots=True)
class OnImage:
    """What labels need of an image: its series, its grid and attributes as it is stored, and how it was turned."""

    series: Series
    grid: Grid
    facts: Mapping[str, float | int | str]
    turn: Reorientation


Drawn = list[tuple[Grid, Reorientation, LabelData]]
"""Structures, each with its grid, and how the image that they are drawn on was turned."""


def same_source(image: Series, structures: Series) -> bool:
    """True when a reader that finds both in one source gave them one key."""
    return (image.reader, image.key) == (structures.reader, structures.key)


def draw_structures(planned: PlannedLabel, images: Sequence[OnImage]) -> Drawn:
    """Structures on the one grid of `images` that they fit, each with the image's t axis or without."""
    [series] = planned.series
    different: list[OnImage] = []
    for image in images:
        if not any(image.grid.matches(other.grid) for other in different):
            different.append(image)
    drawn, errors = [], []
    for image in different:
        try:
            drawn.append(_draw_on(planned, image))
        except NdvolError as error:
            errors.append(error)
    if not drawn:
        raise errors[0]
    if len(drawn) > 1:
        raise SourceError(
            f"{series.source} does not say which of {len(drawn)} images of its case it was drawn on",
            hint="import with --case-by series, or keep only the image it belongs to",
            code="many-images-for-structures",
        )
    return drawn[0]


def _draw_on(planned: PlannedLabel, image: OnImage) -> Drawn:
    """Structures on the grid of an image, each with its own axes of it."""
    [series] = planned.series
    drawer = reader(series.reader)
    if not isinstance(drawer, StructureReader):
        raise OptionError(f"the reader {series.reader!r} draws no structures")
    spatial = with_axes(image.grid, "".join(image.grid.axes[i] for i in image.grid.spatial))
    try:
        drawn = drawer.read_structures(Path(planned.root), series, spatial)
    except SourceError as error:
        if error.code not in OFF_GRID or not image.facts.keys() & {"source_planes", "deskewed_degrees"}:
            raise
        raise SourceError(
            error.what,
            got=error.got,
            expected=error.expected,
            hint="the image was resampled, and these structures are no longer on its grid: import both as they are",
            code=error.code,
        ) from error
    if not same_source(image.series, series):
        drawn = _on_every_plane(drawn, spatial, image.facts)
    moving = with_axes(image.grid, "t" + spatial.axes) if "t" in image.grid.axes else spatial
    return [(spatial if data.array.ndim == len(spatial.axes) else moving, image.turn, data) for data in drawn]


def _on_every_plane(
    drawn: tuple[LabelData, ...], image: Grid, facts: Mapping[str, float | int | str]
) -> tuple[LabelData, ...]:
    """The structures, where need be also on the planes of the image that were interpolated.

    Whoever drew on the source's planes left those between them empty: they get the labels of the nearest plane. What
    was drawn on the whole scan, before planes of it were lost, has labels there and stays.
    """
    if (source := source_planes(facts, image.axes)) is None:
        return drawn
    axis, indices = source
    between = sorted(set(range(image.shape[axis])) - set(np.rint(indices).astype(int).tolist()))
    if not between or any(data.array.take(between, axis).any() for data in drawn):
        return drawn
    note = f"drawn on the source's planes: {len(between)} interpolated planes hold the labels of the nearest of them"
    return tuple(
        replace(data, array=repeat_planes(data.array, axis, indices), warnings=(*data.warnings, note)) for data in drawn
    )


def with_axes(grid: Grid, axes: str) -> Grid:
    """`grid` with `axes` alone: without its t and c axes, or some of them."""
    shape = tuple(grid.shape[grid.axes.index(a)] for a in axes)
    return Grid(axes, shape, grid.affine, grid.frame, grid.unit)
