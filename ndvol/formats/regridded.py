"""A volume on another grid than its source's: turned, deskewed, with interpolated planes; and what then says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.formats import VolumeData
from ndvol.formats.values import Number
from ndvol.geometry import Reorientation
from ndvol.geometry.grid import SPATIAL_AXES
from ndvol.geometry.resampling import Padding, deskewing

_PLANE_LISTS = ("missing_planes", "interpolated_planes", "source_planes")


def plane_facts(axis: str = "z", **lists: Iterable[float]) -> dict[str, str]:
    """Attributes that list planes by their index along `axis`, see `ndvol.formats.ReadOptions`.

    >>> plane_facts(missing_planes=[2, 5])
    {'planes_axis': 'z', 'missing_planes': '[2, 5]'}
    """
    texts = {name: json.dumps([int(i) if i == int(i) else round(i, 6) for i in at]) for name, at in lists.items()}
    return {"planes_axis": axis, **texts}


def source_planes(attributes: Mapping[str, Any], axes: str) -> tuple[int, list[float]] | None:
    """The axis along which planes were interpolated, as a position in `axes`, and where the source's planes lie."""
    if "source_planes" not in attributes:
        return None
    return axes.index(attributes["planes_axis"]), json.loads(attributes["source_planes"])


def turned(data: VolumeData, turn: Reorientation) -> VolumeData:
    """The volume in another orientation: array, grid, and the attributes that list planes with the axis they name."""
    grid = turn.grid(data.grid)
    facts = dict(data.attributes)
    if "planes_axis" in facts:
        names = [a for a in data.grid.axes if a in SPATIAL_AXES]
        k = turn.order.index(names.index(str(facts["planes_axis"])))
        last = grid.shape[grid.spatial[k]] - 1
        lists: dict[str, list[float]] = {n: json.loads(str(facts[n])) for n in _PLANE_LISTS if n in facts}
        if turn.flips[k]:
            lists = {name: [last - i for i in reversed(at)] for name, at in lists.items()}
        facts |= plane_facts(names[k], **lists)
    return replace(data, array=turn.array(data.array, axes=data.grid.axes), grid=grid, attributes=facts)


def deskewed(data: VolumeData, *, as_label: bool = False) -> VolumeData:
    """The volume on an orthogonal grid, see `ndvol.formats.ReadOptions`; as it is where it has one.

    Raises
    ------
    GeometryError : see `ndvol.geometry.resampling.deskewing`.
    """
    deskew = deskewing(data.grid)
    if deskew is None:
        return data
    fill = 0 if as_label else fill_value(_lowest(data.array), data.array.dtype, data.attributes)
    how = (
        "labels to the nearest pixel" if as_label else "values unchanged" if deskew.is_exact else "values interpolated"
    )
    return replace(
        data,
        array=deskew.array(data.array, fill_value=fill, nearest=as_label, padding=padding_range(data.attributes)),
        grid=deskew.grid,
        attributes={**data.attributes, "deskewed_degrees": round(deskew.degrees, 3), "deskewed_fill": fill},
        warnings=(
            *data.warnings,
            f"deskewed: the planes are shifted to undo a shear of {deskew.degrees:.1f} degrees, {how}; what no plane "
            f"covers holds {fill}",
        ),
    )


def fill_value(lowest: Number, dtype: np.dtype[Any], attributes: Mapping[str, Any]) -> Number:
    """What stands where the source has no voxel: its padding if a volume of `dtype` can hold it, else `lowest`."""
    stated = attributes.get("PixelPaddingValueOutput")
    if isinstance(stated, int | float) and np.can_cast(np.min_scalar_type(stated), dtype):
        return stated
    return lowest


def padding_range(attributes: Mapping[str, Any]) -> Padding | None:
    """The padding of a volume, and the limit of its range (PS3.3 C.7.5.1.1.2)."""
    stated = attributes.get("PixelPaddingValueOutput")
    return None if stated is None else (stated, attributes.get("PixelPaddingRangeLimitOutput", stated))


def _lowest(array: NDArray[Any]) -> Number:
    """The lowest finite value; 0 where there is none."""
    if array.dtype.kind != "f":
        return int(array.min())
    value = float(array.min(where=np.isfinite(array), initial=np.inf))
    return value if np.isfinite(value) else 0.0
