"""What the catalogue and the preview tell of a published case, and the image that they tell it of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ndvol.catalog import CaseRecord, Objects
from ndvol.categories import CategoryTree
from ndvol.geometry import Grid
from ndvol.store import open_case, read_identity, read_objects, read_provenance
from ndvol.volumes import Case, Volume

_RANKS = {"CT": 0, "PT": 2, "PET": 2}
"""Anatomy before function: a picture of the body says more about a case than one of its metabolism."""


def images_in_order(case: Case) -> dict[str, Volume]:
    """The images of a case, the first one first: with a label on its grid, then CT, then PET last, then by name."""

    def key(name: str) -> tuple[bool, int, str]:
        image = case.images[name]
        labelled = any(label.grid.matches(image.grid) for label in case.labels.values())
        modality = str(image.attributes.get("modality") or name)
        return not labelled, _RANKS.get(modality.upper(), 1), name

    return {name: case.images[name] for name in sorted(case.images, key=key)}


def describe_case(path: Path, sha256: str, tree: CategoryTree) -> CaseRecord:
    """The catalogue's record of a published file."""
    case = open_case(path)
    images = images_in_order(case)
    first = next(iter(images.values()))
    rows, boxes = [], []
    for position, (name, volume) in enumerate(case.labels.items()):
        on_first = volume.grid.matches(first.grid)
        for value, voxels, *box in read_objects(path, name).tolist():
            start, stop = box[: volume.ndim], box[volume.ndim :]
            # A mask without the image's t or c axis holds for all of it.
            lows = [start[volume.axes.index(a)] if a in volume.axes else 0 for a in first.axes]
            highs = [
                stop[volume.axes.index(a)] if a in volume.axes else n
                for a, n in zip(first.axes, first.shape, strict=True)
            ]
            rows.append([tree.index(volume.categories[value]), position, value, voxels, *lows, *highs])
            boxes.append(
                _flat_box(first.grid, lows, highs) if on_first else _shadow(volume.grid, start, stop, first.grid)
            )
    table = np.array(rows, np.int64).reshape(-1, 4 + 2 * first.ndim)
    category, label, value, voxels = table[:, :4].T
    box = table[:, 4:]
    refused = read_provenance(path).get("refused")
    # Where a label was refused, what it would have shown is not known.
    named = set() if refused else {name for volume in case.labels.values() for name in volume.categories.values()}
    facts: dict[str, Any] = {
        "file": path.name,
        "sha256": sha256,
        "uuid": read_identity(path)["uuid"],
        "axes": first.axes,
        "shape": list(first.shape),
        "spacing": [round(s, 9) for s in first.grid.spacing],
        "unit": first.grid.unit,
        "frame": first.grid.frame,
        "images": list(images),
        "labels": list(case.labels),
        "examined": sorted(named),
    }
    if refused:
        facts["refused_labels"] = len(refused)
    return CaseRecord(
        name=case.name,
        path=str(path),
        axes=first.axes,
        shape=first.shape,
        spacing=first.grid.spacing,
        unit=first.grid.unit,
        images=tuple(images),
        labels=tuple(case.labels),
        objects=Objects(category, label, value, box[:, : first.ndim], box[:, first.ndim :], voxels),
        sha256=sha256,
        attributes=facts,
        bboxes=np.array(boxes, np.int64).reshape(-1, 4),
        examined=tuple(sorted(named)),
    )


def _flat_box(grid: Grid, start: Sequence[int], stop: Sequence[int]) -> list[int]:
    """x, y, width and height of a box in storage order."""
    x, y = grid.axes.index("x"), grid.axes.index("y")
    return [start[x], start[y], stop[x] - start[x], stop[y] - start[y]]


def _shadow(grid: Grid, start: Sequence[int], stop: Sequence[int], image: Grid) -> list[int]:
    """Where a box of one grid falls on the picture of another, cut to it; all of it where they share no world."""
    width, height = (image.shape[image.axes.index(a)] for a in "xy")
    if not grid.frame == image.frame == "LPS":
        return [0, 0, width, height]
    ends = [(start[i] - 0.5, stop[i] - 0.5) for i in grid.spatial]
    corners = image.index(grid.world(list(product(*ends)))).round(6)
    (y0, x0), (y1, x1) = np.floor(corners.min(0)[1:] + 0.5), np.ceil(corners.max(0)[1:] + 0.5)
    left, right = np.clip([x0, x1], 0, width).astype(int).tolist()
    top, bottom = np.clip([y0, y1], 0, height).astype(int).tolist()
    return [left, top, right - left, bottom - top]
