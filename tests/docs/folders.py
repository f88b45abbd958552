"""The folders that the pages name, small: made once, and copied to each page that needs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from ndvol.demo import CATEGORIES, make_toy, write_toy_sources
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.importing import ImportOptions, import_tree

_GRID = Grid.regular("zyx", (40, 96, 112), spacing=(3, 1.5, 1.5), origin=(-80, -70, -60))


class Shelf:
    """Makes folders when they are first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made = cache(self._make)

    def copy(self, name: str, folder: Path) -> None:
        """Put a copy of the folder or file `name` into `folder`."""
        path = self._made(name)
        if path.is_dir():
            shutil.copytree(path, folder / name)
        else:
            shutil.copy(path, folder / name)

    def _make(self, name: str) -> Path:
        path = self._root / name
        _MAKERS[name](self, path)
        return path

    def path(self, name: str) -> Path:
        return self._made(name)


def _raw(shelf: Shelf, path: Path) -> None:
    write_toy_sources(path)


def _bundle(shelf: Shelf, path: Path) -> None:
    """What ``ndvol demo .`` leaves."""
    import_tree(shelf.path("raw"), path, options=ImportOptions(categories=CATEGORIES, modality="CT"))


def _hospital_export(shelf: Shelf, path: Path) -> None:
    shutil.copytree(shelf.path("raw") / "dicom", path)


def _dataset(shelf: Shelf, path: Path) -> None:
    path.mkdir()
    table = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumor": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (path / "dataset.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    for k in range(1, 5):
        toy = make_toy(_GRID.shape, seed=k)
        part = "Tr" if k < 4 else "Ts"
        write_nifti(path / f"images{part}" / f"case-{k:03d}_0000.nii.gz", toy.image, _GRID)
        if part == "Tr":
            labels = np.array([0, 1, 0, 1, 2, 1], np.uint8)[toy.labels]
            write_nifti(path / "labelsTr" / f"case-{k:03d}.nii.gz", labels, _GRID)


def _categories(shelf: Shelf, path: Path) -> None:
    rows = [
        {"name": "organ"},
        {"name": "liver", "supercategory": "organ", "value": 1},
        {"name": "tumor", "value": 2, "names": ["GTV-1", "gtv1"]},
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")


def _scans(shelf: Shelf, path: Path) -> None:
    for k in (1, 2):
        write_nifti(path / f"pat-{k}.nii.gz", make_toy(_GRID.shape, seed=10 + k).image, _GRID)


def _masks(shelf: Shelf, path: Path) -> None:
    for k in (1, 2):
        mask = (make_toy(_GRID.shape, seed=10 + k).labels == 4).astype(np.uint8)
        write_nifti(path / f"pat-{k}.nii.gz", mask, _GRID)


def _planned(shelf: Shelf, path: Path) -> None:
    """What nnU-Net's planner leaves for ``Dataset001_Liver``."""
    from nnunet_plans import CONFIGURATION, INTENSITY, PLANS

    one = {"normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "spacing": [3.0, 1.5, 1.5]}
    plans = {
        **PLANS,
        "dataset_name": "Dataset001_Liver",
        "configurations": {"3d_fullres": {**CONFIGURATION, **one}},
        "foreground_intensity_properties_per_channel": {"0": INTENSITY},
    }
    base = path / "Dataset001_Liver"
    base.mkdir(parents=True)
    shutil.copy(shelf.path("Dataset001_Liver") / "dataset.json", base)
    (base / "nnUNetPlans.json").write_text(json.dumps(plans), encoding="utf-8")


def _cache(shelf: Shelf, path: Path) -> None:
    path.mkdir()


_MAKERS: dict[str, Callable[[Shelf, Path], None]] = {
    "raw": _raw,
    "bundle": _bundle,
    "hospital-export": _hospital_export,
    "Dataset001_Liver": _dataset,
    "scans": _scans,
    "masks": _masks,
    "categories.json": _categories,
    "cache": _cache,
    "nnUNet_preprocessed": _planned,
}
