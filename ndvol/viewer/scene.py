"""What the page must know to draw a case: its volumes, how their planes lie, and what labels mean. JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.catalog import CaseRecord, Catalog
from ndvol.display import category_colour, presets
from ndvol.display.planes import PlaneView, plane_views
from ndvol.geometry import Grid, Window
from ndvol.geometry.pyramid import level_factor
from ndvol.sampling.aligned import fits
from ndvol.viewer.tiles import is_colour, label_values, plane_axes, wire_type
from ndvol.volumes import Case, LabelVolume, Volume

PAGE = 200
"""Cases or objects in one answer; the page asks for more, or searches."""
SAMPLE_BLOCKS, SAMPLE_SIDE = 5, 16
"""Blocks per axis, and voxels per side of a block, that a large volume's range of values is taken from."""
RIGHT_ANGLE = 1e-4
"""Largest cosine between axes that are drawn at right angles: direction cosines are often stored with six digits."""
TURN_TOLERANCE = 0.1
"""Voxels by which a label volume may be off over the whole of an image and still be drawn over it, axis by axis."""


def content_key(record: CaseRecord) -> str:
    """What the addresses of a case's tiles carry, so that they may be kept; empty where no hash is known."""
    return record.sha256[:16]


def bundle_facts(catalog: Catalog, case: str) -> dict[str, Any]:
    """The catalogue as the page's frame needs it; `case` is to be shown first."""
    tree = catalog.categories
    return {
        "path": catalog.path,
        "case": case,
        "cases": len(catalog),
        "categories": [
            {"name": name, "depth": len(tree.ancestors(name)), "colour": list(category_colour(name, tree.names))}
            for name in tree
        ],
    }


def case_rows(catalog: Catalog, find: str, first: int) -> dict[str, Any]:
    """A page of the cases whose name holds `find`, in any case of its letters."""
    names = [name for name in catalog if find.casefold() in name.casefold()]
    rows = [
        {
            "case": record.name,
            "shape": list(record.shape),
            "images": list(record.images or ("image",)),
            "objects": len(record.objects),
        }
        for record in (catalog.record(name) for name in names[first : first + PAGE])
    ]
    return {"total": len(names), "first": first, "rows": rows}


def case_scene(catalog: Catalog, record: CaseRecord, case: Case) -> dict[str, Any]:
    """The volumes of a case as the page draws them, the first image first."""
    return {
        "case": record.name,
        "key": content_key(record),
        "images": [_volume(volume) for volume in case.images.values()],
        "labels": [
            {
                **_volume(label),
                "values": [
                    {"value": v, "category": label.categories[v], "colour": list(_colour(catalog, label, v))}
                    for v in label_values(label)
                ],
                "maps": {name: axis_map(image.grid, label.grid) for name, image in case.images.items()},
            }
            for label in case.labels.values()
        ],
    }


def object_rows(catalog: Catalog, record: CaseRecord, find: str, first: int) -> dict[str, Any]:
    """A page of the objects whose category's name holds `find`, the largest first."""
    names, objects = catalog.categories.names, record.objects
    wanted = np.array([find.casefold() in name.casefold() for name in names], bool)
    found = np.flatnonzero(wanted[objects.category]) if len(objects) else np.zeros(0, np.int64)
    found = found[np.argsort(-objects.voxels[found], kind="stable")]
    rows = [
        {
            "object": k,
            "category": names[objects.category[k]],
            "colour": list(category_colour(names[objects.category[k]], names)),
            "volume": record.labels[objects.label[k]] if objects.label[k] >= 0 else "",
            "voxels": int(objects.voxels[k]),
            "axes": record.axes,
            "start": objects.start[k].tolist(),
            "stop": objects.stop[k].tolist(),
        }
        for k in found[first : first + PAGE].tolist()
    ]
    return {"total": len(found), "first": first, "rows": rows}


def preset_rows(volume: Volume) -> list[dict[str, Any]]:
    """Ranges of values to show, the best first; see `ndvol.display.presets`."""
    return [{"name": p.name, "low": p.low, "high": p.high} for p in presets(volume, sample_values(volume))]


