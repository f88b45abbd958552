"""Answers: the annotations of a sample, relative to its patch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.coco.annotations import Annotations
from ndvol.coco.frames import Frames
from ndvol.coco.lattice import Lattice
from ndvol.coco.plan import Plan
from ndvol.coco.structures import Drawer, Seen
from ndvol.errors import OptionError, UnknownNameError


class Answers:
    """Finds and draws the annotations that a plan sees."""

    def __init__(self, dset: Any, frames: Frames, annotations: Annotations, *, touching: bool) -> None:
        self._dset, self._frames, self._annotations, self._touching = dset, frames, annotations, touching
        self.drawer = Drawer(dset)

    def annots(self, plan: Plan, known: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
        found = list(self.seen(plan, known))
        frames = [self.drawer.detections(seen, kinds) for seen, _ in found]
        edges = np.concatenate([boxes for _, boxes in found] or [np.empty((0, 2, plan.lattice.ndim))])
        flat = self.drawer.flat(frames) if known.get("legacy_annots", True) else {}
        return {**flat, "frame_dets": frames, "rel_start": edges[:, 0], "rel_stop": edges[:, 1]}

    def seen(self, plan: Plan, known: Mapping[str, Any]) -> Iterator[tuple[Seen, NDArray[np.float64]]]:
        """The annotations of each frame of the patch, and their boxes (n, 2, axes) in it."""
        threshold = float(known.get("visible_thresh", 0.0))
        if not 0 <= threshold <= 1:
            raise OptionError("'visible_thresh' is out of range", got=threshold, expected="0 … 1")
        wanted = known.get("annot_ids")
        missing = [aid for aid in wanted or () if aid not in self._dset.anns]
        if missing:
            raise UnknownNameError(f"there is no annotation with id {missing[0]!r}")
        scene, lattice = plan.scene, plan.lattice
        inner = Lattice(lattice.start[1:], lattice.count[1:], lattice.step[1:]) if scene.stacked else lattice
        factor, offset = plan.lines()
        for number, at in enumerate(lattice.indices(0).tolist() if scene.stacked else [0]):
            real = 0 <= at < len(scene.frames)
            frame = scene.frames[at if real else 0]
            boxes = self._annotations.in_frame(frame)
            if not real:
                aids: list[int] = []
            elif wanted is not None:
                aids = [int(aid) for aid in wanted if self._dset.anns[aid]["image_id"] == frame.gid]
            else:
                rule = self._touching
                aids = self._annotations.seen(frame, inner, visible_thresh=threshold, touching=rule).tolist()
            rows = np.searchsorted(boxes.aids, np.array(aids, np.int64))
            edges = np.stack([boxes.start[rows], boxes.stop[rows]], 1)
            if scene.stacked:
                time = np.broadcast_to(np.array([at, at + 1.0])[:, None], (len(rows), 2, 1))
                edges = np.concatenate([time, edges], 2)
            own = [self._annotations.box(aid) for aid in aids]
            xywh = [(b.start["x"], b.start["y"], b.extent["x"], b.extent["y"]) for b in own]
            size = self._frames.size(frame.gid)
            to_patch = plan.to_patch() @ frame.to_scene
            table = np.array(xywh, np.float64).reshape(-1, 4)
            yield Seen(frame.gid, number, aids, table, to_patch, size), edges * factor + offset


def labelled(patch: NDArray[Any], plan: Plan) -> Any:
    """The patch as an `xarray.DataArray` with the names of its axes and channels."""
    try:
        import xarray
    except ImportError as error:
        raise OptionError("'as_xarray' needs xarray", got=error, hint="pip install xarray") from error
    return xarray.DataArray(patch, dims=(*plan.scene.axes, "c"), coords={"c": list(plan.channels)})
