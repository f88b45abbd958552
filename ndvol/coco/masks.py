"""Masks of annotations: which voxels an object holds, where something says so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import kwimage
import numpy as np
from numpy.typing import NDArray

from ndvol.coco.frames import Frames
from ndvol.errors import CatalogError, OptionError
from ndvol.geometry import Window
from ndvol.store import object_mask

KEPT_BYTES = 2**26
"""Masks kept per process, the last ones used."""


class Masks:
    """The voxels of annotated objects, cut to their boxes; a pickle carries none of them."""

    def __init__(self, dset: Any, frames: Frames) -> None:
        self._dset, self._frames = dset, frames
        self._kept: OrderedDict[int, tuple[Window, NDArray[np.bool_]] | None] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}

    def get(self, aid: int) -> tuple[Window, NDArray[np.bool_]] | None:
        """Where the mask of an annotation lies in its image, and the mask; None when it is its box that counts.

        A polygon is filled by pixels, its border included. Nothing of a mask lies outside the image.
        """
        if aid in self._kept:
            found = self._kept[aid] = self._kept.pop(aid)
            return found
        found = self._kept[aid] = self._make(self._dset.anns[aid])
        while len(self._kept) > 1 and sum(m[1].nbytes for m in list(self._kept.values()) if m) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return found

    def _make(self, annotation: Mapping[str, Any]) -> tuple[Window, NDArray[np.bool_]] | None:
        if isinstance(annotation.get("ndvol"), Mapping):
            return self._of_label(annotation)
        if not annotation.get("segmentation"):
            return None
        size = self._frames.size(annotation["image_id"])
        try:
            drawn = kwimage.Segmentation.coerce(annotation["segmentation"], dims=size).to_mask(dims=size)
            mask = np.asarray(drawn.to_c_mask().data) != 0
        except ImportError as error:
            hint = "pip install opencv-python-headless"
            raise OptionError("polygons need OpenCV", got=error, hint=hint) from error
        except Exception as error:  # kwimage raises whatever the JSON provokes
            raise CatalogError(
                f"the segmentation of annotation {annotation['id']} makes no sense", got=repr(error)
            ) from error
        return _cut(Window((0, 0), size), mask) if mask.shape == size else None

    def _of_label(self, annotation: Mapping[str, Any]) -> tuple[Window, NDArray[np.bool_]] | None:
        """The object in the label volume of a case, on the axes of the case's first image without c."""
        facts = annotation["ndvol"]
        case = self._frames.case(annotation["image_id"])
        label = case.labels[facts["label"]]
        first = next(iter(case.images.values()))
        box = {a: (lo, hi) for a, lo, hi in zip(first.axes, facts["start"], facts["stop"], strict=True)}
        window = Window.between([box[a][0] for a in label.axes], [box[a][1] for a in label.axes])
        mask = object_mask(label.read(window), facts["value"], facts["voxels"])
        axes = first.axes.replace("c", "")
        missing = tuple(i for i, a in enumerate(axes) if a not in label.axes)
        full = np.expand_dims(mask, missing)
        shape = tuple(box[a][1] - box[a][0] for a in axes)
        return Window(tuple(box[a][0] for a in axes), shape), np.broadcast_to(full, shape)


def _cut(window: Window, mask: NDArray[np.bool_]) -> tuple[Window, NDArray[np.bool_]] | None:
    """The part of a mask that holds something, and where it lies; None for an empty mask."""
    start, stop = [], []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(tuple(i for i in range(mask.ndim) if i != axis)))
        if not len(found):
            return None
        start.append(int(found[0]))
        stop.append(int(found[-1]) + 1)
    inner = Window.between(start, stop)
    return inner.shifted(window.start), mask[inner.slices].copy()
