"""Grids of windows that cover every image or video, sorted into positive and negative ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import index as as_int
from typing import Any

import numpy as np

from ndvol.coco.annotations import Annotations
from ndvol.coco.frame import Frame
from ndvol.coco.frames import Frames
from ndvol.coco.keys import unknown_key
from ndvol.coco.lattice import Lattice
from ndvol.coco.scene import frames_in
from ndvol.errors import OptionError
from ndvol.geometry import Window
from ndvol.geometry.tiling import SlidingWindows

TASKS = ("video_detection", "image_detection")


@dataclass(frozen=True, slots=True)
class GridOptions:
    """How `sample_grid` judges its windows.

    Attributes
    ----------
    use_annots : without, all windows are negative and have no ``aids``.
    classes_of_interest : names of the categories that make a window positive; all but `negative_classes` when None.
    negative_classes : names of categories that make no window positive.
    ignore_coverage_thresh : a window whose share under annotations of the category ``ignore`` is larger is left out;
        None keeps all.
    legacy : also list the targets themselves as ``positives`` and ``negatives``.
    touching : ndsampler's rule, by which an object that only touches the window counts.
    verbose : accepted, nothing is printed.
    """

    use_annots: bool = True
    classes_of_interest: Collection[str] | None = None
    negative_classes: Collection[str] = frozenset({"ignore", "background"})
    ignore_coverage_thresh: float | None = 0.6
    legacy: bool = True
    touching: bool = False
    verbose: int = 0


def grid_options(options: dict[str, Any]) -> GridOptions:
    """The options of a grid; raises `OptionError` for one that does not exist."""
    names = GridOptions.__dataclass_fields__
    for name in options:
        if name not in names:
            raise unknown_key("option of a sample grid", name, tuple(names))
    return GridOptions(**options)


class GridMaker:
    """Makes sample grids of a kwcoco data set."""

    def __init__(self, dset: Any, frames: Frames, annotations: Annotations) -> None:
        self._dset, self._frames, self._annotations = dset, frames, annotations
        self._names = {c["id"]: c["name"].lower() for c in dset.cats.values()}

    def grid(self, task: str, window: Any, overlap: Any, options: GridOptions) -> dict[str, Any]:
        """See `CocoRegions.new_sample_grid`."""
        if task not in TASKS:
            raise OptionError("there is no such task", got=repr(task), expected=f"one of {TASKS}")
        found = self._of_videos(window, overlap) if task == "video_detection" else self._of_images(window, overlap)
        targets: list[dict[str, Any]] = []
        roles: dict[bool, list[int]] = {True: [], False: []}
        for target, frames, lattices in found:
            positive = False
            target["aids"] = None
            if options.use_annots:
                aids = [
                    aid
                    for frame, lattice in zip(frames, lattices, strict=True)
                    for aid in self._annotations.seen(frame, lattice, touching=options.touching).tolist()
                ]
                target["aids"] = sorted(aids)
                if self._is_ignored(aids, frames, lattices, options):
                    continue
                positive = any(self._counts(aid, options) for aid in aids)
            roles[positive].append(len(targets))
            targets.append(target)
        grid: dict[str, Any] = {
            "targets": targets,
            "positives_indexes": roles[True],
            "negatives_indexes": roles[False],
        }
        if options.legacy:
            grid["positives"] = [targets[i] for i in roles[True]]
            grid["negatives"] = [targets[i] for i in roles[False]]
        return grid

    def _of_images(self, window: Any, overlap: Any) -> Iterator[tuple[dict[str, Any], list[Frame], list[Lattice]]]:
        for gid in self._dset.imgs:
            frame = self._frames.outline(gid)
            for box in SlidingWindows(frame.shape, window_over(window, frame.shape), overlap):
                yield {"gid": gid, "slices": _slices(box)}, [frame], [_lattice(box)]

    def _of_videos(self, window: Any, overlap: Any) -> Iterator[tuple[dict[str, Any], list[Frame], list[Lattice]]]:
        for vidid, video in self._dset.index.videos.items():
            gids = list(self._dset.index.vidid_to_gids[vidid])
            if not gids:
                continue
            outlines = [self._frames.outline(gid, video) for gid in gids]
            shape = (len(gids), *outlines[0].shape)
            for box in SlidingWindows(shape, window_over(window, shape), overlap):
                time, *space = _slices(box)
                target = {
                    "vidid": vidid,
                    "time_slice": time,
                    "space_slice": tuple(space),
                    "gids": frames_in(time, gids),
                }
                seen = outlines[time.start : time.stop]
                inner = _lattice(Window(box.start[1:], box.shape[1:]))
                yield target, seen, [inner] * len(seen)

    def _counts(self, aid: int, options: GridOptions) -> bool:
        name = self._name(aid)
        if options.classes_of_interest:
            return name in {n.lower() for n in options.classes_of_interest}
        return name not in {n.lower() for n in options.negative_classes or ()}

    def _name(self, aid: int) -> str:
        return str(self._names.get(self._dset.anns[aid].get("category_id"), ""))

    def _is_ignored(
        self, aids: Sequence[int], frames: Sequence[Frame], lattices: Sequence[Lattice], options: GridOptions
    ) -> bool:
        """True when annotations that say "ignore" cover too much of the window."""
        ignored = [aid for aid in aids if self._name(aid) == "ignore"]
        if not ignored or options.ignore_coverage_thresh is None:
            return False
        covered = total = 0
        for frame, lattice in zip(frames, lattices, strict=True):
            boxes, window = self._annotations.in_frame(frame), lattice.hull
            mask = np.zeros(window.shape, bool)
            for k in np.flatnonzero(np.isin(boxes.aids, ignored)).tolist():
                box = Window.between(np.floor(boxes.start[k]).astype(int), np.ceil(boxes.stop[k]).astype(int))
                shared = box.intersection(window)
                if shared.size:
                    mask[shared.shifted([-a for a in window.start]).slices] = True
            covered, total = covered + int(mask.sum()), total + mask.size
        return covered / total > options.ignore_coverage_thresh


def window_over(window: Any, shape: Sequence[int]) -> tuple[int, ...]:
    """The lengths of a window, in which None and ``full`` take the whole axis.

    >>> window_over((2, None, 30), (5, 60, 70)), window_over("full", (5, 60))
    ((2, 60, 30), (5, 60))
    """
    lengths = [None] * len(shape) if window is None or window == "full" else window
    try:
        return tuple(n if w in (None, "full") else as_int(w) for w, n in zip(lengths, shape, strict=True))
    except (TypeError, ValueError):
        raise OptionError(
            "window_dims does not fit the data", got=repr(window), expected=f"{len(shape)} integers, or 'full'"
        ) from None


def _slices(window: Window) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(window.start, window.stop, strict=True))


def _lattice(window: Window) -> Lattice:
    return Lattice(window.start, window.shape, (1,) * window.ndim)
