"""Annotations in a scene: boxes over its axes, and which of them a lattice sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.coco.frame import IDENTITY, Frame
from ndvol.coco.frames import Frames
from ndvol.coco.lattice import Box, Lattice
from ndvol.coco.masks import Masks
from ndvol.errors import CatalogError
from ndvol.geometry import Window


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The annotations of one image, as columns; sorted by id.

    Attributes
    ----------
    axes : that the boxes are over.
    labels : (n,) the label volume of each, "" for those without.
    aids : (n,) annotation ids.
    start, stop : (n, axes) half-open; not clipped, and not integers where the file's are not.
    """

    axes: str
    labels: tuple[str, ...]
    aids: NDArray[np.int64]
    start: NDArray[np.float64]
    stop: NDArray[np.float64]

    def take(self, rows: Sequence[int]) -> Boxes:
        """Some of the boxes."""
        at = np.array(rows, np.intp)
        return Boxes(self.axes, tuple(self.labels[k] for k in rows), self.aids[at], self.start[at], self.stop[at])


class Annotations:
    """The annotations of a kwcoco data set, gathered image by image when they are asked for."""

    def __init__(self, dset: Any, frames: Frames) -> None:
        self._dset, self._frames = dset, frames
        self.masks = Masks(dset, frames)
        self._boxes: dict[int, Boxes] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_boxes": {}}

    def of(self, gid: int) -> Boxes:
        """The boxes of an image, in its own axes. Of a case: in the axes of its first image without c, those of each
        label volume in the indices of its own grid.
        """
        if gid not in self._boxes:
            whole, image = self._frames.outline(gid), self._frames.image(gid)
            aids = sorted(self._dset.index.gid_to_aids[gid])
            rows = [_box(self._dset.anns[aid], whole, image) for aid in aids]
            table = [[[row.start[a] for a in whole.axes], [row.extent[a] for a in whole.axes]] for row in rows]
            start, extent = np.array(table, np.float64).reshape(len(aids), 2, len(whole.axes)).swapaxes(0, 1)
            labels = tuple(_label_of(self._dset.anns[aid]) for aid in aids)
            self._boxes[gid] = Boxes(whole.axes, labels, np.array(aids, np.int64), start, start + extent)
        return self._boxes[gid]

    def box(self, aid: int) -> Box:
        """The box of an annotation in its image, exactly as the file has it."""
        annotation = self._dset.anns[aid]
        gid = annotation["image_id"]
        return _box(annotation, self._frames.outline(gid), self._frames.image(gid))

    def in_frame(self, frame: Frame) -> Boxes:
        """The boxes of a frame's image, where they lie in the scene that the frame belongs to.

        Objects on another grid of the case are left out.
        """
        own = self.of(frame.gid)
        if frame.labels is not None:
            own = own.take([k for k, label in enumerate(own.labels) if label in frame.labels])
        matrix = frame.to_scene
        start, stop = (own.start, own.stop) if own.axes == frame.axes else _over_axes(own, frame)
        if matrix is not IDENTITY:
            x = np.stack([start[:, -1], stop[:, -1], start[:, -1], stop[:, -1]], 1)
            y = np.stack([start[:, -2], start[:, -2], stop[:, -2], stop[:, -2]], 1)
            corners = np.einsum("ij,njk->nik", matrix[:2], np.stack([x, y, np.ones_like(x)], 1))
            start, stop = corners.min(2)[:, ::-1], corners.max(2)[:, ::-1]
        return Boxes(frame.axes, own.labels, own.aids, start, stop)

    def seen(
        self, frame: Frame, lattice: Lattice, *, visible_thresh: float = 0.0, touching: bool = False
    ) -> NDArray[np.int64]:
        """The ids of the annotations of a frame that a lattice over the frame's axes sees.

        An object is seen when the share of its voxels in the window is more than 0 and at least `visible_thresh`:
        of the voxels of its mask, or of its box where there is no mask (or the frame is warped to lie in its
        video). With `touching`, ndsampler's rule: boxes alone count, and one whose border touches the window is seen.
        """
        boxes = self.in_frame(frame)
        near = np.flatnonzero(touches(boxes, lattice.hull) if touching else overlaps(boxes, lattice))
        if not len(near):
            return boxes.aids[near]
        shares = box_shares(boxes, lattice.hull, near)
        masked = not touching and frame.to_scene is IDENTITY and self.of(frame.gid).axes == frame.axes
        kept = []
        for k, share in zip(near.tolist(), shares.tolist(), strict=True):
            if masked and share < 1:
                share = self._mask_share(int(boxes.aids[k]), lattice, share)
            if share >= visible_thresh and (touching or share > 0):
                kept.append(k)
        return boxes.aids[kept]

    def _mask_share(self, aid: int, lattice: Lattice, share: float) -> float:
        """The share of an object's mask in the window; that of its box when there is none; 0 when no voxel is hit."""
        found = self.masks.get(aid)
        if found is None:
            return share
        where, mask = found
        hit = [lattice.indices(a) - where.start[a] for a in range(mask.ndim)]
        hit = [i[(i >= 0) & (i < n)] for i, n in zip(hit, mask.shape, strict=True)]
        if not mask[np.ix_(*hit)].any():
            return 0.0
        inside = mask[where.intersection(lattice.hull).shifted([-a for a in where.start]).slices]
        return float(np.count_nonzero(inside) / np.count_nonzero(mask))


