"""GridSampler: all windows of a sliding grid over each case, in the order in which a `Stitcher` takes their patches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index as as_int
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.errors import SamplingError, UnknownNameError
from ndvol.geometry import Grid, Reorientation, SlidingWindows, Window
from ndvol.geometry.blending import BlendMode
from ndvol.reading import Room
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Reading, Target
from ndvol.sampling.aligned import restrict
from ndvol.sampling.options import axis_values, halo_lengths
from ndvol.stitching import Out, Stitcher
from ndvol.volumes import Case, Volume


@dataclass(frozen=True, slots=True, eq=False)
class GridSample:
    """What was read around a window of a grid; the arrays belong to the caller.

    Attributes
    ----------
    images : patches by name, of the window's shape with the halo on both sides of each axis; else as in `Sample`.
    grid : of the patch, halo included.
    valid : the part of the patch that lies in the volume; the rest is padding.
    case : name.
    window : the box that the patch stands for, without the halo; what `Stitcher.add` wants.
    index : number of the sample.
    """

    images: Mapping[str, NDArray[Any]]
    grid: Grid
    valid: Window
    case: str
    window: Window
    index: int


class GridSampler:
    """All windows that together cover each case: case by case, row-major in each.

    Parameters
    ----------
    source : a catalogue, whose cases need the same axes, or one case, or one volume.
    window : lengths per axis in storage order, or for the spatial axes only: then t and c are taken whole.
    overlap : share of a window's length that neighbours have in common, in [0, 1): one for all axes, or one per axis
        or spatial axis. The stride is ``max(1, round(length * (1 - overlap)))``; the last window is shifted back to
        end at the border, and a window longer than the volume starts at 0.
    halo : voxels of real context that are read around the window on each side: one number for the spatial axes, or
        one per axis or spatial axis. At the border of the volume it is padding.
    images : names of the images to read, by default those of the first case; the first one's grid counts.
    fill_value : of voxels outside the volume.

    Raises
    ------
    WindowError : for lengths, overlaps or halos that make no sense.
    UnknownNameError, SamplingError, OptionError : as for `VolumeSampler`.

    Attributes
    ----------
    catalog, axes, images, window, overlap, halo : as resolved, per axis. cases : their names.

    Picklable like `VolumeSampler`; `ndvol.torch.GridDataset` shows how to use it with worker processes.

    >>> from ndvol.volumes import ArraySource
    >>> volume = Volume("CT", Grid.regular("yx", (5, 6)), ArraySource(np.arange(30).reshape(5, 6)))
    >>> sampler = GridSampler(volume, (4, 4), overlap=0.5, halo=1)
    >>> len(sampler), sampler[3].window, sampler[3].images["CT"].shape
    (4, Window(start=(1, 2), shape=(4, 4)), (6, 6))
    >>> result = np.zeros((5, 6), np.float32)
    >>> with sampler.stitcher("CT", result) as stitcher:
    ...     for sample in sampler:
    ...         stitcher.add(sample.window, sample.images["CT"])
    >>> bool((result == np.asarray(volume)).all())
    True
    """

    def __init__(
        self,
        source: Catalog | Case | Volume,
        window: Sequence[int],
        *,
        overlap: float | Sequence[float] = 0.0,
        halo: int | Sequence[int] = 0,
        images: Sequence[str] | None = None,
        fill_value: float = 0,
    ) -> None:
        self.catalog = source if isinstance(source, Catalog) else _catalog_of(source)
        self._reader = VolumeSampler(self.catalog, window, reading=Reading(fill_value, images=images, labels=()))
        self.axes, self.images, self.window = self._reader.axes, self._reader.images, self._reader.window
        given = tuple(overlap) if isinstance(overlap, Iterable) else (overlap,) * len(self.axes)
        self.overlap = axis_values("an overlap", given, self.axes, other=0.0)
        self.halo = halo_lengths(halo, self.axes)
        shapes = self._reader.shapes
        by_shape = {shape: SlidingWindows(shape, self.window, self.overlap) for shape in set(shapes.values())}
        self._windows = {case: by_shape[shape] for case, shape in shapes.items()}
        self.cases = tuple(shapes)
        self._ends = np.cumsum([len(windows) for windows in self._windows.values()])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> GridSample:
        """Sample `index`; negative ones count from the end.

        Raises
        ------
        IndexError : past the end.
        SamplingError : when the images of the case lie on different grids.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[GridSample]:
        """Several samples as one job: a chunk that neighbours share is decoded once."""
        return self.load_samples(indices)

    def load_samples(self, indices: Sequence[int], *, room: Room | None = None) -> list[GridSample]:
        """``__getitems__``, where `room` may give the arrays to read into, see `ndvol.reading.Room`."""
        found = [self._locate(index) for index in indices]
        targets = [Target(case, window.padded(self.halo)) for _, case, window in found]
        samples = self._reader.load_samples(targets, room=room, annotated=False)
        for sample in samples:
            sample.check_one_grid()
        return [
            GridSample(sample.images, sample.grid, sample.valid, case, window, number)
            for sample, (number, case, window) in zip(samples, found, strict=True)
        ]

    def window_at(self, index: int) -> Window:
        """The window of ``sampler[index]``, without reading it."""
        return self._locate(index)[2]

    def windows(self, case: str) -> SlidingWindows:
        """The grid over a case."""
        if case not in self._windows:
            raise UnknownNameError(f"there is no case {case!r}", expected=f"one of {', '.join(self.cases[:10])}")
        return self._windows[case]

    def indices(self, case: str) -> range:
        """The indices of a case's samples, in the order of the grid."""
        count, at = len(self.windows(case)), self.cases.index(case)
        return range(int(self._ends[at]) - count, int(self._ends[at]))

    def stitcher(
        self, case: str, out: Out, *, mode: BlendMode = "gaussian", categories: Mapping[int, str] | None = None
    ) -> Stitcher:
        """A `Stitcher` for the patches of a case, which are to come in the order of ``indices(case)``.

        Its result lies on the grid of the first of `images`; the parameters are those of `Stitcher`.
        """
        windows = self.windows(case)
        first = self.catalog[case].images[self.images[0]]
        turn = first.attributes.get("reorientation")
        return Stitcher(
            restrict(first.grid, self.axes),
            windows,
            out,
            mode=mode,
            halo=self.halo,
            categories=categories,
            reorientation=Reorientation(tuple(turn["order"]), tuple(turn["flips"])) if turn else None,
        )

    def _locate(self, index: int) -> tuple[int, str, Window]:
        number = as_int(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        number %= len(self)
        at = int(np.searchsorted(self._ends, number, side="right"))
        case = self.cases[at]
        # The last window of the case has index -1.
        return number, case, self._windows[case][number - int(self._ends[at])]


@dataclass(frozen=True, slots=True)
class _Given:
    """Opens the one case of a catalogue that was made for it."""

    case: Case

    def __call__(self, record: CaseRecord) -> Case:
        return self.case


def _catalog_of(source: Case | Volume) -> Catalog:
    """A catalogue of one case, or of one volume as a case."""
    case = source if isinstance(source, Case) else Case(source.name, {source.name: source}, {})
    if not case.images:
        raise SamplingError(f"case {case.name!r} has no image")
    grid = next(iter(case.images.values())).grid
    none = np.empty(0, np.int64)
    boxes = none.reshape(0, grid.ndim)
    objects = Objects(none, none, none, boxes, boxes, none)
    record = CaseRecord(case.name, "", grid.axes, grid.shape, grid.spacing, grid.unit, tuple(case.images), (), objects)
    return Catalog([record], CategoryTree((), (), ()), _Given(case))
