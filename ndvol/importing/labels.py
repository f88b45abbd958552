"""The labels of a case: read from their sources, put on the image's grid, and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError, SourceError
from ndvol.formats import LabelData, Series, StructureReader, VolumeData, reader
from ndvol.formats.layers import clean_name
from ndvol.formats.regridded import deskewed, source_planes, turned
from ndvol.geometry import Grid, Reorientation, closest_canonical
from ndvol.geometry.resampling import repeat_planes
from ndvol.importing.naming import Named, check_named, name_structures, name_values
from ndvol.importing.options import MERGED, ImportOptions, categories_of_names, folded, names_of_values
from ndvol.importing.placing import place_label
from ndvol.importing.plan import CasePlan, PlannedLabel, PlannedVolume, same_source
from ndvol.importing.privacy import Privacy
from ndvol.sampling.aligned import restrict

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
    sources : value -> names in the source, where they are others than the category's and may be said.
    """

    name: str
    array: NDArray[Any]
    grid: Grid
    reorientation: Reorientation
    categories: Mapping[int, str]
    warnings: Mapping[str, tuple[str, ...]]
    sources: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        """JSON values to keep beside the volume."""
        names = {str(value): list(names) for value, names in sorted(self.sources.items())}
        return {"source_names": names} if names else {}


def read_volume(volume: PlannedVolume, options: ImportOptions) -> tuple[VolumeData, Reorientation]:
    """An image in the orientation that the options ask for, and what was done to its axes."""
    data = reader(volume.series.reader).read(Path(volume.root), volume.series)
    if options.reading.deskew:
        data = deskewed(data)
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


def _named(label: Label, named: Named, source: str) -> Label:
    """The label with the names of its structures."""
    warnings = {**label.warnings, source: (*label.warnings.get(source, ()), *named.warnings)}
    return replace(label, categories=named.categories, sources=named.sources, warnings=warnings)


def _read_map(planned: PlannedLabel, plan: CasePlan, options: ImportOptions, image: Grid) -> Iterator[Label]:
    """A label map; where its file names segments in layers, one label volume for each layer."""
    [series] = planned.series
    data, turn = _read_on_image(planned, series, options, image)
    if not data.layers:
        # A lone mask of one structure: its file may be called like a category of the table.
        known = categories_of_names(options.categories).get(folded(series.name), planned.name)
        names = name_values(known, data.array, names_of_values(options.categories or plan.categories))
        yield Label(planned.name, data.array, data.grid, turn, names, {series.source: data.warnings})
        return
    axes, arrays = data.grid.axes, [data.array]
    if "c" in axes:
        axes, arrays = axes.replace("c", ""), list(np.moveaxis(data.array, axes.index("c"), 0))
    for array, originals in zip(arrays, data.layers, strict=True):
        grid = Grid(axes, array.shape, data.grid.affine, data.grid.frame, data.grid.unit)
        check_named(planned.name, np.unique(array[array != 0]).tolist(), originals)
        cleaned = {value: clean_name(name, f"segment {value}") for value, name in originals.items()}
        said = (*data.warnings, *(warning for _, warning in cleaned.values() if warning))
        label = Label(planned.name, array, grid, turn, {}, {series.source: said})
        names = {value: name for value, (name, _) in cleaned.items()}
        yield _named(label, name_structures(names, options, originals), series.source)


def _read_masks(planned: PlannedLabel, plan: CasePlan, options: ImportOptions, image: Grid) -> Iterator[Label]:
    """One label volume of many binary masks, named by their files; masks that overlap go to further volumes."""
    layers: list[NDArray[np.uint16]] = []
    names: list[dict[int, str]] = []
    warnings: dict[str, tuple[str, ...]] = {}
    data, turn = None, _identity(image)
    for value, series in enumerate(planned.series, start=1):
        data, turn = _read_on_image(planned, series, options, image)
        if len(found := np.unique(data.array[data.array != 0])) > 1 or "c" in data.grid.axes:
            raise SourceError(
                f"{series.source} is one of several masks, but no mask of one structure",
                got=f"values {found[:5].tolist()}" if len(found) > 1 else f"axes {data.grid.axes}",
                expected="0 and one other value",
                code="not-a-mask",
            )
        mask = data.array != 0
        at = next((i for i, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if at == len(layers):
            layers.append(np.zeros(data.array.shape, np.uint16))
            names.append({})
        layers[at][mask] = value
        names[at][value], warning = clean_name(series.name, f"structure {value}")
        warnings[series.source] = (*data.warnings, *([warning] if warning else []))
    originals = {value: series.name for value, series in enumerate(planned.series, start=1)}
    for layer, cleaned in zip(layers, names, strict=True):
        small = layer.astype(np.uint8) if len(planned.series) < 256 else layer
        label = Label(planned.name, small, data.grid if data else image, turn, {}, warnings)
        known = {value: originals[value] for value in cleaned}
        yield _named(label, name_structures(cleaned, options, known), planned.series[0].source)


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
    complete = same_source(plan.images[0].series, series)
    for data in drawn if complete else _on_every_plane(drawn, spatial, facts):
        name = Privacy.of(options).label_volume(data.name, planned.name)
        # Structures may have the image's t axis.
        grid = spatial if data.array.ndim == spatial.ndim else restrict(image, "t")
        label = Label(name, data.array, grid, _identity(spatial), {}, {series.source: data.warnings})
        yield _named(label, name_structures(data.categories, options, data.originals), series.source)


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


def _read_on_image(
    planned: PlannedLabel, series: Series, options: ImportOptions, image: Grid
) -> tuple[VolumeData, Reorientation]:
    """A label map of a case on the grid of its image."""
    data = reader(series.reader).read(Path(planned.root), series, as_label=True)
    if options.reading.deskew:
        data = deskewed(data, as_label=True)
    return place_label(data, image, series.source)


def _identity(grid: Grid) -> Reorientation:
    n = len(grid.spatial)
    return Reorientation(tuple(range(n)), (False,) * n)


def lost_labels(labels: Sequence[PlannedLabel], published: set[str]) -> list[str]:
    """Those of the `published` label volumes that the planned labels will not make again."""
    if any(label.kind == "structures" for label in labels):
        return []  # structures bring their own names
    made = [p.name for p in labels] + [MERGED] * bool(labels)
    return sorted(n for n in published if not any(n == name or n.startswith(f"{name}-") for name in made))
