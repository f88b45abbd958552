"""Windows about objects: fitted to the object's box, or of the sampler's lengths and covering enough of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from ndvol.errors import SamplingError, WindowError
from ndvol.geometry import Window, start_range
from ndvol.sampling.admissible import box_sums
from ndvol.sampling.cohort import Cohort
from ndvol.sampling.options import least_voxels
from ndvol.sampling.places import number_below
from ndvol.sampling.target import Target

TRIES = 64
"""Draws before all windows of an object, and then all objects, are examined."""

WindowDims = Literal["extent", "square"]
"""A window as long as an object's box, or on all axes as long as the box's longest side."""


def window_about(box: Window, dims: WindowDims | Sequence[int], pad: int | Sequence[int] = 0) -> Window:
    """The window of `dims` about the centre of `box`: start = floor(c - d / 2); then `pad` voxels on both sides.

    Parameters
    ----------
    dims : lengths per axis, ``extent`` (those of the box) or ``square`` (its longest side on all axes).
    pad : context per side, one for all axes or one each.

    >>> window_about(Window((2, 5), (4, 1)), "square", 1)
    Window(start=(1, 2), shape=(6, 6))
    """
    if isinstance(dims, str):
        if dims not in ("extent", "square"):
            raise WindowError("no such window_dims", got=repr(dims), expected="lengths, 'extent' or 'square'")
        dims = box.shape if dims == "extent" else (max(box.shape, default=0),) * box.ndim
    if len(dims) != box.ndim:
        raise WindowError("window_dims needs one length per axis", got=tuple(dims), expected=box.ndim)
    centre = [a + n / 2 for a, n in zip(box.start, box.shape, strict=True)]
    return Window.centred(centre, dims).padded((pad,) * box.ndim if isinstance(pad, int) else pad)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The windows from which one is drawn for an object: every start from `low` up to and with `high`."""

    box: Window
    low: tuple[int, ...]
    high: tuple[int, ...]

    def region(self, window: Sequence[int]) -> Window:
        """All voxels that any of the windows holds."""
        return Window.between(self.low, [h + w for h, w in zip(self.high, window, strict=True)])


class ObjectDraw:
    """An object, and a window that covers enough of it.

    Parameters
    ----------
    names : the categories to draw for.
    jitter, covered, dims : see `Positive`.
    """

    def __init__(
        self,
        cohort: Cohort,
        window: tuple[int, ...],
        names: Sequence[str],
        *,
        jitter: float,
        covered: float,
        dims: WindowDims | None,
    ) -> None:
        self._cohort, self._window, self._names = cohort, window, names
        self._jitter, self._covered, self._dims = jitter, covered, dims
        self._ranges = [cohort.objects_of(name) for name in names]
        self._able: dict[int, list[int]] = {}

    def draw(self, node: int, rng: np.random.Generator, share: float | None) -> Target:
        rows = self._ranges[node]
        for _ in range(TRIES):
            row, share = rows.start + number_below(rows.stop - rows.start, rng, share), None
            if (window := self._window_of(row, rng)) is not None:
                return self._target(node, row, window)
        if node not in self._able:
            self._able[node] = [row for row in range(rows.start, rows.stop) if self._starts(row) is not None]
        able = self._able[node]
        if not able:
            raise SamplingError(
                f"no window of {self._window} voxels covers an object of {self._names[node]!r} to {self._covered:g}: "
                f"all {rows.stop - rows.start} objects were examined",
                hint="use a larger window or jitter, or a smaller share",
                objects=rows.stop - rows.start,
            )
        row = able[int(rng.integers(len(able)))]
        window = self._window_of(row, rng)
        assert window is not None  # it has one
        return self._target(node, row, window)

    def _target(self, node: int, row: int, window: Window) -> Target:
        objects = self._cohort.objects
        return Target(
            self._cohort.names[objects.case[row]],
            window,
            "positive",
            self._names[node],
            leaf=self._cohort.tree.names[objects.category[row]],
            object=int(objects.number[row]),
        )

    def _window_of(self, row: int, rng: np.random.Generator) -> Window | None:
        """A window for an object, uniform over all that cover enough of it; None when there is none."""
        objects = self._cohort.objects
        if self._dims is not None:
            # The window itself needs no label; but boxes on another grid must not pass for this one's.
            self._cohort.cases.index(int(objects.case[row]), int(objects.label[row]))
            return window_about(self._box(row), self._dims)
        choice = self._choice(row)
        lengths = [h - a + 1 for a, h in zip(choice.low, choice.high, strict=True)]
        for _ in range(TRIES if prod(lengths) > 1 else 0):
            at = np.unravel_index(int(rng.integers(prod(lengths))), lengths)
            window = Window(tuple(a + int(i) for a, i in zip(choice.low, at, strict=True)), self._window)
            if self._covers(row, window):
                return window
        starts = self._starts(row)
        if starts is None:
            return None
        start = starts[int(rng.integers(len(starts)))]
        return Window(start.tolist(), self._window)

    def _covers(self, row: int, window: Window) -> bool:
        box = self._box(row)
        shared = window.intersection(box)
        need = self._need(row)
        if shared == box or shared.size < need:
            return shared == box
        objects = self._cohort.objects
        mask = self._cohort.cases.object_mask(int(objects.case[row]), int(objects.number[row]), shared)
        return int(np.count_nonzero(mask)) >= need

    def _starts(self, row: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None:
        """(n, axes) starts of all windows that cover enough of the object; None when there is none."""
        objects, choice = self._cohort.objects, self._choice(row)
        if prod(min(n, w) for n, w in zip(choice.box.shape, self._window, strict=True)) < self._need(row):
            return None
        region = choice.region(self._window)
        mask = self._cohort.cases.object_mask(int(objects.case[row]), int(objects.number[row]), region)
        at = np.argwhere(box_sums(mask, self._window) >= self._need(row))
        return at + np.asarray(choice.low) if len(at) else None

    def _need(self, row: int) -> int:
        objects = self._cohort.objects
        voxels = self._cohort.cases.object_voxels(int(objects.case[row]), int(objects.number[row]))
        return max(1, least_voxels(self._covered, voxels))

    def _box(self, row: int) -> Window:
        objects = self._cohort.objects
        return Window.between(objects.start[row], objects.stop[row])

    def _choice(self, row: int) -> _Choice:
        """The centred window moved by up to the jitter per axis, as far as it then lies inside the volume."""
        box = self._box(row)
        first, end = start_range(self._cohort.shapes[self._cohort.objects.case[row]].tolist(), self._window)
        centred = window_about(box, self._window).start
        low, high = [], []
        for at, w, least, stop in zip(centred, self._window, first, end, strict=True):
            reach = int(self._jitter * w / 2)
            low.append(min(max(at - reach, least), stop - 1))
            high.append(min(max(at + reach, least), stop - 1))
        return _Choice(box, tuple(low), tuple(high))
