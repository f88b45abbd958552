"""A sample as HTML: its target in words, and its patches as pictures with the outlines of their labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ndvol.display import facts_html, figure, label_thumbnail, legend, more, or_reason, page, plane_of, thumbnail
from ndvol.display.thumbnails import Thumbnail
from ndvol.geometry import Grid, Window
from ndvol.markup import Html, join, text
from ndvol.tables import times
from ndvol.volumes import ArraySource, Volume

if TYPE_CHECKING:
    from ndvol.sampling.sample import Sample

MOST_ANNOTATIONS = 8


def voxel_of_interest(sample: Sample) -> tuple[int, ...]:
    """The drawn voxel in the coordinates of the patch, else the middle of what lies in the volume."""
    target = sample.target
    if target.point is not None:
        return tuple(p - s for p, s in zip(target.point, target.window.start, strict=True))
    sides = zip(sample.valid.start, sample.valid.shape, target.window.shape, strict=True)
    return tuple(min(a + n // 2, w - 1) for a, n, w in sides)


def sample_html(sample: Sample) -> Html:
    """What was asked for, what was found, and every patch through the drawn voxel."""
    target = sample.target
    categories = {a.value: a.category for a in sample.annotations if a.label}

    def tile(kind: str, name: str, patch: NDArray[Any]) -> Html:
        return or_reason(lambda: figure(name, _tile(sample, kind, name, patch)))

    def tiles() -> Html:
        kinds = (("images", sample.images), ("labels", sample.labels))
        return join((tile(kind, name, patch) for kind, patches in kinds for name, patch in patches.items()), " ")

    def seen() -> Html:
        shown = [f"{a.category} ({a.visible:.0%} of {a.voxels:,} voxels)" for a in sample.annotations]
        return text(f"{', '.join(shown[:MOST_ANNOTATIONS]) or 'no objects'} {more(len(shown) - MOST_ANNOTATIONS)}")

    return page(
        f"Sample of {target.case}: {target.role}",
        lambda: facts_html(_facts(sample)),
        tiles,
        lambda: legend(categories),
        seen,
    )


def _facts(sample: Sample) -> dict[str, object]:
    target, grid = sample.target, sample.grid
    asked = target.category or ""
    category = f"{asked} ({target.leaf})" if target.leaf not in (None, asked) else asked
    spacing = f"{times(round(s, 6) for s in grid.spacing)} {grid.unit}" if grid.unit != "unknown" else "unknown"
    return {
        "category": category,
        "window": f"{grid.axes} {_span(target.window)}",
        "level": target.level or "",
        "spacing": spacing,
        "valid": "all" if sample.valid == Window.full(grid.shape) else f"{_span(sample.valid)}; the rest is padding",
    }


def _span(window: Window) -> str:
    """
    >>> _span(Window((-3, 0), (8, 4)))
    '-3:5, 0:4'
    """
    return ", ".join(f"{a}:{b}" for a, b in zip(window.start, window.stop, strict=True))


def _tile(sample: Sample, kind: str, name: str, patch: NDArray[Any]) -> Thumbnail:
    """A patch through the drawn voxel; an image with the outlines of labels on its grid, and what is valid of it."""
    grid, valid = _place(sample, f"{kind}/{name}", patch)
    at = _point(sample, grid)
    # A patch does not carry its modality; the importer names images after it.
    volume = Volume(name, grid, ArraySource(patch), {"modality": name})
    if kind == "labels":
        return label_thumbnail(volume, at)
    picture = thumbnail(volume, at)
    for label, values in sample.labels.items():
        own, _ = _place(sample, f"labels/{label}", values)
        if own.matches(grid):
            picture = picture.outlined(
                plane_of(values, own.axes, dict(zip(own.axes, _point(sample, own), strict=True)))
            )
    rows, columns = (valid[a] for a in "yx")
    inside = all(first <= p < last for p, (first, last) in zip(at, (valid[a] for a in grid.axes), strict=True))
    if not inside:
        return replace(picture, caption=f"{picture.caption}; padding")
    whole = all(valid[a] == (0, n) for a, n in zip(grid.axes, grid.shape, strict=True) if a in "yx")
    return picture if whole else picture.boxed(rows, columns)


def _place(sample: Sample, key: str, patch: NDArray[Any]) -> tuple[Grid, dict[str, tuple[int, int]]]:
    """The grid of a patch, and the first and last + 1 valid index along each of its axes."""
    if key in sample.places:
        grid, valid = sample.places[key].grid, sample.places[key].valid
        return grid, dict(zip(grid.axes, zip(valid.start, valid.stop, strict=True), strict=True))
    own, window = sample.grid, sample.valid
    axes = _axes(own, patch.shape)
    known = dict(zip(own.axes, zip(window.start, window.stop, strict=True), strict=True))
    return Grid(axes, patch.shape, own.affine, own.frame, own.unit), {
        a: known.get(a, (0, n)) for a, n in zip(axes, patch.shape, strict=True)
    }


def _axes(grid: Grid, shape: tuple[int, ...]) -> str:
    """The axes of a patch on `grid`: those of the window, but t or c may be missing or added.

    >>> _axes(Grid.regular("tyx", (5, 8, 8)), (8, 8)), _axes(Grid.regular("tyx", (5, 8, 8)), (3, 8, 8))
    ('yx', 'cyx')
    """
    space = "".join(grid.axes[i] for i in grid.spatial)
    lengths = dict(zip(grid.axes, grid.shape, strict=True))
    leading = len(shape) - len(space)
    if leading != 1:
        return "tc"[2 - leading :] + space if leading else space
    return next((a for a in "tc" if lengths.get(a) == shape[0]), "c") + space


def _point(sample: Sample, grid: Grid) -> tuple[int, ...]:
    """The voxel of interest in the patch of `grid`."""
    by_axis = dict(zip(sample.grid.axes, voxel_of_interest(sample), strict=True))
    here = [by_axis[sample.grid.axes[i]] for i in sample.grid.spatial]
    there = np.rint(grid.index(sample.grid.world(here))).astype(int).tolist()
    by_axis |= dict(zip((grid.axes[i] for i in grid.spatial), there, strict=True))
    return tuple(min(max(by_axis.get(a, 0), 0), n - 1) for a, n in zip(grid.axes, grid.shape, strict=True))