def sample_values(volume: Volume) -> NDArray[Any]:
    """Values from all over the coarsest level of a volume, at three of its times: blocks that lie evenly apart."""
    level = volume.levels - 1
    grid = volume.level_grid(level)
    spans = []
    for axis, n in zip(grid.axes, grid.shape, strict=True):
        if axis == "t":
            # The first volume of a diffusion series is far brighter than the rest; of a perfusion, the middle.
            spans.append([(at, 1) for at in sorted({0, n // 2, n - 1})])
        elif axis == "c" or n <= SAMPLE_BLOCKS * SAMPLE_SIDE:
            spans.append([(0, n)])
        else:
            starts = np.linspace(0, n - SAMPLE_SIDE, SAMPLE_BLOCKS).astype(int).tolist()
            spans.append([(start, SAMPLE_SIDE) for start in starts])
    blocks: list[list[tuple[int, int]]] = [[]]
    for along in spans:
        blocks = [[*block, span] for block in blocks for span in along]
    windows = [Window(tuple(a for a, _ in block), tuple(n for _, n in block)) for block in blocks]
    return np.concatenate([volume.read(window, level=level).ravel() for window in windows])


def axis_map(image: Grid, other: Grid) -> dict[str, Any] | None:
    """How indices of `image` become indices of `other`, axis by axis: ``other = scale * image + offset``.

    None where they do not: the grids are turned against each other, or it is not known where one lies.

    >>> fine = Grid.regular("zyx", (4, 8, 8), spacing=(2, 1, 1))
    >>> axis_map(fine, Grid.regular("zyx", (4, 4, 4), spacing=(2, 2, 2), origin=(0.5, 0.5, 0)))
    {'scale': [1.0, 0.5, 0.5], 'offset': [0.0, -0.25, -0.25]}
    """
    n = len(image.spatial)
    if [image.axes[i] for i in image.spatial] != [other.axes[i] for i in other.spatial]:
        return None
    if fits(other, image):
        return {"scale": [1.0] * n, "offset": [0.0] * n}
    if not image.frame == other.frame == "LPS":
        return None
    matrix = np.linalg.solve(other.affine, image.affine)
    scale, offset = np.diag(matrix)[:n], matrix[:n, n]
    turned = np.abs(matrix[:n, :n] - np.diag(scale)) @ np.array([image.shape[i] for i in image.spatial])
    if turned.max() > TURN_TOLERANCE or scale.min() <= 0:
        return None
    return {"scale": scale.round(9).tolist(), "offset": offset.round(9).tolist()}


def _volume(volume: Volume) -> dict[str, Any]:
    grid = volume.grid
    levels = [volume.level_grid(k) for k in range(volume.levels)]
    return {
        "name": volume.name,
        "axes": grid.axes,
        "shape": list(grid.shape),
        "dtype": str(volume.dtype),
        "wire": wire_type(volume),
        "colour": is_colour(volume),
        "spacing": list(grid.spacing),
        "unit": grid.unit,
        "frame": grid.frame,
        "affine": grid.affine.tolist(),
        "inverse": np.linalg.inv(grid.affine).tolist(),
        "levels": [{"shape": list(g.shape), "factor": list(level_factor(grid, g))} for g in levels],
        "planes": [_plane(grid, view) for view in plane_views(grid)],
        "modality": str(volume.attributes.get("modality") or ""),
        "value_unit": str(volume.attributes.get("value_unit") or ""),
    }


def _plane(grid: Grid, view: PlaneView) -> dict[str, Any]:
    rows, columns = plane_axes(grid.axes, view.across)
    steps = screen_steps(grid, view)
    left, right, top, bottom = view.letters
    return {
        "name": view.name,
        "across": view.across,
        "rows": rows,
        "columns": columns,
        "row_step": steps[rows],
        "column_step": steps[columns],
        "letters": {"left": left, "right": right, "top": top, "bottom": bottom},
    }


def screen_steps(grid: Grid, view: PlaneView) -> dict[str, list[float]]:
    """How far right and down on the screen, in the grid's unit, a step of one voxel leads, for the view's two axes.

    The axis that runs to the right is level; the other one leans where the two are not at right angles (a tilted
    gantry), so that the plane has the shape that it has in the body.

    >>> from ndvol.display.planes import plane_views
    >>> grid = Grid.regular("zyx", (4, 5, 6), spacing=(3, 1, 0.5))
    >>> screen_steps(grid, plane_views(grid)[1])
    {'z': [0.0, -3.0], 'x': [0.5, 0.0]}
    """
    names = [grid.axes[i] for i in grid.spatial]
    signs = [-1.0 if flip else 1.0 for flip in view.flips]
    down, right = (sign * grid.affine[:-1, names.index(axis)] for axis, sign in zip(view.axes, signs, strict=True))
    width, height = float(np.linalg.norm(right)), float(np.linalg.norm(down))
    lean = float(down @ right) / width
    lean = lean if abs(lean) > RIGHT_ANGLE * height else 0.0
    fall = float(np.sqrt(height**2 - lean**2))
    return {
        view.axes[0]: [signs[0] * lean + 0.0, signs[0] * fall],
        view.axes[1]: [signs[1] * width, 0.0],
    }


def _colour(catalog: Catalog, label: LabelVolume, value: int) -> Sequence[int]:
    return category_colour(label.categories[value], catalog.categories.names, otherwise=value)
