"""The preview of a case: one plane as a PNG of exactly y × x pixels, so that boxes drawn on it fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ndvol.geometry import Window
from ndvol.importing.record import images_in_order
from ndvol.store import open_case
from ndvol.volumes import Volume

PERCENTILES = (1.0, 99.0)
"""Grey values between which a picture runs from black to white …"""
SOFT_TISSUE_HU = (-160.0, 240.0)
"""… but for CT in Hounsfield units, where air would take the whole range: the usual soft-tissue window."""


def write_preview(case_path: Path, png_path: Path) -> None:
    """Write the plane with most labelled voxels, or the middle one, of the first image; replaces `png_path` whole."""
    case = open_case(case_path)
    image = next(iter(images_in_order(case).values()))
    labels = [label for label in case.labels.values() if label.grid.matches(image.grid)]
    plane = read_plane(image, _best_plane(image, labels))
    part = png_path.with_name(png_path.name + ".part")
    Image.fromarray(to_grey(plane, grey_range(image, plane))).save(part, format="PNG")
    part.replace(png_path)


def read_plane(volume: Volume, start: tuple[int, ...]) -> NDArray[Any]:
    """The y-x plane (with its c axis last, if any) whose window begins at `start`."""
    axes = volume.axes
    shape = tuple(volume.shape[i] if a in "cyx" else 1 for i, a in enumerate(axes))
    plane = volume.read(Window(tuple(0 if a in "cyx" else s for a, s in zip(axes, start, strict=True)), shape))
    plane = plane.reshape([n for a, n in zip(axes, shape, strict=True) if a in "cyx"])
    return np.moveaxis(plane, 0, -1) if "c" in axes else plane


def grey_range(volume: Volume, plane: NDArray[Any]) -> tuple[float, float]:
    """The values of `plane`, from `volume`, to show as black and as white."""
    finite = plane[np.isfinite(plane)]
    if not finite.size:
        return 0.0, 1.0
    # Below -500 only Hounsfield units go; an importer that knows no unit still knows the modality.
    if volume.attributes.get("modality") == "CT" and finite.min() < -500:
        return SOFT_TISSUE_HU
    low, high = np.percentile(finite, PERCENTILES)
    return float(low), float(high)


def to_grey(plane: NDArray[Any], shown: tuple[float, float]) -> NDArray[np.uint8]:
    """A plane of (y, x) or (y, x, c) as uint8 between the two values `shown`; 8-bit colour stays as it is."""
    if plane.ndim == 3 and plane.shape[-1] == 3 and plane.dtype == np.uint8:
        return np.ascontiguousarray(plane)
    grey = plane.mean(-1) if plane.ndim == 3 else plane.astype(np.float64)
    low, high = shown
    scaled = (np.nan_to_num(grey, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(scaled * 255, 0, 255).astype(np.uint8))


def _best_plane(image: Volume, labels: list[Any]) -> tuple[int, ...]:
    middle = tuple(n // 2 for n in image.shape)
    if "z" not in image.axes or not labels or labels[0].shape != image.shape:
        return middle
    z = image.axes.index("z")
    others = tuple(i for i in range(image.ndim) if i != z)
    counts = np.count_nonzero(np.asarray(labels[0]), axis=others)
    best = int(counts.argmax()) if counts.any() else middle[z]
    return (*middle[:z], best, *middle[z + 1 :])