def overlaps(boxes: Boxes, lattice: Lattice) -> NDArray[np.bool_]:
    """True for boxes with at least one voxel of the lattice; touching faces do not overlap."""
    start, step = np.array(lattice.start), np.array(lattice.step)
    # The first index of the lattice whose voxel reaches beyond the start of the box.
    first = np.maximum(0, np.floor((boxes.start - start - 1) / step) + 1)
    inside = (first < np.array(lattice.count)) & (start + step * first < boxes.stop) & (boxes.start < boxes.stop)
    return np.asarray(inside.all(1))


def touches(boxes: Boxes, window: Window) -> NDArray[np.bool_]:
    """True for boxes that share at least a border with the window."""
    return np.asarray(((boxes.start <= window.stop) & (boxes.stop >= window.start)).all(1))


def box_shares(boxes: Boxes, window: Window, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """The share of the boxes at `rows` that lies in the window: exactly 1 for one wholly in it, 0 for an empty one."""
    start, stop = boxes.start[rows], boxes.stop[rows]
    inside = np.maximum(np.minimum(stop, window.stop) - np.maximum(start, window.start), 0)
    length = stop - start
    return np.asarray((inside / np.where(length > 0, length, np.inf)).prod(1))


def _over_axes(boxes: Boxes, frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The boxes over the axes of a frame: whole along one that they say nothing of, as the pages of a picture."""
    start, stop = np.zeros((2, len(boxes.aids), len(frame.axes)))
    stop += frame.shape
    for position, axis in enumerate(frame.axes):
        if axis in boxes.axes:
            start[:, position] = boxes.start[:, boxes.axes.index(axis)]
            stop[:, position] = boxes.stop[:, boxes.axes.index(axis)]
    return start, stop


def _label_of(annotation: Mapping[str, Any]) -> str:
    """The label volume that an annotation of a case stands for."""
    facts = annotation.get("ndvol")
    return str(facts["label"]) if isinstance(facts, Mapping) else ""


def _box(annotation: Mapping[str, Any], whole: Frame, image: Mapping[str, Any]) -> Box:
    """The box of an annotation; where nothing is said it covers the whole image."""
    start, extent = dict.fromkeys(whole.axes, 0.0), dict(zip(whole.axes, map(float, whole.shape), strict=True))
    facts = annotation.get("ndvol")
    if isinstance(facts, Mapping):
        for axis, low, high in zip(image["ndvol"]["axes"], facts["start"], facts["stop"], strict=True):
            start[axis], extent[axis] = float(low), float(high - low)
    elif annotation.get("bbox") is not None:
        box = [float(v) for v in annotation["bbox"]]
        if len(box) != 4 or not all(map(isfinite, box)) or min(box[2:]) < 0:
            raise CatalogError(
                f"annotation {annotation['id']} has no usable box",
                got=annotation["bbox"],
                expected="x, y, width, height",
            )
        start["x"], start["y"], extent["x"], extent["y"] = box
    return Box(start, extent)
