"""The same volumes in the formats of the libraries that peers.py compares: each in its documented way."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ndvol
from ndvol.demo import CATEGORIES, make_toy
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.store import CaseWriter

NAMES = {row["value"]: row["name"] for row in CATEGORIES if row.get("value")}
SPACING = (2.0, 1.0, 1.0)
PATCH = (96, 96, 96)


@dataclass
class Cohort:
    """Arrays of the cases in storage order (z, y, x), and the folder with their files."""

    folder: Path
    images: list[np.ndarray]
    labels: list[np.ndarray]

    @property
    def names(self) -> list[str]:
        return [f"case-{k}" for k in range(len(self.images))]

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"


def make_cohort(folder: Path, cases: int, depth: int) -> Cohort:
    """CT-like int16 volumes of depth x 512 x 512 with noise of 18 HU and five structures: .nii.gz and a bundle."""
    toys = [make_toy((depth, 512, 512), seed=k) for k in range(cases)]
    cohort = Cohort(folder, [toy.image for toy in toys], [toy.labels for toy in toys])
    grid = Grid.regular("zyx", toys[0].image.shape, spacing=SPACING)
    for name, toy in zip(cohort.names, toys, strict=True):
        write_nifti(cohort.raw / "images" / f"{name}.nii.gz", toy.image, grid)
        write_nifti(cohort.raw / "labels" / f"{name}.nii.gz", toy.labels, grid)
    (folder / "categories.json").write_text(json.dumps(CATEGORIES))
    options = ndvol.ImportOptions(categories=ndvol.read_categories(folder / "categories.json"), modality="CT")
    ndvol.import_tree(cohort.raw, cohort.bundle, options=options)
    return cohort


def write_plain(cohort: Cohort) -> list[Path]:
    """As ndvol stores them with ``--codec none``."""
    paths = [cohort.folder / f"{name}-plain.h5" for name in cohort.names]
    if paths[0].exists():
        return paths
    grid = Grid.regular("zyx", cohort.images[0].shape, spacing=SPACING)
    for path, name, image, labels in zip(paths, cohort.names, cohort.images, cohort.labels, strict=True):
        with CaseWriter(path, case=name, uuid="none", codec="none") as writer:
            writer.add_image("CT", image, grid)
            writer.add_label("labels", labels, grid, categories=NAMES)
    return paths


def write_nnunet(cohort: Cohort) -> Path:
    """By nnU-Net's own `save_case`, float32, with its own choice of blocks and chunks."""
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    folder = cohort.folder / "nnunet"
    if folder.exists():
        return folder
    folder.mkdir()
    for name, image, labels in zip(cohort.names, cohort.images, cohort.labels, strict=True):
        data, seg = image[None].astype(np.float32), labels[None].astype(np.int8)
        blocks, chunks = comp_blosc2_params(data.shape, PATCH, data.itemsize)
        blocks_seg, chunks_seg = comp_blosc2_params(seg.shape, PATCH, seg.itemsize)
        where = nnunet_class_locations(labels)
        nnUNetDatasetBlosc2.save_case(
            data,
            seg,
            {"class_locations": where},
            str(folder / name),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks_seg,
            blocks_seg=blocks_seg,
        )
    return folder


def nnunet_class_locations(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Per class up to 10,000 of its voxels as (0, z, y, x), as nnU-Net's preprocessor keeps them."""
    rng = np.random.default_rng(1234)
    found = {}
    for value in NAMES:
        at = np.argwhere(labels[None] == value)
        found[value] = at[rng.choice(len(at), min(10_000, max(len(at) // 100, min(len(at), 10_000))), replace=False)]
    return found


def write_medh5(cohort: Cohort) -> list[Path]:
    """By medh5's NIfTI importer, in its profile for training, every structure a class of one annotation."""
    from medh5.io.nifti import from_nifti

    folder = cohort.folder / "medh5"
    paths = [folder / f"{name}.medh5" for name in cohort.names]
    if folder.exists():
        return paths
    folder.mkdir()
    grid = Grid.regular("zyx", cohort.images[0].shape, spacing=SPACING)
    for path, name, labels in zip(paths, cohort.names, cohort.labels, strict=True):
        masks: dict[str, Any] = {}
        for value, category in NAMES.items():
            masks[category] = folder / "masks" / name / f"{category}.nii.gz"
            write_nifti(masks[category], (labels == value).astype(np.uint8), grid)
        image = cohort.raw / "images" / f"{name}.nii.gz"
        from_nifti({"CT": image}, path, masks=masks, modalities={"CT": "CT"}, codec="training")
    subprocess.run([Path(sys.executable).with_name("medh5"), "index", "build", *paths], check=True, capture_output=True)
    return paths


def installed(package: str) -> bool:
    """Whether a peer is there; says so when it is not."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"({package} is not installed)", flush=True)
    return found
