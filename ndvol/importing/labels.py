"""The labels of a case: read from their sources, put on the grid of their image, and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import NdvolError, SourceError
from ndvol.formats import Series, VolumeData, reader
from ndvol.formats.layers import clean_name
from ndvol.formats.regridded import deskewed, turned
from ndvol.geometry import Grid, Reorientation, closest_canonical
from ndvol.importing.drawing import OnImage, draw_structures
from ndvol.importing.naming import Named, check_named, name_structures, name_values
from ndvol.importing.options import MERGED, ImportOptions, categories_of_names, folded, names_of_values
from ndvol.importing.placing import place_on_one
from ndvol.importing.plan import CasePlan, PlannedLabel, PlannedVolume
from ndvol.importing.privacy import Privacy
from ndvol.label_index import label_values

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class RefusedLabel:
    """A source of labels that cannot be used, and why. Its case goes on without it.

    `volume` is the name of the label volume that it would have been in.
    """

    volume: str
    source: str
    error: NdvolError


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
    plan: CasePlan, options: ImportOptions, images: Mapping[str, OnImage]
) -> Iterator[Label | RefusedLabel]:
    """All label volumes of a case under names of their own, each on the grid of the image that it belongs to.

    A source is refused when it does not lie on an image, holds a value that the category table does not name, is
    no mask among masks, or cannot be read; the others go on.

    Parameters
    ----------
    images : of the case, by name.
    """
    for lost in plan.lost:
        yield RefusedLabel(lost.volume, lost.source, SourceError("its reader refused it", code=lost.code))
    taken: set[str] = set()
    kinds = {"map": _read_map, "masks": _read_masks, "structures": _read_structures}
    for planned in plan.labels:
        for label in kinds[planned.kind](planned, plan, options, images):
            if isinstance(label, RefusedLabel):
                yield label
                continue
            name, number = label.name, 1
            while name in taken:
                number += 1
                name = f"{label.name}-{number}"
            taken.add(name)
            yield replace(label, name=name)


def _usable(planned: PlannedLabel, series: Series, read: Callable[[], T]) -> T | RefusedLabel:
    """What `read` returns, or why the source is refused."""
    try:
        return read()
    except NdvolError as error:
        return RefusedLabel(planned.name, series.source, error)
    except MemoryError:
        raise  # not the label's fault
    except Exception as error:
        # A bug of ours or of a library.
        fault = SourceError(f"label {series.source} could not be read", got=repr(error), code="internal")
        return RefusedLabel(planned.name, series.source, fault)


def _named(label: Label, named: Named, source: str) -> Label:
    """The label with the names of its structures."""
    warnings = {**label.warnings, source: (*label.warnings.get(source, ()), *named.warnings)}
    return replace(label, categories=named.categories, sources=named.sources, warnings=warnings)


def _read_map(
    planned: PlannedLabel, plan: CasePlan, options: ImportOptions, images: Mapping[str, OnImage]
) -> Iterator[Label | RefusedLabel]:
    [series] = planned.series
    found = _usable(planned, series, lambda: _maps(planned, plan, options, images))
    yield from [found] if isinstance(found, RefusedLabel) else found


def _maps(planned: PlannedLabel, plan: CasePlan, options: ImportOptions, images: Mapping[str, OnImage]) -> list[Label]:
    """A label map; where its file names segments in layers, one label volume for each layer."""
    [series] = planned.series
    data, turn = _read_on_image(planned, series, options, images)
    layers = data.layers or _stated_names(planned, data.array)
    if not layers:
        # A lone mask of one structure: its file may be called like a category of the table.
        known = categories_of_names(options.categories).get(folded(series.name), planned.name)
        names = name_values(known, data.array, names_of_values(options.categories or plan.categories))
        return [Label(planned.name, data.array, data.grid, turn, names, {series.source: data.warnings})]
    axes, arrays = data.grid.axes, [data.array]
    if data.layers and "c" in axes:
        axes, arrays = axes.replace("c", ""), list(np.moveaxis(data.array, axes.index("c"), 0))
    labels = []
    for array, originals in zip(arrays, layers, strict=True):
        grid = Grid(axes, array.shape, data.grid.affine, data.grid.frame, data.grid.unit)
        check_named(planned.name, label_values(array), originals)
        cleaned = {value: clean_name(name, f"segment {value}") for value, name in originals.items()}
        said = (*data.warnings, *(warning for _, warning in cleaned.values() if warning))
        label = Label(planned.name, array, grid, turn, {}, {series.source: said})
        names = {value: name for value, (name, _) in cleaned.items()}
        labels.append(_named(label, name_structures(names, options, originals), series.source))
    return labels


def _stated_names(planned: PlannedLabel, array: NDArray[Any]) -> tuple[Mapping[int, str], ...]:
    """The names that the layout gives the values of a label map, as one layer."""
    if not planned.structure:
        return (planned.names,) if planned.names else ()
    found = label_values(array)
    if len(found) > 1:
        raise _no_mask(planned.series[0].source, f"values {found[:5]}")
    return (dict.fromkeys(found or [1], planned.structure),)


def _read_masks(
    planned: PlannedLabel, plan: CasePlan, options: ImportOptions, images: Mapping[str, OnImage]
) -> Iterator[Label | RefusedLabel]:
    """One label volume of many binary masks, named by their files; masks that overlap, or lie on the grid of
    another image, go to further volumes."""
    layers: list[Label] = []
    dtype = np.uint8 if len(planned.series) < 256 else np.uint16
    for value, series in enumerate(planned.series, start=1):
        found = _usable(planned, series, partial(_read_mask, planned, series, options, images))
        if isinstance(found, RefusedLabel):
            yield found
            continue
        mask, data, turn = found
        name, warning = clean_name(series.name, f"structure {value}")
        free = (i for i, on in enumerate(layers) if on.grid == data.grid and not on.array[mask].any())
        at = next(free, len(layers))
        if at == len(layers):
            layers.append(Label(planned.name, np.zeros(mask.shape, dtype), data.grid, turn, {}, {}))
        layers[at].array[mask] = value
        said = {series.source: (*data.warnings, *([warning] if warning else []))}
        layers[at] = replace(
            layers[at], categories={**layers[at].categories, value: name}, warnings={**layers[at].warnings, **said}
        )
    for layer in layers:
        originals = {value: planned.series[value - 1].name for value in layer.categories}
        yield _named(layer, name_structures(layer.categories, options, originals), next(iter(layer.warnings)))


def _read_mask(
    planned: PlannedLabel, series: Series, options: ImportOptions, images: Mapping[str, OnImage]
) -> tuple[NDArray[np.bool_], VolumeData, Reorientation]:
    data, turn = _read_on_image(planned, series, options, images)
    found = label_values(data.array)
    if len(found) > 1 or "c" in data.grid.axes:
        raise _no_mask(series.source, f"values {found[:5]}" if len(found) > 1 else f"axes {data.grid.axes}")
    return data.array != 0, data, turn


def _no_mask(source: str, got: str) -> SourceError:
    return SourceError(
        f"{source} should be a mask, and is no mask of one structure",
        got=got,
        expected="0 and one other value",
        code="not-a-mask",
    )


def _read_structures(
    planned: PlannedLabel, plan: CasePlan, options: ImportOptions, images: Mapping[str, OnImage]
) -> Iterator[Label | RefusedLabel]:
    """The structures that a source draws on an image, in as many volumes as they overlap."""
    [series] = planned.series
    found = _usable(planned, series, lambda: draw_structures(planned, [images[name] for name in planned.images]))
    if isinstance(found, RefusedLabel):
        yield found
        return
    for grid, turn, data in found:
        name = Privacy.of(options).label_volume(data.name, planned.name)
        label = Label(name, data.array, grid, turn, {}, {series.source: data.warnings})
        yield _named(label, name_structures(data.categories, options, data.originals), series.source)


def _read_on_image(
    planned: PlannedLabel, series: Series, options: ImportOptions, images: Mapping[str, OnImage]
) -> tuple[VolumeData, Reorientation]:
    """A label map of a case on the grid of its image."""
    data = reader(series.reader).read(Path(planned.root), series, as_label=True)
    if options.reading.deskew:
        data = deskewed(data, as_label=True)
    return place_on_one(data, [image.grid for image in images.values()], series.source)


def _identity(grid: Grid) -> Reorientation:
    n = len(grid.spatial)
    return Reorientation(tuple(range(n)), (False,) * n)


def lost_labels(labels: Sequence[PlannedLabel], published: set[str]) -> list[str]:
    """Those of the `published` label volumes that the planned labels will not make again."""
    if any(label.kind == "structures" for label in labels):
        return []  # structures bring their own names
    made = [p.name for p in labels] + [MERGED] * bool(labels)
    return sorted(n for n in published if not any(n == name or n.startswith(f"{name}-") for name in made))
