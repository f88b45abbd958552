"""A bundle with every kind of case that can be exported, made without an import."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from ndvol.catalog import coco_from_records
from ndvol.categories import CategoryTree
from ndvol.geometry import Grid
from ndvol.importing.preview import write_preview
from ndvol.importing.record import describe_case
from ndvol.store import CaseWriter, file_sha256

TREE = CategoryTree.from_coco(
    [
        {"name": "finding"},
        {"name": "lesion", "supercategory": "finding"},
        {"name": "cyst", "supercategory": "lesion"},
        {"name": "organ"},
        {"name": "never-seen"},
    ]
)
CATEGORIES = {1: "lesion", 2: "organ", 7: "cyst", 9: "never-seen"}


def blobs(shape, seed, dtype=np.uint8):
    """Labels with components that touch, interlock and reach the borders."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype)
    for value in (2, 1, 7, 1, 7, 1):
        low = [int(rng.integers(0, max(1, n - 2))) for n in shape]
        box = tuple(slice(a, a + int(rng.integers(2, max(3, n // 2)))) for a, n in zip(low, shape, strict=True))
        labels[box][rng.random(labels[box].shape) < 0.7] = value
    labels[(0,) * len(shape)] = 7
    labels[(-1,) * len(shape)] = 1
    return labels


def grid_of(axes, shape, *, oblique=False):
    if "z" not in axes:
        return Grid.regular(axes, shape)
    grid = Grid.regular(axes, shape, spacing=(2.5, 0.7, 0.8), origin=(-10, 20, 30.5))
    if not oblique:
        return grid
    turn, (c, s) = np.eye(4), (np.cos(0.3), np.sin(0.3))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return Grid(axes, shape, turn @ grid.affine)


CASES = {
    "ct": ("zyx", (5, 20, 24), {"CT": ("int16", None)}, {"organs": "zyx"}),
    "oblique": ("zyx", (4, 17, 13), {"MR": ("uint16", None)}, {"organs": "zyx", "more": "zyx"}),
    "two": ("zyx", (3, 16, 11), {"T1": ("float32", None), "T2": ("uint8", None)}, {"organs": "zyx"}),
    "time": ("tzyx", (3, 4, 12, 10), {"MR": ("uint16", None)}, {"moving": "tzyx", "still": "zyx"}),
    "colour": ("zyx", (3, 14, 15), {"photo": ("uint8", 3)}, {"organs": "zyx"}),
    "spectrum": ("tyx", (4, 9, 10), {"bands": ("int32", 5)}, {"organs": "yx"}),
    "pair": ("yx", (21, 18), {"flow": ("float64", 2)}, {}),
    "one": ("yx", (12, 31), {"image": ("uint16", 1)}, {"organs": "yx"}),
    "thin": ("zyx", (1, 6, 1), {"CT": ("uint8", None)}, {"organs": "zyx"}),
}
"""By name: axes and shape without c, images with type and channels, label volumes with their axes."""


def write_bundle(folder: Path, cases) -> Path:
    """Write a bundle of cases, each filled by a function of its writer, and return its folder."""
    (folder / "volumes").mkdir(parents=True)
    records = []
    for name, fill in cases.items():
        path = folder / "volumes" / f"{name}.h5"
        with CaseWriter(path, case=name, uuid=f"uuid-{name}") as writer:
            fill(writer)
            writer.set_provenance({})
        write_preview(path, path.with_suffix(".png"))
        records.append(describe_case(path, file_sha256(path), TREE))
    (folder / "data.kwcoco.json").write_text(json.dumps(coco_from_records(records, TREE, folder)))
    return folder


def make_bundle(folder: Path, names=tuple(CASES)) -> Path:
    """Write the named cases as a bundle and return its folder."""
    return write_bundle(folder, {name: partial(fill_case, name, number) for number, name in enumerate(names)})


def fill_case(name, number, writer):
    axes, shape, images, labels = CASES[name]
    rng = np.random.default_rng(number)
    grid = grid_of(axes, shape, oblique=name == "oblique")
    for image, (dtype, channels) in images.items():
        add_image(writer, rng, image, grid, np.dtype(dtype), channels)
    for seed, (label, own) in enumerate(labels.items()):
        sizes = [shape[axes.index(a)] for a in own]
        where = grid if own == axes else Grid(own, tuple(sizes), grid.affine, grid.frame, grid.unit)
        array = blobs(sizes, 10 * number + seed, np.uint16 if seed else np.uint8)
        facts = {"source_names": {"7": ["Zyste"]}}
        writer.add_label(label, array, where, categories=CATEGORIES, attributes=facts)


def make_pet_ct(folder: Path) -> Path:
    """A bundle with one case on two grids, each with an image and a label volume."""

    def fill(writer):
        rng, fine, coarse = np.random.default_rng(0), grid_of("zyx", (5, 20, 24)), grid_of("zyx", (3, 7, 9))
        add_image(writer, rng, "CT", fine, np.dtype("int16"), None)
        add_image(writer, rng, "PET", coarse, np.dtype("float32"), None)
        writer.add_label("organs", blobs(fine.shape, 3), fine, categories=CATEGORIES)
        writer.add_label("uptake", blobs(coarse.shape, 4), coarse, categories=CATEGORIES)

    return write_bundle(folder, {"ct": fill})


def add_image(writer, rng, name, grid, dtype, channels):
    shape, axes = grid.shape, grid.axes
    if channels is not None:
        at = int(axes.startswith("t"))
        axes, shape = f"{axes[:at]}c{axes[at:]}", (*shape[:at], channels, *shape[at:])
    if dtype.kind == "f":
        array = rng.normal(0, 1e3, shape).astype(dtype)
    else:
        info = np.iinfo(dtype)
        array = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    where = Grid(axes, shape, grid.affine, grid.frame, grid.unit)
    modality = {"CT": "CT", "PET": "PT"}.get(name, "MR")
    writer.add_image(name, array, where, attributes={"modality": modality, "value_unit": "", "EchoTime": 4.5})
