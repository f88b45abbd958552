"""Zarr (v2 and v3) and OME-Zarr, read in place through the package `zarr`, an extra."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GridError, OptionError, SourceError
from ndvol.geometry import Grid, Window
from ndvol.volumes import Volume, valid_window

_MARKS = ("zarr.json", ".zarray", ".zgroup")
_UNITS = {"micrometer": ("um", 1.0), "nanometer": ("um", 1e-3), "millimeter": ("mm", 1.0), "centimeter": ("mm", 10.0)}
"""OME-NGFF's names of units (UDUNITS-2), as ours and their size in these."""


def is_zarr(path: Path) -> bool:
    """True for a folder that holds a Zarr group or array."""
    return any((path / mark).is_file() for mark in _MARKS)


class ZarrSource:
    """A `PatchSource` over arrays of a Zarr folder, one per level; pickles as their paths.

    Windows are read from the folder as it is at that moment.
    """

    def __init__(self, path: Path, arrays: tuple[str, ...]) -> None:
        self._path, self._names = path, arrays
        self._opened: tuple[int, list[Any]] = (0, [])
        levels = self._arrays()
        first = levels[0]
        if first.dtype.kind not in "biuf" or not first.shape:
            raise SourceError(f"{arrays[0]!r} in {path} holds no numbers", got=first.dtype, code="voxel-type")
        if any(level.dtype != first.dtype or len(level.shape) != len(first.shape) for level in levels):
            raise SourceError(f"the levels in {path} differ in type or axes", code="levels")
        self.shape: tuple[int, ...] = tuple(int(n) for n in first.shape)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8) if first.dtype.kind == "b" else first.dtype.newbyteorder("=")

    @property
    def levels(self) -> int:
        return len(self._names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": (0, [])}

    def _arrays(self) -> list[Any]:
        if self._opened[0] != os.getpid():
            root = _open(self._path)
            self._opened = os.getpid(), [_array(self._path, root, name) for name in self._names]
        return self._opened[1]

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """See `PatchSource`; raises `SourceError` where a chunk cannot be decoded."""
        array = self._arrays()[level]
        clip = window.clip(array.shape)
        if clip.shape != window.shape:
            out[...] = fill_value
        if 0 not in clip.shape:
            try:
                out[clip.placement] = array[clip.inside]
            except Exception as error:  # codecs raise whatever the bytes provoke
                raise SourceError(f"cannot read {self._names[level]!r} of {self._path}", got=error) from error
        return valid_window(window, array.shape)


def open_zarr(path: Path, dataset: str = "", *, axes: str = "") -> Volume:
    """A Zarr array as a volume, or the image of an OME-Zarr with its pyramid levels, on a ``LOCAL`` grid.

    Parameters
    ----------
    dataset : path of the array or OME image in the folder; the folder itself by default.
    axes : of an array, in storage order, from ``tczyx``; an OME image says its own.

    Raises
    ------
    OptionError : when the package `zarr` is missing, or the axes are needed and not given.
    GridError : when the axes do not fit the array.
    """
    node = _open(path)
    for part in (p for p in dataset.split("/") if p):
        if hasattr(node, "shape") or part not in node:
            raise SourceError(f"there is no {dataset!r} in {path}", code="unknown-name")
        node = node[part]
    name = dataset.strip("/")
    if not hasattr(node, "shape"):
        return _open_ome(path, node, name, axes)
    if not axes:
        raise OptionError(f"say the axes of the array {name!r} in {path}", expected=f"{len(node.shape)} of 'tczyx'")
    if len(axes) != len(node.shape):
        raise GridError(f"the axes do not fit {name!r}", got=f"{axes!r} for shape {node.shape}")
    source = ZarrSource(path, (name,))
    return Volume("image", Grid.regular(axes, source.shape, frame="LOCAL"), source)


def _open_ome(path: Path, group: Any, name: str, axes: str) -> Volume:
    """The first multiscale image of a group: OME-NGFF 0.4 (in the attributes) and 0.5 (below ``ome``)."""
    attributes = dict(group.attrs)
    try:
        image = dict(attributes.get("ome", attributes))["multiscales"][0]
        said = image["axes"]
        found = "".join(a["name"] for a in said)
        levels = tuple("/".join(filter(None, (name, d["path"].strip("/")))) for d in image["datasets"])
        transforms = [*image["datasets"][0]["coordinateTransformations"], *image.get("coordinateTransformations", ())]
        steps = _scale(transforms, len(said))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise OptionError(
            f"{name or '/'!r} in {path} is no OME image", got=repr(error), hint="name an array in it with dataset=…"
        ) from error
    if axes and axes != found:
        raise OptionError(f"the axes of {path} are others", got=axes, expected=found)
    source = ZarrSource(path, levels)
    return Volume("image", _grid(said, found, source.shape, steps), source)


def _scale(transforms: Iterable[Mapping[str, Any]], count: int) -> NDArray[np.float64]:
    """All scales multiplied, one factor per axis."""
    factors = np.ones(count)
    for transform in transforms:
        if transform["type"] == "scale":
            factors = factors * np.asarray(transform["scale"], np.float64).reshape(count)
    return factors


def _grid(said: list[Mapping[str, Any]], axes: str, shape: tuple[int, ...], steps: NDArray[np.float64]) -> Grid:
    """Steps in the unit that all spatial axes share; the position is not taken over."""
    spatial = [k for k, a in enumerate(axes) if a in "zyx"]
    units = {_UNITS.get(str(said[k].get("unit")), ("unknown", 1.0)) for k in spatial}
    if len({unit for unit, _ in units}) != 1 or "unknown" in {unit for unit, _ in units}:
        return Grid.regular(axes, shape, frame="LOCAL")
    scales = [_UNITS[str(said[k].get("unit"))] for k in spatial]
    spacing = [float(steps[k]) * size for k, (_, size) in zip(spatial, scales, strict=True)]
    return Grid.regular(axes, shape, spacing=spacing, frame="LOCAL", unit=scales[0][0])


def _open(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise OptionError(
            f"{path} needs the package zarr", got=error, hint='pip install "ndvol[zarr]"', code="missing-extra"
        ) from error
    try:
        return zarr.open(str(path), mode="r")
    except Exception as error:  # zarr raises whatever the metadata provoke
        raise SourceError(f"{path} cannot be read as Zarr", got=error, code="unreadable") from error


def _array(path: Path, root: Any, name: str) -> Any:
    try:
        node = root[name] if name else root
    except Exception as error:  # zarr raises whatever the metadata provoke
        raise SourceError(f"there is no array {name!r} in {path}", got=error, code="unknown-name") from error
    if not hasattr(node, "shape"):
        raise SourceError(f"{name!r} in {path} is no array", code="unknown-name")
    return node
