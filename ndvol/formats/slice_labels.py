"""The label volumes of a slice export, out of the masks of its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ndvol.errors import SourceError
from ndvol.formats import LabelData
from ndvol.formats.rle import mask_of_rle
from ndvol.formats.slice_video import SliceVideo
from ndvol.geometry import Grid, Reorientation, closest_canonical


def turn_onto(own: Grid, wanted: Grid) -> Reorientation:
    """The way from the grid of the slices to that on which the import stored them."""
    axes, shape = "".join(own.axes[i] for i in own.spatial), tuple(own.shape[i] for i in own.spatial)
    spatial = Grid(axes, shape, own.affine, own.frame, own.unit)
    n = len(own.spatial)
    turns = [Reorientation(tuple(range(n)), (False,) * n)]
    turns += [closest_canonical(spatial)] if own.frame == "LPS" else []
    for turn in turns:
        if turn.grid(spatial).matches(wanted):
            return turn
    raise SourceError("the slices do not lie on the grid of the image", got=own.affine.tolist(), code="label-off-grid")


def draw_label(video: SliceVideo, name: str, facts: Mapping[str, Any], turn: Reorientation) -> LabelData:
    """One label volume out of the masks of its objects."""
    axes: str = facts["axes"]
    sizes = dict(zip(video.grid.axes, video.grid.shape, strict=True))
    array = np.zeros([sizes[a] for a in axes], np.dtype(facts["dtype"]))
    counted: dict[int, int] = {}
    for number, frame in enumerate(video.frames):
        at = dict(zip(video.grid.axes, np.unravel_index(number, video.leading), strict=False))
        if any(at[a] for a in at if a not in axes):
            continue  # a mask without t holds for all times, and was drawn at each
        plane = array[tuple(int(at[a]) for a in axes if a in at)]
        for annotation in video.annotations.get(frame["id"], []):
            drawn = video.tracks.get(annotation.get("track_id"), {}).get("ndvol")  # type: ignore[arg-type]
            if not isinstance(drawn, Mapping):
                raise SourceError(
                    f"annotation {annotation.get('id')} says no label volume and value",
                    hint="give it the track_id of an exported object",
                    code="unlabelled",
                )
            if drawn["label"] != name:
                continue
            mask = mask_of_rle(annotation.get("segmentation"), plane.shape)
            if ((plane != 0) & (plane != drawn["value"]) & mask).any():
                raise SourceError(f"masks of label volume {name!r} overlap", got=frame.get("name"), code="overlap")
            plane[mask] = drawn["value"]
            counted[annotation["track_id"]] = counted.get(annotation["track_id"], 0) + int(mask.sum())
    changed = [
        f"object {video.tracks[t]['name']!r} has {n} voxels, of {video.tracks[t]['ndvol']['voxels']} exported"
        for t, n in counted.items()
        if n != video.tracks[t]["ndvol"]["voxels"]
    ]
    categories = {int(value): str(text) for value, text in facts["categories"].items()}
    originals = {int(value): str(names[0]) for value, names in facts.get("source_names", {}).items()}
    return LabelData(name, turn.array(array, axes=axes), categories, tuple(changed), originals)
