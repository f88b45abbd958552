"""The labels of a case: read from their sources, put on the image's grid, and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError, SourceError
from ndvol.formats import LabelData, StructureReader, VolumeData, reader
from ndvol.formats.regridded import deskewed, source_planes, turned
from ndvol.geometry import Grid, Reorientation, closest_canonical
from ndvol.geometry.resampling import repeat_planes
from ndvol.importing.options import ImportOptions, names_of_values
from ndvol.importing.plan import CasePlan, PlannedLabel, PlannedVolume
from ndvol.importing.privacy import Privacy

LABEL_TOLERANCE = 0.01
"""A label lies on its image's grid when their corners agree to this share of a voxel: NIfTI's quaternions round."""
OFF_GRID = ("label-off-grid", "contour-off-plane", "contour-planes", "contour-not-planar")
"""Codes of structures that do not lie on the planes of the image."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label volume, ready to be stored.

    Attributes
    ----------
    array : unsigned integers on `grid`; 0 is background.
    reorientation : what was done to the source's axes.
    categories : value -> category name.
    warnings : by source.
    """

    name: str
    array: NDArray[Any]
    grid: Grid
    reorientation: Reorientation
    categories: Mapping[int, str]
    warnings: Mapping[str, tuple[str, ...]]


def read_volume(
    volume: PlannedVolume, options: ImportOptions, *, as_label: bool = False
) -> tuple[VolumeData, Reorientation]:
    """A volume in the orientation that the options ask for, and what was done to its axes."""
    data = reader(volume.series.reader).read(Path(volume.root), volume.series, as_label=as_label)
    if options.reading.deskew:
        data = deskewed(data, as_label=as_label)
    turn = _identity(data.grid)
    if options.orientation == "canonical" and data.grid.frame == "LPS":
        turn = closest_canonical(data.grid)
    return turned(data, turn), turn


def read_labels(
    plan: CasePlan, options: ImportOptions, image: Grid, facts: Mapping[str, float | int | str]
) -> Iterator[Label]:
    """All label volumes of a case on the grid of its first image, under names of their own.

    Parameters
    ----------
    image, facts : grid and attributes of that image as it is stored.

    Raises
    ------
    SourceError : when a label does not lie on the image, or holds a value that the category table does not name.
    """
    taken: set[str] = set()
    for planned in plan.labels:
        kinds: dict[str, Callable[..., Iterator[Label]]] = {
            "map": _read_map,
            "masks": _read_masks,
            "structures": partial(_read_structures, facts=facts),
        }
        for label in kinds[planned.kind](planned, plan, options, image):
            name, number = label.name, 1
            while name in taken:
                number += 1
                name = f"{label.name}-{number}"
            taken.add(name)
            yield replace(label, name=name)


def _structure_names(names: Mapping[int, str], options: ImportOptions) -> dict[int, str]:
    """Names of structures that come from the source, as far as they may be said."""
    privacy = Privacy.of(options)
    return {value: privacy.structure(name) for value, name in names.items()}


def _read_map(planned: PlannedLabel, plan: CasePlan, options: ImportOptions, image: Grid) -> Iterator[Label]:
    [series] = planned.series
    data, turn = _read_on_image(PlannedVolume(planned.name, planned.root, series), options, image)
    names = name_values(planned.name, data.array, names_of_values(options.categories or plan.categories))
    yield Label(planned.name, data.array, data.grid, turn, names, {series.source: data.warnings})


def _read_masks(planned: PlannedLabel, plan: CasePlan, options: ImportOptions, image: Grid) -> Iterator[Label]:
    """One label volume of many binary masks, named by their files; masks that overlap go to further volumes."""
    layers: list[NDArray[np.uint16]] = []
    names: list[dict[int, str]] = []
    warnings: dict[str, tuple[str, ...]] = {}
    data, turn = None, _identity(image)
    for value, series in enumerate(planned.series, start=1):
        data, turn = _read_on_image(PlannedVolume(planned.name, planned.root, series), options, image)
        warnings[series.source] = data.warnings
        if len(found := np.unique(data.array[data.array != 0])) > 1:
            raise SourceError(
                f"{series.source} is one of several masks, but no mask of one structure",
                got=f"values {found[:5].tolist()}",
                expected="0 and one other value",
                code="not-a-mask",
            )
        mask = data.array != 0
        at = next((i for i, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if at == len(layers):
            layers.append(np.zeros(data.array.shape, np.uint16))
            names.append({})
        layers[at][mask] = value
        names[at][value] = series.name
    for layer, categories in zip(layers, names, strict=True):
        small = layer.astype(np.uint8) if len(planned.series) < 256 else layer
        named = _structure_names(categories, options)
        yield Label(planned.name, small, data.grid if data else image, turn, named, warnings)


def _read_structures(
    planned: PlannedLabel,
    plan: CasePlan,
    options: ImportOptions,
    image: Grid,
    *,
    facts: Mapping[str, float | int | str],
) -> Iterator[Label]:
    """The structures that a source draws on the image, in as many volumes as they overlap."""
    [series] = planned.series
    drawer = reader(series.reader)
    if not isinstance(drawer, StructureReader):
        raise OptionError(f"the reader {series.reader!r} draws no structures")
    spatial = Grid(
        "".join(image.axes[i] for i in image.spatial),
        tuple(image.shape[i] for i in image.spatial),
        image.affine,
        image.frame,
        image.unit,
    )
    try:
        drawn = drawer.read_structures(Path(planned.root), series, spatial)
    except SourceError as error:
        if error.code not in OFF_GRID or not facts.keys() & {"source_planes", "deskewed_degrees"}:
            raise
        raise SourceError(
            error.what,
            got=error.got,
            expected=error.expected,
            hint="the image was resampled, and these structures are no longer on its grid: import both as they are",
            code=error.code,
        ) from error
    for data in _on_every_plane(drawn, spatial, facts):
        warnings = {series.source: data.warnings}
        named = _structure_names(data.categories, options)
        name = Privacy.of(options).label_volume(data.name, planned.name)
        yield Label(name, data.array, spatial, _identity(spatial), named, warnings)


def _on_every_plane(
    drawn: Sequence[LabelData], image: Grid, facts: Mapping[str, float | int | str]
) -> Sequence[LabelData]:
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
    return [
        replace(data, array=repeat_planes(data.array, axis, indices), warnings=(*data.warnings, note)) for data in drawn
    ]


def _read_on_image(volume: PlannedVolume, options: ImportOptions, image: Grid) -> tuple[VolumeData, Reorientation]:
    """A label with the grid of its image, on which it must lie: labels are placed by geometry."""
    data, turn = read_volume(volume, options, as_label=True)
    if data.grid.matches(image, tolerance=LABEL_TOLERANCE):
        # The image's grid is the truth; the label's may differ from it by rounding.
        return (replace(data, grid=image) if image.shape == data.array.shape else data), turn

    def describe(grid: Grid) -> str:
        steps, origin = np.round(grid.spacing, 4).tolist(), np.round(grid.origin, 3).tolist()
        return f"{grid.axes} {grid.shape}, spacing {steps}, origin {origin}, {grid.frame}"

    raise SourceError(
        f"label {volume.series.source} does not lie on the grid of its image",
        got=describe(data.grid),
        expected=describe(image),
        hint="resample the label onto the image, or pair it with the image that it was drawn on",
        code="label-off-grid",
    )


def name_values(label: str, array: NDArray[Any], table: Mapping[int, str]) -> dict[int, str]:
    """Value -> category name of a label map; see `ImportOptions.categories`.

    >>> name_values("mask", np.array([0, 1]), {}), name_values("seg", np.array([0, 2, 5]), {})
    ({1: 'mask'}, {2: 'seg-2', 5: 'seg-5'})
    """
    found = [int(v) for v in np.unique(array) if v != 0]
    if table:
        if unnamed := [v for v in found if v not in table]:
            raise SourceError(
                f"label {label!r} holds values that the category table does not name",
                got=unnamed[:10],
                expected=f"of {sorted(table)[:20]}",
                hint="add them to the table",
                code="unnamed-values",
            )
        return dict(table)
    if found in ([], [1]):
        return {1: label}
    return {v: f"{label}-{v}" for v in found}


def _identity(grid: Grid) -> Reorientation:
    n = len(grid.spatial)
    return Reorientation(tuple(range(n)), (False,) * n)


def lost_labels(labels: Sequence[PlannedLabel], published: set[str]) -> list[str]:
    """Those of the `published` label volumes that the planned labels will not make again."""
    if any(label.kind == "structures" for label in labels):
        return []  # structures bring their own names
    return sorted(n for n in published if not any(n == p.name or n.startswith(f"{p.name}-") for p in labels))
