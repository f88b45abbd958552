"""Plan: a target worked out: what is read where, and how the patch's coordinates lead back to the image's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import kwimage
import numpy as np
from numpy.typing import NDArray

from ndvol.coco.annotations import Annotations
from ndvol.coco.frame import IDENTITY
from ndvol.coco.frames import chosen_channels
from ndvol.coco.lattice import CENTRES, Box, Lattice, lattice_of
from ndvol.coco.patch import Reading, reading_of
from ndvol.coco.scene import Scene, Scenes, frames_in
from ndvol.errors import OptionError, UnknownNameError
from ndvol.geometry import Grid


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a target asks for.

    Attributes
    ----------
    scene : what is sampled.
    window : the voxels asked for; lattice : those with padding, which become the patch.
    reading, channels : how they are read.
    target : the target with all that was worked out; loading it again gives the same sample.
    """

    scene: Scene
    window: Lattice
    lattice: Lattice
    reading: Reading
    channels: tuple[str, ...]
    target: dict[str, Any]

    def lines(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factor and offset per axis from the scene to the patch, in coordinates of voxel edges.

        With them p + 0.5 lies in a box of the patch where ``start + step * p + 0.5`` lies in it in the scene.
        """
        start, step, scale = (
            np.array(v, np.float64) for v in (self.lattice.start, self.lattice.step, self.reading.scale)
        )
        return scale / step, scale * (0.5 - (start + 0.5) / step)

    def to_patch(self) -> NDArray[np.float64]:
        """3 x 3, (x, y) of the scene to (x, y) of the patch."""
        factor, offset = self.lines()
        matrix = np.diag([factor[-1], factor[-2], 1.0])
        matrix[:2, 2] = offset[-1], offset[-2]
        return matrix

    def grid(self) -> Grid | None:
        """The grid of the patch before scaling; None for pictures, and for slices with steps."""
        if self.scene.grid is None or set(self.lattice.step) != {1} or set(self.reading.scale) != {1.0}:
            return None
        return self.scene.grid.crop(self.lattice.hull)

    def params(self) -> dict[str, Any]:
        """ndsampler's account of where the patch comes from, and what it lacks: axes, all axes' window, grid.

        ``window`` and ``valid`` are the patch in the scene and its real part in the patch, before scaling; ``grid`` is
        an `ndvol.Grid` for cases read voxel by voxel.
        """
        hull = self.lattice.hull
        spans = dict(zip(self.scene.axes, zip(hull.start, hull.stop, strict=True), strict=True))
        (y0, y1), (x0, x1) = spans["y"], spans["x"]
        to_patch = self.to_patch()
        warps = [kwimage.Affine(to_patch) for _ in self.target.get("gids", ())] if self.scene.stacked else []
        return {
            "offset": np.array([-x0, -y0]),
            "tf_rel_to_abs": np.linalg.inv(to_patch),
            "sample_tlbr": kwimage.Boxes(np.array([[x0, y0, x1, y1]]), "ltrb"),
            "st_dims": [spans[a] for a in self.scene.axes if a in CENTRES],
            "data_dims": self.scene.shape,
            "pad": self.reading.pad,
            "channels": self.channels,
            "axes": self.scene.axes,
            "window": hull,
            "valid": self.lattice.valid(self.scene.shape),
            "grid": self.grid(),
            **({"frame_sample_from_grid_warps": warps} if self.scene.stacked else {}),
        }


class Planner:
    """Works out the targets of one data set."""

    def __init__(self, dset: Any, scenes: Scenes, annotations: Annotations) -> None:
        self._dset, self._scenes, self._annotations = dset, scenes, annotations

    def plan(self, target: Mapping[str, Any]) -> Plan:
        """The plan of a target with the keys that `known_keys` leaves; raises what its parts raise."""
        known = dict(target)
        annotation = self._annotation(known)
        if annotation is not None:
            known.setdefault("gid", annotation["image_id"])
            if annotation.get("category_id") is not None:
                known.setdefault("category_id", annotation["category_id"])
        scene = self._scenes.of(known)
        box = None if annotation is None else self._box(annotation, scene)
        window = lattice_of(known, scene.axes, scene.shape, box)
        reading = reading_of(known, scene.axes)
        channels = chosen_channels(known.get("channels"), scene.default, scene.channels)
        answer = {**(box.keys() if box else {}), **known, **_worked_out(known, scene, window, box is not None)}
        return Plan(scene, window, window.padded(reading.pad), reading, channels, answer)

    def _annotation(self, target: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The annotation that a target names; None when it names none, or is that of a negative."""
        aid = target.get("aid")
        if aid is None or aid == -1:
            return None
        if aid not in self._dset.anns:
            raise UnknownNameError(f"there is no annotation with id {aid!r}", expected=f"one of {len(self._dset.anns)}")
        annotation: Mapping[str, Any] = self._dset.anns[aid]
        if target.get("gid", annotation["image_id"]) != annotation["image_id"]:
            raise OptionError(
                "'aid' and 'gid' contradict each other",
                got=f"annotation {aid} of image {annotation['image_id']}, image {target['gid']}",
            )
        return annotation

    def _box(self, annotation: Mapping[str, Any], scene: Scene) -> Box:
        """The box of the annotation in the scene; whole along an axis that it says nothing of."""
        frame = next((f for f in scene.frames if f.gid == annotation["image_id"]), None)
        if frame is None:
            raise OptionError(
                f"annotation {annotation['id']} lies in none of the images", got=f"image {annotation['image_id']}"
            )
        boxes = self._annotations.in_frame(frame)
        if annotation["id"] not in boxes.aids:
            raise OptionError(
                f"annotation {annotation['id']} lies on another grid than the channels that are read",
                got="|".join(frame.channels),
                hint="choose the image it was drawn on, as `regions.get_positive` does",
                code="other-grid",
            )
        own = self._annotations.box(annotation["id"])
        start, extent = dict.fromkeys(frame.axes, 0.0), dict(zip(frame.axes, map(float, frame.shape), strict=True))
        if frame.to_scene is IDENTITY:
            start |= {a: v for a, v in own.start.items() if a in frame.axes}
            extent |= {a: v for a, v in own.extent.items() if a in frame.axes}
        else:
            at = int(np.searchsorted(boxes.aids, annotation["id"]))
            start = dict(zip(frame.axes, boxes.start[at].tolist(), strict=True))
            extent = dict(zip(frame.axes, (boxes.stop[at] - boxes.start[at]).tolist(), strict=True))
        return Box(start, extent)


def _worked_out(known: Mapping[str, Any], scene: Scene, window: Lattice, boxed: bool) -> dict[str, Any]:
    """What ndsampler adds to a target: the slices over all axes, the frames, and the sizes of what is sampled."""
    stops = zip(window.start, window.count, window.step, strict=True)
    parts = [slice(a, a + s * (n - 1) + 1 if n else a, None if s == 1 else s) for a, n, s in stops]
    spatial = [i for i, a in enumerate(scene.axes) if a in CENTRES]
    found: dict[str, Any] = {
        "data_dims": scene.shape,
        "space_dims": tuple(scene.shape[i] for i in spatial),
        "slices": tuple(parts),
        "space_slice": tuple(parts[i] for i in spatial),
        "annot_idx": -1,
    }
    sliced = "slices" in known or "space_slice" in known
    if not sliced and (boxed or any(key in known for keys in CENTRES.values() for key in keys)):
        found["window_dims"] = tuple(window.count[i] for i in spatial)
    elif "window_dims" in known:
        found["window_dims"] = known["window_dims"]
    if "t" in scene.axes:
        found["time_slice"] = parts[scene.axes.index("t")]
    if scene.stacked:
        gids = [frame.gid for frame in scene.frames]
        found["gids"] = frames_in(found["time_slice"], gids) if "gids" not in known or scene.vidid is not None else gids
    return found
