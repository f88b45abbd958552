"""VolumeSampler: the windows that a training loop wants of a catalogue, a function of seed, epoch and index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, prod
from operator import index as as_int
from typing import Any

import numpy as np

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.errors import OptionError, SamplingError, UnknownNameError
from ndvol.geometry import Window
from ndvol.sampling import BoundStrategy, Cohort, Negative, Positive, Rows, Strategy, Target, Uniform, VoxelIndex
from ndvol.sampling.aligned import AlignedCase, align, fits, missing_image
from ndvol.sampling.options import chosen_names, whole_number, window_lengths
from ndvol.sampling.sample import ObjectInWindow, Sample, boxes_in_window
from ndvol.sampling.strategies import parts_of
from ndvol.volumes import valid_window

__all__ = ["ObjectInWindow", "Sample", "VolumeSampler"]

OPEN_CASES = 32
"""Cases that a sampler keeps open per process; each holds its label index, and its file through the store."""

PICTURE = "image"
"""Name of the image of a picture, whose record names none."""

ROW_COLUMNS = ("category", "label", "value", "voxels")


class VolumeSampler:
    """Samples of a catalogue: ``sampler[i]`` is a pure function of `seed`, the epoch and i.

    Parameters
    ----------
    catalog : the cases; all need the same axes.
    window : lengths per axis in storage order, or for the spatial axes only: then t and c are taken whole.
    strategy : how to draw, `Uniform` by default; judges windows by all label volumes of a case, whatever `labels` says.
    seed : not negative. Any worker, rank, order or resumed run that agrees on it gets the same samples.
    images : names of the images to read, by default those of the first case; the first one's grid counts.
    labels : names of the label volumes to read, by default all that any case has.
    length : number of samples per epoch; by default all windows of a strategy that ends, else as many as it
        takes to tile every case once.
    fill_value : of image voxels outside the volume; labels are filled with 0.

    Raises
    ------
    WindowError : for lengths that are not positive integers, one per axis.
    UnknownNameError : when a case lacks an image, or no case has a label volume that `labels` names.
    SamplingError : when the cases differ in axes, or the strategy cannot be satisfied.
    OptionError : for a seed, length or choice of volumes that makes no sense.

    Attributes
    ----------
    axes : of the windows. images, labels, window, strategy, seed, epoch : as resolved.
    shapes : of the first image over these axes, by case.

    >>> from ndvol.catalog import CaseRecord, Catalog, Objects
    >>> from ndvol.categories import CategoryTree
    >>> from ndvol.geometry import Grid
    >>> from ndvol.volumes import ArraySource, Case, Volume
    >>> image = Volume("CT", Grid.regular("yx", (4, 6)), ArraySource(np.arange(24).reshape(4, 6)))
    >>> none = np.empty(0, np.int64)
    >>> objects = Objects(none, none, none, none.reshape(0, 2), none.reshape(0, 2), none)
    >>> record = CaseRecord("a", "", "yx", (4, 6), (1.0, 1.0), "unknown", ("CT",), (), objects)
    >>> catalog = Catalog([record], CategoryTree((), (), ()), lambda record: Case("a", {"CT": image}, {}))
    >>> sampler = VolumeSampler(catalog, (2, 3))
    >>> len(sampler), sampler[0].images["CT"].shape, sampler[0].target == sampler.target(-4)
    (4, (2, 3), True)
    """

    def __init__(
        self,
        catalog: Catalog,
        window: Sequence[int],
        *,
        strategy: Strategy | None = None,
        seed: int = 0,
        images: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        length: int | None = None,
        fill_value: float = 0,
    ) -> None:
        records = list(catalog.records.values())
        if not records:
            raise SamplingError(f"there is no case in {catalog.path or 'the catalogue'}", hint="import some")
        self.catalog, self.fill_value = catalog, fill_value
        self.strategy: Strategy = Uniform() if strategy is None else strategy
        self.images = _image_names(records, images)
        self.labels = _label_names(records, labels)
        self.seed, self.epoch = whole_number("seed", seed), 0
        self.axes, shapes = _axes_and_shapes(catalog, records, self.images[0])
        self.shapes = shapes
        self.window = window_lengths(window, self.axes, shapes)
        self._cases = _OpenCases(catalog, self.axes, self.images, self.labels)
        self._cohort = Cohort(
            tree=catalog.categories,
            names=tuple(shapes),
            shapes=np.array(list(shapes.values()), np.int64),
            # Where a label was refused, what it would have shown is not known.
            examined=np.array([bool(r.labels) and not r.attributes.get("refused_labels") for r in records]),
            rows=_rows([record.objects for record in records]),
            index=self._cases.index,
        )
        self._bound = self.strategy.bind(self._cohort, self.window)
        self._roles: dict[type, BoundStrategy] = {}
        tiles = sum(prod(ceil(n / w) for n, w in zip(shape, self.window, strict=True)) for shape in shapes.values())
        end = self._bound.length
        self._length = whole_number("length", (end or tiles) if length is None else length, least=1)
        if end is not None and self._length > end:
            raise OptionError("the strategy has fewer windows than the length asks for", got=length, expected=end)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Sample `index` of this epoch; negative ones count from the end.

        Raises
        ------
        IndexError : past the end.
        """
        return self.load_sample(self.target(index))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, so that the next pass draws other windows."""
        self.epoch = whole_number("epoch", epoch)

    def target(self, index: int) -> Target:
        """What ``sampler[index]`` reads, without reading it."""
        number = as_int(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        number %= len(self)
        return self._bound.target(number, self._rng(number))

    def load_positive(self, index: int) -> Sample:
        """A positive sample, for any index from 0 on: of the strategy's own `Positive`, or of a default one."""
        return self._load_role(Positive, index)

    def load_negative(self, index: int) -> Sample:
        """A negative sample, for any index from 0 on: of the strategy's own `Negative`, or of a default one."""
        return self._load_role(Negative, index)

    def load_sample(self, target: Target) -> Sample:
        """Read a target: one of this sampler's, or any other window of any case, of any shape.

        Raises
        ------
        SamplingError : when the volumes of the case lie on different grids.
        WindowError : when the window has another number of axes than the sampler, or the fill value does not
            fit an image's type.
        UnknownNameError : when there is no such case.
        """
        if target.level:
            raise SamplingError("windows of a sampler are in the indices of level 0", got=f"level {target.level}")
        case, objects = self._cases.open(target.case)
        window, grid = target.window, case.grid.crop(target.window)
        return Sample(
            {n: p.volume.read(p.window(window), fill_value=self.fill_value) for n, p in case.images.items()},
            {n: p.volume.read(p.window(window)) for n, p in case.labels.items()},
            grid,
            valid_window(window, case.grid.shape),
            self._annotations(target, objects),
            target,
        )

    def _annotations(self, target: Target, objects: Objects) -> tuple[ObjectInWindow, ...]:
        names, labels = self.catalog.categories.names, self.catalog.record(target.case).labels
        back = [-a for a in target.window.start]
        return tuple(
            ObjectInWindow(
                category=names[objects.category[k]],
                box=Window.between(objects.start[k], objects.stop[k]).shifted(back),
                label=labels[objects.label[k]] if objects.label[k] >= 0 else "",
                value=int(objects.value[k]),
                voxels=int(objects.voxels[k]),
            )
            for k in boxes_in_window(objects.start, objects.stop, target.window)
        )

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, index))

    def _load_role(self, kind: type[Positive] | type[Negative], index: int) -> Sample:
        number = as_int(index)
        if number < 0:
            raise IndexError(f"sample {number}: positives and negatives have no end to count from")
        if kind not in self._roles:
            self._roles[kind] = parts_of(self.strategy, kind).bind(self._cohort, self.window)
        return self.load_sample(self._roles[kind].target(number, self._rng(number)))


