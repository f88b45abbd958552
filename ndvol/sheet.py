"""A contact sheet of samples: what the sampler draws, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ndvol.catalog import Catalog
from ndvol.display import category_colour, grey_range, outline, plane_of, to_grey
from ndvol.label_index import label_values
from ndvol.sampler import Sample
from ndvol.sampling.tiles import voxel_of_interest

TILE = 128
"""Pixels of a patch's longer side on the sheet."""
_MARGIN, _CAPTION, _COLUMNS = 6, 14, 16
_FRAMES = {"positive": (76, 175, 80), "negative": (66, 133, 244), "any": (150, 150, 150)}
_PAPER, _INK = (24, 26, 30), (225, 225, 225)


def contact_sheet(samples: Sequence[Sample], path: str | Path, catalog: Catalog) -> Path:
    """Write one PNG with a tile per sample: a plane of its first image with the outlines of its labels.

    Parameters
    ----------
    samples : shown in this order, row by row; a positive has a green frame, a negative a blue one.
    catalog : that they were drawn from; a category keeps its outline colour over the whole sheet.

    Returns
    -------
    `path`.
    """
    columns = min(_COLUMNS, max(1, len(samples)))
    rows = -(-len(samples) // columns)
    cell = TILE + 2 * _MARGIN
    size = (columns * cell + _MARGIN, rows * (cell + _CAPTION) + _MARGIN + 24)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(10)
    draw.text((_MARGIN * 2, 6), _title(samples), _INK, ImageFont.load_default(12))
    for k, sample in enumerate(samples):
        x = k % columns * cell + _MARGIN
        y = k // columns * (cell + _CAPTION) + 24
        frame = _FRAMES[sample.target.role]
        draw.rectangle((x, y, x + TILE + 3, y + TILE + 3), outline=frame, width=2)
        tile = Image.fromarray(draw_patch(sample, catalog))
        sheet.paste(tile, (x + 2 + (TILE - tile.width) // 2, y + 2 + (TILE - tile.height) // 2))
        caption = f"{sample.target.category or sample.target.role}, {sample.target.case}"
        draw.text((x + 2, y + TILE + 4), _shorten(caption, font), frame, font)
    sheet.save(path)
    return Path(path)


def draw_patch(sample: Sample, catalog: Catalog) -> NDArray[np.uint8]:
    """One plane of a sample as an RGB picture of at most `TILE` pixels a side, outlines included."""
    name, patch = next(iter(sample.images.items()))
    volume = catalog[sample.target.case].images[name]
    start = dict(zip(sample.grid.axes, voxel_of_interest(sample), strict=True))
    plane = plane_of(patch, volume.axes, start)
    picture = _fit(to_grey(plane, grey_range(volume, plane)))
    picture = np.repeat(picture[..., None], 3, -1) if picture.ndim == 2 else picture.copy()
    for label_name, label in sample.labels.items():
        axes = catalog[sample.target.case].labels[label_name].axes
        values = _fit(plane_of(label, axes, start))
        for value in label_values(values):
            picture[outline(values == value)] = _colour(sample, label_name, value, catalog.categories.names)
    return np.asarray(picture)


def _fit(plane: NDArray[Any]) -> NDArray[Any]:
    """`plane` enlarged or thinned by a whole number, so that its longer side comes close to `TILE`."""
    zoom, step = max(1, TILE // max(plane.shape[:2])), -(-max(plane.shape[:2]) // TILE)
    return plane.repeat(zoom, 0).repeat(zoom, 1)[::step, ::step]


def _colour(sample: Sample, label: str, value: int, names: Sequence[str]) -> tuple[int, int, int]:
    category = next((a.category for a in sample.annotations if (a.label, a.value) == (label, value)), "")
    return category_colour(category, names, otherwise=value)


def _title(samples: Sequence[Sample]) -> str:
    roles = [s.target.role for s in samples]
    counts = ", ".join(f"{roles.count(r)} {r}" for r in _FRAMES if r in roles)
    shape = " x ".join(str(n) for n in samples[0].target.window.shape) if samples else "0"
    return f"{counts} windows of {shape} voxels; the plane through the drawn voxel, outlines are labels"


def _shorten(text: str, font: Any) -> str:
    while font.getlength(text) > TILE and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    return text
