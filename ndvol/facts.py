"""What is in a catalogue, or in one case of it, as JSON values for a person or a program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord, Catalog
from ndvol.categories import CategoryTree


def catalog_facts(catalog: Catalog) -> dict[str, Any]:
    """Counts of a catalogue: cases, names of volumes, objects and voxels per category, fates of the sources."""
    records = list(catalog.records.values())
    tree = catalog.categories
    objects, voxels = category_counts(records, tree)
    counts = {
        f"{'  ' * len(tree.ancestors(name))}{name}": f"{objects[s].sum()} objects, {voxels[s].sum()} voxels"
        for name, s in ((n, slice(tree.subtree(n).start, tree.subtree(n).stop)) for n in tree)
    }
    statuses = [v.status for v in catalog.verdicts]
    return {
        "catalogue": catalog.path,
        "cases": len(records),
        "images": sorted({n for r in records for n in r.images}),
        "labels": sorted({n for r in records for n in r.labels}),
        "categories": counts,
        "sources": {s: statuses.count(s) for s in sorted(set(statuses))},
    }


def category_counts(records: Iterable[CaseRecord], tree: CategoryTree) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Objects and voxels per category_index, those of the category itself alone."""
    objects, voxels = np.zeros(len(tree), np.int64), np.zeros(len(tree), np.int64)
    for record in records:
        np.add.at(objects, record.objects.category, 1)
        np.add.at(voxels, record.objects.category, record.objects.voxels)
    return objects, voxels


def case_facts(catalog: Catalog, name: str) -> dict[str, Any]:
    """The volumes of a case with their grids and attributes, and its objects; JSON values."""
    record, case = catalog.record(name), catalog[name]
    volumes: dict[str, dict[str, Any]] = {"images": {}, "labels": {}}
    kinds = [("images", volume) for volume in case.images.values()]
    for kind, volume in [*kinds, *(("labels", volume) for volume in case.labels.values())]:
        grid = volume.grid
        volumes[kind][volume.name] = {
            "axes": grid.axes,
            "shape": list(grid.shape),
            "dtype": str(volume.dtype),
            "spacing": [round(s, 6) for s in grid.spacing],
            "unit": grid.unit,
            "frame": grid.frame,
            "origin": [round(o, 4) for o in grid.origin],
            "levels": volume.levels,
            **{k: v for k, v in volume.attributes.items() if v not in ("", None)},
        }
    objects = record.objects
    found = [
        {
            "category": catalog.categories.names[objects.category[k]],
            "start": objects.start[k].tolist(),
            "stop": objects.stop[k].tolist(),
            "voxels": int(objects.voxels[k]),
        }
        for k in range(len(objects))
    ]
    return {"case": name, "file": record.path, **volumes, "objects": found}