class _OpenCases:
    """The last `OPEN_CASES` cases that were read, opened and aligned; a pickle carries none of them."""

    def __init__(self, catalog: Catalog, axes: str, images: tuple[str, ...], labels: tuple[str, ...]) -> None:
        self._catalog, self._axes, self._images, self._labels = catalog, axes, images, labels
        self._names = tuple(catalog)
        self.open = lru_cache(OPEN_CASES)(self._open)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.open = lru_cache(OPEN_CASES)(self._open)

    def index(self, case: int, label: int) -> VoxelIndex:
        """Where the values of label volume number `label` of case number `case` are."""
        record = self._catalog.record(self._names[case])
        if label < 0:
            raise SamplingError(
                f"case {record.name!r} has boxes without a label volume, so its voxels cannot be judged",
                hint="draw with Uniform() or Sliding()",
            )
        return self.open(record.name)[0].index(record.labels[label])

    def _open(self, name: str) -> tuple[AlignedCase, Objects]:
        """A case, and its objects in the sampler's axes; objects of volumes on other grids are left out."""
        record = self._catalog.record(name)
        case = align(self._catalog[name], self._axes, self._images, self._labels)
        first = case.case.images[record.images[0] if record.images else self._images[0]]
        # The last entry is that of label -1: boxes without a label volume lie on the case's first image.
        volumes = [*(case.case.labels[label] for label in record.labels), first]
        objects = record.objects
        kept = np.array([fits(volume.grid, case.grid) for volume in volumes])[objects.label]
        start = np.zeros((int(kept.sum()), len(self._axes)), np.int64)
        stop = start + case.grid.shape
        for position, axis in enumerate(self._axes):
            if axis in record.axes:
                start[:, position] = objects.start[kept, record.axes.index(axis)]
                stop[:, position] = objects.stop[kept, record.axes.index(axis)]
        return case, Objects(
            objects.category[kept], objects.label[kept], objects.value[kept], start, stop, objects.voxels[kept]
        )


