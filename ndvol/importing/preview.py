"""The preview of a case: one plane as a PNG of exactly y × x pixels, so that boxes drawn on it fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ndvol.display import grey_range, read_plane, to_grey
from ndvol.importing.record import images_in_order
from ndvol.store import open_case
from ndvol.volumes import Volume


def write_preview(case_path: Path, png_path: Path) -> None:
    """Write the plane with most labelled voxels, or the middle one, of the first image; replaces `png_path` whole."""
    case = open_case(case_path)
    image = next(iter(images_in_order(case).values()))
    labels = [label for label in case.labels.values() if label.grid.matches(image.grid)]
    plane = read_plane(image, _best_plane(image, labels))
    part = png_path.with_name(png_path.name + ".part")
    Image.fromarray(to_grey(plane, grey_range(image, plane))).save(part, format="PNG")
    part.replace(png_path)


def _best_plane(image: Volume, labels: list[Any]) -> tuple[int, ...]:
    middle = tuple(n // 2 for n in image.shape)
    if "z" not in image.axes or not labels or labels[0].shape != image.shape:
        return middle
    z = image.axes.index("z")
    others = tuple(i for i in range(image.ndim) if i != z)
    counts = np.count_nonzero(np.asarray(labels[0]), axis=others)
    best = int(counts.argmax()) if counts.any() else middle[z]
    return (*middle[:z], best, *middle[z + 1 :])
