"""The objects of a case as tracks, with a mask on every slice they reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord, Catalog
from ndvol.errors import OptionError
from ndvol.formats.rle import rle_of_mask
from ndvol.geometry import Grid, Window
from ndvol.store import object_mask, read_objects
from ndvol.volumes import LabelVolume


@dataclass(slots=True)
class Tables:
    """The rows of the kwcoco file as they come, and the next free ids."""

    videos: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    tracks: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)


def add_objects(
    catalog: Catalog, record: CaseRecord, label: LabelVolume, grid: Grid, first: int, tables: Tables
) -> None:
    """A track per object, and its masks on the frames, whose ids count from `first`."""
    categories = _categories(catalog, record, label)
    drawn = 0
    for value, voxels, *box in read_objects(record.path, label.name).tolist():
        start, stop = box[: label.ndim], box[label.ndim :]
        window = Window.between(start, stop)
        mask = object_mask(label.read(window), value, voxels)
        facts = {"label": label.name, "value": value, "voxels": voxels, "start": start, "stop": stop}
        track = {"id": len(tables.tracks) + 1, "name": f"{record.name}/{label.name}/{len(tables.tracks) + 1}"}
        tables.tracks.append({**track, "ndvol": facts})
        drawn += int(mask.sum())
        for number, corner, plane in _planes(mask, window, label.axes, grid):
            tables.annotations.append(
                {
                    "id": len(tables.annotations) + 1,
                    "image_id": first + number,
                    "category_id": categories[value],
                    "track_id": track["id"],
                    "bbox": [corner[1], corner[0], plane.shape[1], plane.shape[0]],
                    "segmentation": rle_of_mask(plane, corner, (grid.shape[-2], grid.shape[-1])),
                }
            )
    labelled = sum(label.index.count(value) for value in label.index.values)
    if drawn != labelled:
        raise OptionError(
            f"the objects of label volume {label.name!r} of case {record.name!r} do not make up its voxels",
            got=drawn,
            expected=labelled,
        )


def _categories(catalog: Catalog, record: CaseRecord, label: LabelVolume) -> dict[int, int]:
    """Category ids of the values of a label volume: as the catalogue has them, else by name."""
    tree, objects = catalog.categories, record.objects
    found = {
        int(objects.value[k]): tree.ids[objects.category[k]]
        for k in range(len(objects))
        if objects.label[k] >= 0 and record.labels[objects.label[k]] == label.name
    }
    missing = set(label.index.values) - set(found)
    return found | {value: tree.ids[tree.index(label.categories[value])] for value in missing}


def _planes(
    mask: NDArray[np.bool_], window: Window, axes: str, grid: Grid
) -> Iterator[tuple[int, tuple[int, int], NDArray[np.bool_]]]:
    """The slices of an object: number of the frame, corner (y, x), and mask cut to what it holds.

    An object without t is there at every time.
    """
    spans = {a: range(s, s + n) for a, s, n in zip(axes, window.start, window.shape, strict=True)}
    leading = [(a, n) for a, n in zip(grid.axes[:-2], grid.shape[:-2], strict=True)]
    for at in np.ndindex(*(len(spans.get(a, range(n))) for a, n in leading)):
        own = tuple(i for i, (a, _) in zip(at, leading, strict=True) if a in spans)
        plane = mask[own]
        rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
        if not len(rows):
            continue
        place = [spans.get(a, range(n))[i] for i, (a, n) in zip(at, leading, strict=True)]
        number = int(np.ravel_multi_index(place, [n for _, n in leading])) if leading else 0
        corner = (spans["y"][int(rows[0])], spans["x"][int(columns[0])])
        yield number, corner, plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def lies_on(label: Grid, grid: Grid) -> bool:
    """True when a label volume has the voxels of an image, some or all of its axes."""
    sizes = dict(zip(grid.axes, grid.shape, strict=True))
    same = all(sizes.get(a) == n for a, n in zip(label.axes, label.shape, strict=True))
    return same and label.matches(grid)
