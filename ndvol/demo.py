"""Toy data: phantoms with a three-level category tree in any number of dimensions, and real files of them.

Everything is a function of the seed; nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti, write_pictures
from ndvol.geometry import Grid

CATEGORIES = (
    {"name": "organ", "supercategory": None},
    {"name": "liver", "supercategory": "organ", "value": 1},
    {"name": "kidney", "supercategory": "organ", "value": 2},
    {"name": "finding", "supercategory": None},
    {"name": "lesion", "supercategory": "finding"},
    {"name": "cyst", "supercategory": "lesion", "value": 3},
    {"name": "tumor", "supercategory": "lesion", "value": 4},
    {"name": "calcification", "supercategory": "finding", "value": 5},
)
"""kwcoco categories with the ``value`` that the toy label maps hold: finding > lesion > cyst, tumor."""

NEXT_STEPS = """
Look at {sheet}. Then:
  ndvol ls {bundle}
  ndvol info {bundle} toy-0
  ndvol sample {bundle} --category lesion --window 16,32,32 -o lesions.png
  ndvol import YOUR_DICOM_OR_NIFTI_FOLDER my-bundle --dry-run
or in Python:
  import ndvol
  catalog = ndvol.open("{bundle}")
  sampler = ndvol.VolumeSampler(catalog, window=(16, 48, 48), strategy=ndvol.Positive("lesion"), seed=0)
  sampler[0].images["CT"].shape"""
"""What to do after ``ndvol demo``."""

_HOUNSFIELD = {1: 60, 2: 35, 3: 5, 4: 95, 5: 600}
_SHAPE = (40, 96, 112)
_SPACING = (3.0, 1.5, 1.5)


@dataclass(frozen=True, slots=True)
class Toy:
    """A phantom.

    Attributes
    ----------
    image : int16, CT-like values in HU with noise of 18 HU.
    labels : uint8 of the same shape; the values of `CATEGORIES`, 0 is background.
    """

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]


def make_toy(shape: Sequence[int], *, seed: int = 0) -> Toy:
    """A body of ellipsoids with organs, lesions inside the liver and a few calcifications.

    Parameters
    ----------
    shape : voxels per axis, any number of axes.
    seed : the same seed and shape give the same voxels.

    >>> toy = make_toy((24, 32), seed=1)
    >>> toy.image.shape, toy.image.dtype.name, sorted(set(toy.labels.ravel().tolist()))
    ((24, 32), 'int16', [0, 1, 2, 3, 4, 5])
    """
    rng = np.random.default_rng((seed, len(shape)))
    n = len(shape)
    # Coordinates from -1 to 1 along each axis, voxel centres.
    axes = np.meshgrid(*[(np.arange(s) + 0.5) / s * 2 - 1 for s in shape], indexing="ij", sparse=True)

    def ellipsoid(centre: NDArray[np.float64], radius: float | NDArray[np.float64]) -> NDArray[np.bool_]:
        radii = np.broadcast_to(radius, n)
        return np.asarray(sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) <= 1)

    labels = np.zeros(tuple(shape), np.uint8)
    wobble = rng.uniform(-0.05, 0.05, (3, n))
    liver_at = wobble[0] + np.resize([0.1, -0.15, -0.35], n)
    labels[ellipsoid(liver_at, np.resize([0.6, 0.45, 0.4], n))] = 1
    for side, offset in ((0.45, wobble[1]), (0.6, wobble[2])):
        centre = offset + np.resize([-0.1, 0.35, side], n)
        labels[ellipsoid(centre, 0.2) & (labels == 0)] = 2
    # At least two voxels across, so that a small phantom keeps its findings.
    smallest = 2.0 / min(shape)
    for value, count, size in ((3, 2, 0.10), (4, 3, 0.08), (5, 2, 0.03)):
        for _ in range(count):
            centre = liver_at + rng.uniform(-0.25, 0.25, n)
            labels[ellipsoid(centre, max(smallest, size * rng.uniform(0.8, 1.3)))] = value
    image = np.where(ellipsoid(np.zeros(n), 0.9), 40.0, -1000.0)
    for value, mean in _HOUNSFIELD.items():
        image[labels == value] = mean
    image += rng.normal(0, 18, image.shape)
    return Toy(image.round().astype(np.int16), labels)


def write_toy_sources(folder: str | Path, *, seed: int = 0) -> Path:
    """Write a small cohort of real files below `folder`, which is returned.

    - ``dicom/``: two CT series, one of them oblique, and ``dicom/defective``, which lacks a slice on purpose;
    - ``nifti/images`` and ``nifti/labels``: three volumes with label maps, one stored back to front;
    - ``pictures/images`` and ``pictures/labels``: one stack of 16-bit PNG files each;
    - ``categories.json``: the category table.
    """
    root = Path(folder)
    grid = Grid.regular("zyx", _SHAPE, spacing=_SPACING, origin=(-80, -70, -60))
    tilted = Grid("zyx", _SHAPE, _rotation(np.radians(15)) @ grid.affine)
    for name, where in (("axial", grid), ("oblique", tilted), ("defective", grid)):
        toy = make_toy(_SHAPE, seed=seed + len(name))
        files = write_dicom_series(root / "dicom" / name, toy.image, where, DicomOptions(seed=f"toy-{seed}-{name}"))
        if name == "defective":
            files[17].unlink()
    for k, where in enumerate((grid, tilted, grid.flip(0))):
        toy = make_toy(_SHAPE, seed=seed + 100 + k)
        flipped = k == 2
        for kind, array in (("images", toy.image), ("labels", toy.labels)):
            stored = array[::-1] if flipped else array
            write_nifti(root / "nifti" / kind / f"toy-{k}.nii.gz", stored, where)
    toy = make_toy(_SHAPE, seed=seed + 200)
    # Pictures hold no negative numbers: 1024 is added, as many exports do.
    write_pictures(root / "pictures" / "images" / "stack", (toy.image + 1024).clip(0).astype(np.uint16))
    write_pictures(root / "pictures" / "labels" / "stack", toy.labels)
    (root / "categories.json").write_text(json.dumps(CATEGORIES, indent=1), encoding="utf-8")
    return root


def _rotation(angle: float) -> NDArray[np.float64]:
    """4 x 4 rotation about the patient's left-right axis."""
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn
