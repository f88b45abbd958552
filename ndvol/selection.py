"""Selection: what a sampler reads of a catalogue, settled from the records before any file is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, nan

import numpy as np

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.errors import OptionError, SamplingError, UnknownNameError
from ndvol.geometry.grid import SPATIAL_AXES
from ndvol.sampling import Cohort, ObjectRows
from ndvol.sampling.aligned import missing_image
from ndvol.sampling.cohort import CaseSource

PICTURE = "image"
"""Name of the image of a picture, whose record names none."""

MM_PER_UNIT = {"mm": 1.0, "um": 1e-3}


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
class Kind:
    """What a sampler knows of a case before it opens it, its objects apart. Thousands of cases share one.

    Attributes
    ----------
    layout : of the first image that is read.
    labels : names of all its label volumes.
    examined : see `CaseRecord`; nothing where a label was refused, unless the catalogue says so: what that label would
        have shown is not known.
    """

    layout: Layout
    labels: tuple[str, ...]
    examined: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What a sampler reads of each case, and what it knows before it opens one.

    Attributes
    ----------
    kinds : by case, in the catalogue's order; all over the same axes.
    images, labels : names of the volumes to read; windows are in the grid of the first image.
    rows : the objects of all cases over these axes.
    """

    kinds: dict[str, Kind]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    rows: ObjectRows

    @classmethod
    def of(cls, catalog: Catalog, images: Sequence[str] | None, labels: Sequence[str] | None) -> Selection:
        """Settle `images` and `labels`; None: those of the first case, and all that any case has.

        Raises
        ------
        UnknownNameError : when a case lacks an image, or no case has a label volume.
        SamplingError : when there is no case, or the cases differ in axes.
        """
        kinds: dict[str, Kind] = {}
        objects: list[Objects] = []
        shared: dict[Kind, Kind] = {}
        # One record at a time: a hundred thousand of them take more memory than all that is kept of them here.
        for record in catalog.records.values():
            if images is None:
                images = images_of(record)
            check_images(record, images)
            layout = layout_of(catalog, record, images[0])
            kind = Kind(layout, record.labels, examined_names(record))
            kinds[record.name] = shared.setdefault(kind, kind)
            objects.append(objects_over(layout.axes, record, layout))
        if images is None:
            raise SamplingError(f"there is no case in {catalog.path or 'the catalogue'}", hint="import some")
        check_axes(kinds)
        found = tuple(dict.fromkeys(label for kind in shared for label in kind.labels))
        if labels is not None:
            check_labels(labels, found)
        return cls(kinds, tuple(images), found if labels is None else tuple(labels), object_rows(objects))

    @property
    def axes(self) -> str:
        return next(iter(self.kinds.values())).layout.axes

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the first image, by case."""
        return {name: kind.layout.shape for name, kind in self.kinds.items()}

    @property
    def examined(self) -> tuple[tuple[str, ...] | None, ...]:
        """What was examined, by case."""
        return tuple(kind.examined for kind in self.kinds.values())

    def cohort(self, tree: CategoryTree, cases: CaseSource) -> Cohort:
        """The cases for a strategy, which opens them through `cases`."""
        kinds = self.kinds.values()
        return Cohort(
            tree=tree,
            names=tuple(self.kinds),
            shapes=np.array([kind.layout.shape for kind in kinds], np.int64),
            spacing=np.array([kind.layout.spacing_mm for kind in kinds], np.float64),
            objects=self.rows,
            cases=cases,
            label_names=tuple(kind.labels for kind in kinds),
        )


def images_of(record: CaseRecord) -> tuple[str, ...]:
    """The images of a case, of which there is always one."""
    return record.images or (PICTURE,)


def check_images(record: CaseRecord, images: Sequence[str]) -> None:
    """Raise unless the case has all of `images`."""
    if not images:
        raise OptionError("a sampler needs at least one image", got="images=()")
    missing = [name for name in images if name not in images_of(record)]
    if missing:
        raise missing_image(record.name, missing, images_of(record))


def check_labels(labels: Sequence[str], found: Sequence[str]) -> None:
    """Raise unless all of `labels` were found in some case."""
    unknown = [name for name in labels if name not in found]
    if unknown:
        raise UnknownNameError(
            f"no case has a label volume {', '.join(map(repr, unknown))}",
            expected=f"some of {', '.join(found) or '(none)'}",
        )


def check_axes(kinds: Mapping[str, Kind]) -> None:
    """Raise unless all cases have the same axes."""
    examples = {kind.layout.axes: name for name, kind in kinds.items()}
    if len(examples) > 1:
        raise SamplingError(
            "the cases differ in axes, so no window fits all",
            got=", ".join(f"{axes!r} in {name!r}" for axes, name in examples.items()),
            hint="sample cases with the same axes together, from a catalogue of their own",
            code="mixed-axes",
        )


def examined_names(record: CaseRecord) -> tuple[str, ...] | None:
    """See `Kind.examined`."""
    if record.examined is None and record.attributes.get("refused_labels"):
        return ()
    return record.examined


def layout_of(catalog: Catalog, record: CaseRecord, image: str) -> Layout:
    """The layout of `image`; opens the case where the record cannot tell."""
    axes, shape, spacing, unit = record.axes, record.shape, record.spacing, record.unit
    if image != images_of(record)[0]:
        grid = catalog[record.name].images[image].grid
        axes, shape, spacing, unit = grid.axes, grid.shape, grid.spacing, grid.unit
    # The very same nan, so that cases without a scale are of one kind.
    mm = [step * MM_PER_UNIT[unit] if unit in MM_PER_UNIT else nan for step in spacing]
    steps = dict(zip((a for a in axes if a in SPATIAL_AXES), mm, strict=True))
    return Layout(axes, shape, tuple(steps.get(a, inf) for a in axes))


def object_rows(cases: Sequence[Objects]) -> ObjectRows:
    """The objects of all cases as a cohort's rows; all are over the same axes."""
    lengths = [len(objects) for objects in cases]
    names = ("category", "label", "value", "voxels", "start", "stop")
    columns = {name: np.concatenate([getattr(objects, name) for objects in cases]) for name in names}
    # A box without a label volume has no value; its category stands for one, so that each can be found by itself.
    columns["value"] = np.where(columns["label"] < 0, columns["category"], columns["value"])
    ends = np.cumsum(lengths)
    first = np.repeat(ends - lengths, lengths)
    return ObjectRows.gather(
        **columns, case=np.repeat(np.arange(len(cases)), lengths), number=np.arange(len(first)) - first
    )


def objects_over(axes: str, record: CaseRecord, layout: Layout) -> Objects:
    """A case's objects over `axes`: whole along an axis that the record does not have."""
    objects = record.objects
    if axes == record.axes:
        return objects
    start = np.zeros((len(objects), len(axes)), np.int64)
    stop = start + np.array(layout.shape)
    for position, axis in enumerate(axes):
        if axis in record.axes:
            start[:, position] = objects.start[:, record.axes.index(axis)]
            stop[:, position] = objects.stop[:, record.axes.index(axis)]
    return replace(objects, start=start, stop=stop)
