"""Negatives: windows of a kwcoco data set that hold (almost) nothing of what is annotated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import floor, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.categories import CategoryTree, with_implied_parents
from ndvol.coco.annotations import Annotations
from ndvol.coco.frame import Frame
from ndvol.coco.frames import Frames
from ndvol.errors import OptionError, SamplingError
from ndvol.geometry import Window
from ndvol.sampling import examined_categories
from ndvol.sampling.admissible import Admissible, Starts, count_planes
from ndvol.sampling.options import check_share
from ndvol.sampling.places import Places

TRIES = 64
"""Windows that are drawn and judged before all positions are examined: nearly always one of them is negative."""
ANCHORS = 32
"""Sizes of windows to draw from when the user gives none; each needs a table of all images."""


class Negatives:
    """Draws windows of one size, uniform over all positions in all images that hold few enough annotated voxels.

    A voxel is annotated when it lies in the mask of an object, or in the box of one without a mask. Objects of the
    category ``background`` do not count. Cases in which somebody did not look for every category that the data set
    annotates are passed over, and those with objects on another grid than their first image's, which windows lie in.

    Parameters
    ----------
    window : lengths, one per axis; images with another number of axes are passed over.
    max_overlap : the share of the window that may be annotated.
    """

    def __init__(
        self, dset: Any, frames: Frames, annotations: Annotations, window: Sequence[int], max_overlap: float
    ) -> None:
        check_share("max_overlap", max_overlap)
        self._dset, self._annotations = dset, annotations
        self._background = {c["id"] for c in dset.cats.values() if c["name"].lower() == "background"}
        self._outlines = {gid: frames.outline(gid) for gid in _examined(dset)}
        self._images = [o for o in self._outlines.values() if len(o.axes) == len(window) and self._holds_all(o)]
        if not self._images or min(window, default=0) < 1:
            raise OptionError(
                "no annotated image has windows of this size",
                got=tuple(window),
                expected="a length of at least 1 per axis",
            )
        self._window, self._limit = tuple(window), floor(max_overlap * prod(window))
        self._places = Places.inside([o.shape for o in self._images], self._window)
        self._exact: list[Admissible] | None = None
        self._fewest = prod(window)

    def draw(self, rng: np.random.Generator) -> tuple[int, Window]:
        """An image id and a window in it.

        Raises
        ------
        SamplingError : when every position was examined, and none is negative.
        """
        if self._exact is None:
            for _ in range(TRIES):
                place, start = self._places[int(rng.integers(len(self._places)))]
                window = Window(start, self._window)
                if int(self.annotated(self._images[place].gid, window).sum()) <= self._limit:
                    return self._images[place].gid, window
            self._exact = [self._admissible(number) for number in range(len(self._images))]
        ends = np.cumsum([len(positions) for positions in self._exact])
        if not ends[-1]:
            raise SamplingError(
                f"no window of {self._window} voxels is negative: all {len(self._places)} positions in "
                f"{len(self._images)} images were examined",
                got=f"at least {self._fewest} annotated voxels in each",
                expected=f"at most {self._limit}",
                hint="use smaller window_dims, or a larger max_overlap",
            )
        number = int(rng.integers(ends[-1]))
        place = int(np.searchsorted(ends, number, side="right"))
        start = self._exact[place][number - (int(ends[place - 1]) if place else 0)]
        return self._images[place].gid, Window(start, self._window)

    def _admissible(self, number: int) -> Admissible:
        """The negative positions in image `number`, all of them examined."""
        outline = self._images[number]
        low, lengths = self._places.low[number].tolist(), self._places.lengths[number].tolist()
        starts = Starts(outline.shape, low, lengths, self._window)
        mask = partial(self.annotated, outline.gid)
        return Admissible(starts, self._judged(count_planes(starts.region, starts.window, mask)))

    def _judged(self, counts: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.bool_]]:
        for plane in counts:
            self._fewest = min(self._fewest, int(plane.min()))
            yield plane <= self._limit

    def annotated(self, gid: int, window: Window) -> NDArray[np.bool_]:
        """True at the annotated voxels of a window, False outside the image."""
        found = np.zeros(window.shape, bool)
        boxes = self._annotations.in_frame(self._outlines[gid])
        start, stop = np.floor(boxes.start).astype(np.int64), np.ceil(boxes.stop).astype(np.int64)
        near = ((start < window.stop) & (stop > window.start)).all(1)
        for k in np.flatnonzero(near).tolist():
            aid = int(boxes.aids[k])
            if self._dset.anns[aid].get("category_id") in self._background:
                continue
            where, mask = self._annotations.masks.get(aid) or (Window.between(start[k], stop[k]), None)
            shared = where.intersection(window)
            if shared.size:
                inside = shared.shifted([-a for a in window.start]).slices
                found[inside] |= True if mask is None else mask[shared.shifted([-a for a in where.start]).slices]
        return found

    def _holds_all(self, outline: Frame) -> bool:
        """True when all objects of an image lie on the grid of its windows."""
        return len(self._annotations.in_frame(outline).aids) == len(self._annotations.of(outline.gid).aids)


def _examined(dset: Any) -> list[int]:
    """The pictures, and the cases in which all categories were looked for that have annotations at all."""
    facts = {gid: dset.imgs[gid].get("ndvol") for gid in sorted(dset.imgs)}
    named = {gid: tuple(f.get("examined", ())) for gid, f in facts.items() if isinstance(f, Mapping)}
    if not named:
        return list(facts)
    tree = CategoryTree.from_coco(with_implied_parents(dset.cats.values()))
    used = {a.get("category_id") for a in dset.anns.values()} - {None}
    sought = {tree.index_of_id(category) for category in used}
    complete = {names: sought <= examined_categories(tree, names) for names in set(named.values())}
    return [gid for gid in facts if gid not in named or complete[named[gid]]]
