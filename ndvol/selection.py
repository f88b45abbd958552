"""Selection: what a sampler reads of a catalogue, settled from the records before any file is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from ndvol.catalog import CaseRecord, Catalog
from ndvol.categories import CategoryTree
from ndvol.errors import OptionError, SamplingError, UnknownNameError
from ndvol.geometry.grid import SPATIAL_AXES
from ndvol.sampling import Cohort, ObjectRows
from ndvol.sampling.aligned import missing_image
from ndvol.sampling.cohort import CaseSource

PICTURE = "image"
"""Name of the image of a picture, whose record names none."""

MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "unknown": nan}


@dataclass(frozen=True, slots=True)
class Layout:
    """The grid of a case's reference image, without its place in the world.

    Attributes
    ----------
    axes, shape : in storage order.
    spacing_mm : per axis; inf along t and c, nan where it is not known.
    """

    axes: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What a sampler reads of each case, and what it knows before it opens one.

    Attributes
    ----------
    records : the cases, in the catalogue's order.
    images, labels : names of the volumes to read; windows are in the grid of the first image.
    layouts : of the first image, by case; all over the same axes.
    rows : the objects of all cases over these axes.
    """

    records: tuple[CaseRecord, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    layouts: tuple[Layout, ...]
    rows: ObjectRows

    @classmethod
    def of(cls, catalog: Catalog, images: Sequence[str] | None, labels: Sequence[str] | None) -> Selection:
        """Settle `images` and `labels`; None: those of the first case, and all that any case has.

        Raises
        ------
        UnknownNameError : when a case lacks an image, or no case has a label volume.
        SamplingError : when there is no case, or the cases differ in axes.
        """
        records = tuple(catalog.records.values())
        if not records:
            raise SamplingError(f"there is no case in {catalog.path or 'the catalogue'}", hint="import some")
        names = image_names(records, images)
        grids = tuple(layouts(catalog, records, names[0]))
        return cls(records, names, label_names(records, labels), grids, object_rows(records, grids))

    @property
    def axes(self) -> str:
        return self.layouts[0].axes

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the first image, by case."""
        return {record.name: layout.shape for record, layout in zip(self.records, self.layouts, strict=True)}

    @property
    def examined(self) -> tuple[tuple[str, ...] | None, ...]:
        """What was examined, by case."""
        return tuple(map(examined_names, self.records))

    def cohort(self, tree: CategoryTree, cases: CaseSource) -> Cohort:
        """The cases for a strategy, which opens them through `cases`."""
        return Cohort(
            tree=tree,
            names=tuple(record.name for record in self.records),
            shapes=np.array([layout.shape for layout in self.layouts], np.int64),
            spacing=np.array([layout.spacing_mm for layout in self.layouts], np.float64),
            objects=self.rows,
            cases=cases,
            label_names=tuple(record.labels for record in self.records),
        )


def image_names(records: Sequence[CaseRecord], images: Sequence[str] | None) -> tuple[str, ...]:
    """The images to read, of which every case has all."""
    names = tuple(images) if images is not None else images_of(records[0])
    if not names:
        raise OptionError("a sampler needs at least one image", got="images=()")
    for record in records:
        missing = [name for name in names if name not in images_of(record)]
        if missing:
            raise missing_image(record.name, missing, images_of(record))
    return names


def images_of(record: CaseRecord) -> tuple[str, ...]:
    """The images of a case, of which there is always one."""
    return record.images or (PICTURE,)


def label_names(records: Sequence[CaseRecord], labels: Sequence[str] | None) -> tuple[str, ...]:
    """The label volumes to read: those given, or all that any case has."""
    found = tuple(dict.fromkeys(label for record in records for label in record.labels))
    if labels is None:
        return found
    names = tuple(labels)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise UnknownNameError(
            f"no case has a label volume {', '.join(map(repr, unknown))}",
            expected=f"some of {', '.join(found) or '(none)'}",
        )
    return names


def examined_names(record: CaseRecord) -> tuple[str, ...] | None:
    """What was examined in a case, see `CaseRecord`; nothing where a label was refused, unless the catalogue says so:
    what that label would have shown is not known."""
    if record.examined is None and record.attributes.get("refused_labels"):
        return ()
    return record.examined


def layouts(catalog: Catalog, records: Sequence[CaseRecord], image: str) -> list[Layout]:
    """The layout of `image` in each case, all over the same axes; opens cases whose record cannot tell.

    Raises
    ------
    SamplingError : when the cases differ in axes.
    """
    found = []
    for record in records:
        axes, shape, spacing, unit = record.axes, record.shape, record.spacing, record.unit
        if image != images_of(record)[0]:
            grid = catalog[record.name].images[image].grid
            axes, shape, spacing, unit = grid.axes, grid.shape, grid.spacing, grid.unit
        steps = dict(zip((a for a in axes if a in SPATIAL_AXES), spacing, strict=True))
        mm = tuple(steps[a] * MM_PER_UNIT[unit] if a in steps else inf for a in axes)
        found.append(Layout(axes, shape, mm))
    examples = {layout.axes: record.name for layout, record in zip(found, records, strict=True)}
    if len(examples) > 1:
        raise SamplingError(
            "the cases differ in axes, so no window fits all",
            got=", ".join(f"{axes!r} in {name!r}" for axes, name in examples.items()),
            hint="sample cases with the same axes together, from a catalogue of their own",
            code="mixed-axes",
        )
    return found


def object_rows(records: Sequence[CaseRecord], layouts: Sequence[Layout]) -> ObjectRows:
    """The objects of all cases as a cohort's rows, over the axes of the layouts."""
    axes = layouts[0].axes
    lengths = [len(record.objects) for record in records]
    columns = {
        name: np.concatenate([getattr(record.objects, name) for record in records])
        for name in ("category", "label", "value", "voxels")
    }
    # A box without a label volume has no value; its category stands for one, so that each can be found by itself.
    columns["value"] = np.where(columns["label"] < 0, columns["category"], columns["value"])
    boxes = [boxes_over(axes, record, layout) for record, layout in zip(records, layouts, strict=True)]
    return ObjectRows.gather(
        **columns,
        case=np.repeat(np.arange(len(records)), lengths),
        number=np.concatenate([np.arange(n) for n in lengths]),
        start=np.concatenate([start for start, _ in boxes]),
        stop=np.concatenate([stop for _, stop in boxes]),
    )


def boxes_over(axes: str, record: CaseRecord, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop of a case's objects over `axes`: whole along an axis that the record does not have."""
    objects = record.objects
    if axes == record.axes:
        return objects.start, objects.stop
    start = np.zeros((len(objects), len(axes)), np.int64)
    stop = start + np.array(layout.shape)
    for position, axis in enumerate(axes):
        if axis in record.axes:
            start[:, position] = objects.start[:, record.axes.index(axis)]
            stop[:, position] = objects.stop[:, record.axes.index(axis)]
    return start, stop
