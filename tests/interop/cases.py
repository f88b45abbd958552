"""Cases on oblique grids, in files and in memory, and what their voxels and places are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ndvol.catalog import CaseRecord, Catalog, Objects
from ndvol.categories import CategoryTree
from ndvol.geometry import Grid
from ndvol.store import CaseWriter, open_case
from ndvol.store.objects import find_objects

CATEGORIES = {1: "liver", 2: "cyst"}
TREE = CategoryTree.from_coco([{"name": "liver"}, {"name": "cyst"}])


def oblique_grid(shape, *, angle=0.4, spacing=(2.5, 0.7, 0.9)) -> Grid:
    grid = Grid.regular("zyx", shape, spacing=spacing, origin=(-31.5, 12.25, 101))
    turn, (c, s) = np.eye(4), (np.cos(angle), np.sin(angle))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return Grid("zyx", shape, turn @ grid.affine)


def write_case(folder: Path, name: str, shape, seed: int = 0, *, images=("CT", "PET")) -> Path:
    """One case: images of noise, and labels of boxes."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    labels[1:-1, 2:-3, 3:-2] = 1
    labels[2:4, 4:7, 5:9] = 2
    grid, path = oblique_grid(shape), folder / f"{name}.h5"
    with CaseWriter(path, case=name) as writer:
        for image in images:
            writer.add_image(image, rng.integers(-900, 900, shape).astype(np.int16), grid)
        writer.add_label("organs", labels, grid, categories=CATEGORIES, objects="category")
    return path


def open_record(record: CaseRecord):
    return open_case(record.path)


def catalog_of(paths: list[Path]) -> Catalog:
    """A catalogue of stored cases with one label volume each; it pickles, as workers need."""
    records = []
    for path in paths:
        case = open_case(path)
        grid = next(iter(case.images.values())).grid
        [label] = case.labels.values()
        table = find_objects(np.asarray(label), "category")
        leaf = np.array([TREE.index(label.categories[v]) for v in table[:, 0].tolist()], np.int64)
        objects = Objects(leaf, np.zeros(len(table), np.int64), table[:, 0], table[:, 2:5], table[:, 5:8], table[:, 1])
        facts = (grid.axes, grid.shape, grid.spacing, grid.unit, tuple(case.images), tuple(case.labels))
        records.append(CaseRecord(case.name, str(path), *facts, objects))
    return Catalog(records, TREE, open_record)


def lps_of_ras(affine, index) -> np.ndarray:
    """The LPS point that a framework's affine, tensor order to RAS mm, gives an index."""
    point = np.asarray(affine, float) @ [*index, 1.0]
    return point[:3] * [-1, -1, 1]


def value_at(volume, point):
    """The voxel of `volume` whose centre is at an LPS point; None outside."""
    index = np.rint(volume.grid.index(point)).astype(int)
    assert np.allclose(volume.grid.world(index), point, atol=1e-3)
    inside = all(0 <= i < n for i, n in zip(index, volume.shape, strict=True))
    return volume[tuple(index.tolist())] if inside else None
