"""VolumeSampler: the windows that a training loop wants of a catalogue, a function of seed, epoch and index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, prod
from operator import index as as_int
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import Catalog
from ndvol.errors import OptionError, WindowError
from ndvol.geometry import Window
from ndvol.geometry.pyramid import coarse_box, coarse_window, fine_box
from ndvol.opened import OpenCase, OpenCases, Reads, Seen
from ndvol.reading import Room, read_patches
from ndvol.sampling import (
    BoundStrategy,
    Negative,
    ObjectInWindow,
    Positive,
    Reading,
    Sample,
    Strategy,
    Target,
    Uniform,
    window_about,
)
from ndvol.sampling.objects import WindowDims
from ndvol.sampling.options import axis_values, whole_number, window_lengths
from ndvol.sampling.order import Order, even_share, shuffled
from ndvol.sampling.report import DrawReport
from ndvol.sampling.sample import boxes_in_window
from ndvol.sampling.strategies import parts_of
from ndvol.selection import Selection
from ndvol.volumes import valid_window

__all__ = ["ObjectInWindow", "Reading", "Sample", "VolumeSampler"]

REPORT_DRAWS = 10_000
"""Draws of a report: enough to tell shares apart that differ by 0.02."""


class VolumeSampler:
    """Samples of a catalogue: ``sampler[i]`` is a pure function of `seed`, the epoch and i.

    Parameters
    ----------
    catalog : the cases; all need the same axes.
    window : lengths per axis in storage order, or for the spatial axes only: then t and c are taken whole.
    strategy : how to draw, `Uniform` by default; judges windows by all label volumes of a case, whichever are read.
    seed : not negative. Any worker, rank, order or resumed run that agrees on it gets the same samples.
    length : number of samples per epoch; by default all windows of a strategy that ends, else as many as it
        takes to tile every case once.
    order : ``random``: every draw for itself. ``even``: an epoch's draws are spread evenly over all that the strategy
        can draw, in random order. Each part of a mix, category, case and voxel, object or position gets its share of
        the epoch, rounded up or down, so nothing is drawn twice before everything was drawn once; a strategy that
        ends is run through in random order. Where an evenly drawn window is not admissible, chance finds another.
    reading : how windows become samples: which volumes are read, what lies outside them, context, which objects
        count as visible.

    Raises
    ------
    WindowError : for lengths that are not positive integers, one per axis.
    UnknownNameError : when a case lacks an image, or no case has a label volume that `labels` names.
    SamplingError : when the cases differ in axes, or the strategy cannot be satisfied.
    OptionError : for a seed, length or choice of volumes that makes no sense.

    Attributes
    ----------
    axes : of the windows. images, labels, window, strategy, seed, epoch, order, reading : as resolved.
    shapes : of the first image over these axes, by case.
    pad : voxels of context per side and axis; targets have ``window + 2 * pad`` voxels.

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
        length: int | None = None,
        order: Order = "random",
        reading: Reading | None = None,
    ) -> None:
        self.catalog, self.reading = catalog, Reading() if reading is None else reading
        self.strategy: Strategy = Uniform() if strategy is None else strategy
        self.seed, self.epoch = whole_number("seed", seed), 0
        chosen = Selection.of(catalog, self.reading.images, self.reading.labels)
        self.images, self.labels, self.axes, self.shapes = chosen.images, chosen.labels, chosen.axes, chosen.shapes
        self.window = window_lengths(window, self.axes, self.shapes)
        pad = self.reading.pad
        self.pad = axis_values("pad", (pad,) * len(window) if isinstance(pad, int) else pad, self.axes, other=0)
        self._cases = OpenCases(catalog, Reads(self.axes, self.images, self.labels, chosen.examined), chosen.rows)
        self._cohort = chosen.cohort(catalog.categories, self._cases)
        self._numbers = {name: number for number, name in enumerate(self.shapes)}
        self._bound = self.strategy.bind(self._cohort, self.window)
        self._roles: dict[type, BoundStrategy] = {}
        if order not in get_args(Order):
            raise OptionError("there is no such order", got=repr(order), expected=f"one of {get_args(Order)}")
        self.order = order
        end = self._bound.length
        self._length = whole_number("length", (end or self._tiles()) if length is None else length, least=1)
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

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Several samples as one job; see `load_samples`."""
        return self.load_samples([self.target(index) for index in indices])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, so that the next pass draws other windows."""
        self.epoch = whole_number("epoch", epoch)

    def target(self, index: int) -> Target:
        """What ``sampler[index]`` reads, without reading it."""
        number = as_int(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        number %= len(self)
        return self._padded(self._drawn(self.epoch, number))

    def report(self, draws: int | None = None) -> DrawReport:
        """Which roles, categories and cases are really drawn; no image is read for it.

        Parameters
        ----------
        draws : how many samples to count, from the first of this epoch on, into further epochs if need be; by
            default an epoch, but no more than `REPORT_DRAWS`.
        """
        count = whole_number("draws", min(len(self), REPORT_DRAWS) if draws is None else draws, least=1)
        epochs = (divmod(k, len(self)) for k in range(count))
        return DrawReport.of((self._drawn(self.epoch + epoch, k) for epoch, k in epochs), self._numbers)

    def object_target(self, case: str, number: int, dims: WindowDims | Sequence[int] | None = None) -> Target:
        """The target about an object: its box's centre, `dims` voxels, then the sampler's `pad`.

        Parameters
        ----------
        number : position among the objects of the case's record.
        dims : lengths per axis, ``extent`` (the object's box), ``square`` (its longest side on all axes), or None for
            the sampler's window.

        Raises
        ------
        UnknownNameError : when there is no such case. IndexError : when it has no such object.
        SamplingError : when the object is on another grid than the sampler's first image.
        """
        opened = self._open(case)
        row = opened.row(number)
        window = window_about(opened.box(row), self.window if dims is None else dims)
        category = self.catalog.categories.names[self._cohort.objects.category[row]]
        return self._padded(Target(case, window, "positive", category, leaf=category, object=number))

    def coarser(self, target: Target, level: int) -> Target:
        """A target of level 0 at a coarser pyramid level: as many voxels about the same centre, so it sees more.

        See `ndvol.geometry.pyramid.coarse_window`. All of the window of level 0 is inside: a positive keeps its
        category and point, though most voxels of the point's block may be of another. A negative gets the role
        ``any``, for nothing has judged what more it sees.

        Raises
        ------
        WindowError : when the case has no such level, or the target is not of level 0.
        """
        if target.level:
            raise WindowError("only a target of level 0 has coarser ones", got=f"level {target.level}")
        factor = self._open(target.case).factor(level)
        point = target.point and tuple(p // f for p, f in zip(target.point, factor, strict=True))
        role = "any" if level and target.role == "negative" else target.role
        return replace(target, window=coarse_window(target.window, factor), point=point, role=role, level=level)

    def load_positive(self, index: int) -> Sample:
        """A positive sample, for any index from 0 on: of the strategy's own `Positive`, or of a default one."""
        return self._load_role(Positive, index)

    def load_negative(self, index: int) -> Sample:
        """A negative sample, for any index from 0 on: of the strategy's own `Negative`, or of a default one."""
        return self._load_role(Negative, index)

    def load_sample(self, target: Target) -> Sample:
        """Read a target: one of this sampler's, or any other window of any case, of any shape and pyramid level.

        On a level all volumes are read at that level, and boxes of annotations are the smallest that hold the object
        there; how much of it the window sees is counted at level 0.

        Raises
        ------
        SamplingError : when volumes of the case lie on grids whose place in one world is not known.
        WindowError : when the window has another number of axes than the sampler, a volume lacks the level, or the
            fill value does not fit an image's type.
        UnknownNameError : when there is no such case.
        """
        return self.load_samples([target])[0]

    def load_samples(
        self, targets: Sequence[Target], *, room: Room | None = None, annotated: bool = True
    ) -> list[Sample]:
        """Read several targets, in their order: a chunk that windows of one case share is decoded once.

        Parameters
        ----------
        room : arrays to read into, see `ndvol.reading.Room`; every patch gets its own when None.
        annotated : False leaves the samples' `annotations` empty: to say how much of each object a window sees takes
            about a quarter of a sample's time.
        """
        cases = [self._open(target.case) for target in targets]
        patches = read_patches(targets, cases, self.reading, room)
        return [
            self._sample(opened, target, own, annotated)
            for opened, target, own in zip(cases, targets, patches, strict=True)
        ]

    def _sample(self, opened: OpenCase, target: Target, patches: dict[str, NDArray[Any]], annotated: bool) -> Sample:
        window, level = target.window, target.level
        aligned = opened.at(level)
        images = {name: patches[f"images/{name}"] for name in aligned.images}
        labels = {name: patches[f"labels/{name}"] for name in aligned.labels}
        grid = aligned.grid
        annotations: tuple[ObjectInWindow, ...] = ()
        if annotated:
            seen = {} if level else opened.seen(window, labels)
            annotations = self._annotations(opened, window, opened.factor(level), seen)
        valid = valid_window(window, grid.shape)
        return Sample(images, labels, grid.crop(window), valid, annotations, target, opened.places(window, level))

    def _tiles(self) -> int:
        """How many windows tile every case once."""
        return sum(prod(ceil(n / w) for n, w in zip(shape, self.window, strict=True)) for shape in self.shapes.values())

    def _open(self, case: str) -> OpenCase:
        if case not in self._numbers:
            self.catalog.record(case)  # raises, and names the nearest one
        return self._cases.open(self._numbers[case])

    def _annotations(
        self, opened: OpenCase, window: Window, factor: tuple[int, ...], seen: Seen
    ) -> tuple[ObjectInWindow, ...]:
        """The objects in a window of voxels that stand for `factor` voxels of level 0."""
        rows, names, touching = self._cohort.objects, self.catalog.categories.names, self.reading.touching
        own, fine = opened.visible, fine_box(window, factor)
        found = own[boxes_in_window(rows.start[own], rows.stop[own], fine, touching=touching)]
        annotations = []
        for row in found.tolist() if window.size else ():
            share = opened.share_inside(row, fine, seen)
            if share < self.reading.visible_thresh or not (share or touching):
                continue
            label = int(rows.label[row])
            annotations.append(
                ObjectInWindow(
                    category=names[rows.category[row]],
                    box=coarse_box(opened.box(row), factor).shifted([-a for a in window.start]),
                    label=opened.labels[label] if label >= 0 else "",
                    value=int(rows.value[row]) if label >= 0 else 0,
                    voxels=int(rows.voxels[row]),
                    visible=share,
                    object=int(rows.number[row]),
                )
            )
        return tuple(annotations)

    def _padded(self, target: Target) -> Target:
        """The target with the context of the sampler."""
        if not any(self.pad):
            return target
        return replace(target, window=target.window.padded(self.pad))

    def _drawn(self, epoch: int, number: int) -> Target:
        rng = np.random.default_rng((self.seed, epoch, number))
        if self.order == "random":
            return self._bound.target(number, rng)
        if self._bound.length is not None:
            return self._bound.target(shuffled(self.seed, epoch, number, self._bound.length), rng)
        return self._bound.target(number, rng, even_share(self.seed, epoch, number, len(self)))

    def _load_role(self, kind: type[Positive] | type[Negative], index: int) -> Sample:
        number = as_int(index)
        if number < 0:
            raise IndexError(f"sample {number}: positives and negatives have no end to count from")
        if kind not in self._roles:
            self._roles[kind] = parts_of(self.strategy, kind).bind(self._cohort, self.window)
        rng = np.random.default_rng((self.seed, self.epoch, number))
        return self.load_sample(self._padded(self._roles[kind].target(number, rng)))