def _image_names(records: Sequence[CaseRecord], images: Sequence[str] | None) -> tuple[str, ...]:
    """The images to read, of which every case has all."""
    names = chosen_names("images", images) if images is not None else _images_of(records[0])
    if not names:
        raise OptionError("a sampler needs at least one image", got="images=()")
    for record in records:
        missing = [name for name in names if name not in _images_of(record)]
        if missing:
            raise missing_image(record.name, missing, _images_of(record))
    return names


def _images_of(record: CaseRecord) -> tuple[str, ...]:
    return record.images or (PICTURE,)


def _label_names(records: Sequence[CaseRecord], labels: Sequence[str] | None) -> tuple[str, ...]:
    """The label volumes to read: those given, or all that any case has."""
    found = tuple(dict.fromkeys(label for record in records for label in record.labels))
    if labels is None:
        return found
    names = chosen_names("labels", labels)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise UnknownNameError(
            f"no case has a label volume {', '.join(map(repr, unknown))}",
            expected=f"some of {', '.join(found) or '(none)'}",
        )
    return names


def _axes_and_shapes(
    catalog: Catalog, records: Sequence[CaseRecord], image: str
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The axes that all cases share, and by case the shape of `image`; opens cases whose record cannot tell."""
    axes, shapes = {}, {}
    for record in records:
        if image == _images_of(record)[0]:
            axes[record.name], shapes[record.name] = record.axes, record.shape
        else:
            grid = catalog[record.name].images[image].grid
            axes[record.name], shapes[record.name] = grid.axes, grid.shape
    examples = {found: name for name, found in axes.items()}
    if len(examples) > 1:
        raise SamplingError(
            "the cases differ in axes, so no window fits all",
            got=", ".join(f"{found!r} in {name!r}" for found, name in examples.items()),
            hint="sample cases with the same axes together, from a catalogue of their own",
            code="mixed-axes",
        )
    return next(iter(examples)), shapes


def _rows(objects: Sequence[Objects]) -> Rows:
    """The objects of all cases as a cohort's rows."""
    case = np.repeat(np.arange(len(objects)), [len(part) for part in objects])
    columns = {name: np.concatenate([getattr(part, name) for part in objects]) for name in ROW_COLUMNS}
    return Rows.gather(case=case, **columns)
