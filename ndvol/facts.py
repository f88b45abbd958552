"""What is in a catalogue, or in one case of it, as JSON values for a person or a program."""

from __future__ import annotations

from typing import Any

from ndvol.catalog import Catalog, tree_counts
from ndvol.display import volume_facts


def catalog_facts(catalog: Catalog) -> dict[str, Any]:
    """Counts of a catalogue: cases, names of volumes, objects and voxels per category, fates of the sources."""
    records = list(catalog.records.values())
    tree = catalog.categories
    objects, voxels = tree_counts(records, tree)
    counts = {
        f"{'  ' * len(tree.ancestors(name))}{name}": f"{n} objects, {v} voxels"
        for name, n, v in zip(tree, objects.tolist(), voxels.tolist(), strict=True)
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


def case_facts(catalog: Catalog, name: str) -> dict[str, Any]:
    """The volumes of a case with their grids and attributes, and its objects; JSON values."""
    record, case = catalog.record(name), catalog[name]
    volumes = {
        "images": {n: volume_facts(v) for n, v in case.images.items()},
        "labels": {n: volume_facts(v) for n, v in case.labels.items()},
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
