"""The annotations of a sample as ndsampler hands them out: kwimage's boxes, polygons and points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kwimage
import numpy as np
from numpy.typing import NDArray

from ndvol.catalog.dataset import classes_of
from ndvol.coco.frame import IDENTITY
from ndvol.errors import OptionError

KINDS = ("boxes", "segmentation", "keypoints")

NO_CATEGORY = -1
"""Category id of an annotation that has none."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The annotations that a sample sees in one frame.

    Attributes
    ----------
    gid : id of the image. number : of the frame in the sample.
    aids : ids of the annotations.
    boxes : (n, 4) x, y, width, height in the image.
    to_patch : 3 x 3, (x, y) of the image to (x, y) of the patch.
    size : rows and columns of the image.
    """

    gid: int
    number: int
    aids: Sequence[int]
    boxes: NDArray[np.float64]
    to_patch: NDArray[np.float64]
    size: tuple[int, int]


def kinds_of(with_annots: Any) -> tuple[str, ...]:
    """What of the annotations is wanted: all, nothing, or the kinds named in a list or joined by ``+``.

    >>> kinds_of(True), kinds_of("boxes+keypoints"), kinds_of(False)
    (('boxes', 'segmentation', 'keypoints'), ('boxes', 'keypoints'), ())
    """
    if isinstance(with_annots, bool | int) or with_annots is None:
        return KINDS if with_annots else ()
    kinds = tuple(with_annots.split("+") if isinstance(with_annots, str) else with_annots)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise OptionError("there is no such kind of annotation", got=unknown, expected=f"of {KINDS}")
    return kinds


class Drawer:
    """Makes kwimage's structures of annotations, relative to a patch and not clipped to it."""

    def __init__(self, dset: Any) -> None:
        self._dset = dset
        self.classes = classes_of(dset)
        self.kp_classes = classes_of(dset, keypoints=True)

    def detections(self, seen: Seen, kinds: Sequence[str]) -> Any:
        """The `kwimage.Detections` of one frame, boxes always included."""
        annotations = [self._dset.anns[aid] for aid in seen.aids]
        polygons = [self._polygon(a, seen.size) if "segmentation" in kinds else None for a in annotations]
        points = [self._points(a) if "keypoints" in kinds else None for a in annotations]
        found = kwimage.Detections(
            aids=np.array(seen.aids, np.int64),
            cids=np.array([category_of(a) for a in annotations], np.int64),
            boxes=kwimage.Boxes(seen.boxes.reshape(-1, 4), "xywh"),
            segmentations=kwimage.PolygonList(polygons),
            keypoints=kwimage.PointsList(points),
            classes=self.classes,
            rel_frame_index=seen.number,
            gid=seen.gid,
            datakeys=["aids", "cids"],
            metakeys=["gid", "rel_frame_index"],
        )
        found.data["keypoints"].meta["classes"] = self.kp_classes
        if np.array_equal(seen.to_patch[:2, :2], IDENTITY[:2, :2]):
            return found.translate(seen.to_patch[:2, 2])
        return found.warp(seen.to_patch)

    def flat(self, frames: Sequence[Any]) -> dict[str, Any]:
        """The columns of all frames one after the other, as older programs of ndsampler's users expect them."""
        points = kwimage.PointsList([p for f in frames for p in f.data["keypoints"].data])
        points.meta["classes"] = self.kp_classes
        numbers = [np.full(len(f), f.meta["rel_frame_index"], np.int64) for f in frames]
        return {
            "aids": _joined([f.data["aids"] for f in frames]),
            "cids": _joined([f.data["cids"] for f in frames]),
            "rel_frame_index": _joined(numbers),
            "rel_boxes": kwimage.Boxes.concatenate([f.data["boxes"] for f in frames])
            if frames
            else kwimage.Boxes(np.empty((0, 4)), "xywh"),
            "rel_ssegs": kwimage.PolygonList([s for f in frames for s in f.data["segmentations"].data]),
            "rel_kpts": points,
        }

    def _polygon(self, annotation: Mapping[str, Any], size: tuple[int, int]) -> Any:
        drawn = annotation.get("segmentation")
        if drawn is None:
            return None
        try:
            return kwimage.MultiPolygon.coerce(drawn, dims=size)
        except ImportError as error:
            hint = "pip install opencv-python-headless, or with_annots='boxes'"
            raise OptionError("masks become polygons by OpenCV", got=error, hint=hint) from error

    def _points(self, annotation: Mapping[str, Any]) -> Any:
        points = annotation.get("keypoints")
        if not points:
            return None
        if isinstance(points[0], Mapping):
            return kwimage.Points.from_coco(points, classes=self.kp_classes)
        # MS-COCO's flat x, y, visible: the category names the points.
        names = self._dset._lookup_kpnames(annotation["category_id"])
        numbers = np.array([self.kp_classes.index(name) for name in names])
        return kwimage.Points.from_coco(points, numbers, self.kp_classes)


def category_of(annotation: Mapping[str, Any]) -> int:
    """The category id of an annotation; `NO_CATEGORY` for one that kwcoco permits to have none."""
    category = annotation.get("category_id")
    return NO_CATEGORY if category is None else int(category)


def _joined(columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *columns])
