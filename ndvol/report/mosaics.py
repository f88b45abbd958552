"""Mosaics: the planes of an image of a case, with the outlines of its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord
from ndvol.display import PlaneView, Preset, plane_views, presets, read_view, view_pixel, view_steps
from ndvol.report.places import labels_on, place_to_look
from ndvol.report.planes import LIMIT, Pixels, outline_paths, pack_plane
from ndvol.volumes import Case, LabelVolume, Volume

IMAGES = 4
"""Images of a case that are shown; the page says how many there are."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One plane.

    Attributes
    ----------
    view : how it lies on the screen.
    pixels : its values.
    size : (down, right) in voxels of the image; outlines are in these.
    extent : (down, right) in the unit of the grid.
    number, count : which plane it is, from 1 on, and of how many; 1 of 1 where the image is a single plane.
    cross : (down, right) of the voxel that all planes go through, in voxels from the picture's corner to its centre.
    outlines : category and SVG path data.
    """

    view: PlaneView
    pixels: Pixels
    size: tuple[int, int]
    extent: tuple[float, float]
    number: int
    count: int
    cross: tuple[float, float]
    outlines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Mosaic:
    """The pictures of one image.

    Attributes
    ----------
    image : its name. presets : to look at it with, none for colours. pictures : its planes.
    where : the planes' place along axes that are not on the screen, ``t 3 of 9``, or empty.
    labels : names of the label volumes whose outlines are drawn.
    """

    image: str
    presets: tuple[Preset, ...]
    pictures: tuple[Picture, ...]
    where: str
    labels: tuple[str, ...]


def draw_mosaics(record: CaseRecord, case: Case) -> tuple[Mosaic, ...]:
    """The mosaics of the first `IMAGES` images of a case; reads planes, never a volume."""
    return tuple(draw_mosaic(record, case, image) for image in [*case.images.values()][:IMAGES])


def draw_mosaic(record: CaseRecord, case: Case, image: Volume) -> Mosaic:
    """The planes of an image through the voxel at which most is to be seen."""
    index, labels = place_to_look(record, case, image), labels_on(case, image)
    views = plane_views(image.grid) if 0 not in image.shape else ()
    planes = [_read(image, view, index) for view in views]
    ranges = presets(image, np.concatenate([plane.ravel() for plane in planes])) if planes else ()
    pixels = [pack_plane(plane, ranges) for plane in planes]
    pictures = tuple(_picture(image, labels, index, *shown) for shown in zip(views, pixels, strict=True))
    return Mosaic(
        image.name,
        () if any(p.kind == "rgb" for p in pixels) else ranges,
        pictures,
        "".join(f"t {index[i] + 1} of {image.shape[i]}" for i, a in enumerate(image.axes) if a == "t"),
        tuple(label.name for label in labels),
    )


def _picture(
    image: Volume, labels: Sequence[LabelVolume], index: tuple[int, ...], view: PlaneView, pixels: Pixels
) -> Picture:
    outlines: dict[str, str] = {}
    for label in labels:
        at = tuple(index[image.axes.index(a)] for a in label.axes)
        for name, path in outline_paths(read_view(label, view, at), label.categories):
            outlines[name] = outlines.get(name, "") + path
    down, right = (image.shape[image.axes.index(a)] for a in view.axes)
    steps, pixel = view_steps(image.grid, view), view_pixel(image.grid, view, index)
    across = [image.axes.index(a) for a in view.across]
    return Picture(
        view,
        pixels,
        (down, right),
        (down * steps[0], right * steps[1]),
        index[across[0]] + 1 if across else 1,
        image.shape[across[0]] if across else 1,
        (pixel[0] + 0.5, pixel[1] + 0.5),
        tuple(outlines.items()),
    )


def _read(image: Volume, view: PlaneView, index: tuple[int, ...]) -> NDArray[Any]:
    """The plane through a voxel, on the coarsest level that still fills a picture."""
    shape, best = image.shape, 0
    # Levels whose place is not known have no grid.
    for level in range(1, min(image.levels, len(image.coarser) + 1)):
        coarse = image.level_grid(level).shape
        if all(coarse[k] >= min(LIMIT, image.shape[k]) for k in map(image.axes.index, view.axes)):
            shape, best = coarse, level
    at = tuple(min(i * n // m, n - 1) for i, n, m in zip(index, shape, image.shape, strict=True))
    return read_view(image, view, at, level=best)
