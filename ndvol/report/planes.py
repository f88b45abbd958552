"""Planes as a page carries them: values to be windowed in the browser, and outlines as vectors."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ndvol.display import Preset
from ndvol.label_index import label_values

LIMIT = 256
"""Most pixels of a picture along an axis; larger planes are averaged down to it."""
OUTLINE_TEXT = 40_000
"""Characters of a plane's outlines from which on they are drawn along every second voxel, every fourth, …"""
_LEVELS = 255
"""Steps of grey that the narrowest preset of a plane keeps apart."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """A plane for the page's script.

    Attributes
    ----------
    kind : ``grey`` or ``rgb``.
    height, width : in pixels.
    low, step : the value of a grey pixel is ``low + step * number``.
    data : base64 of a zlib stream. Grey: per row the differences of the 16-bit numbers, all high bytes before all low
        ones; rgb: the bytes as they are.
    """

    kind: str
    height: int
    width: int
    low: float
    step: float
    data: str


def pack_plane(plane: NDArray[Any], presets: Sequence[Preset]) -> Pixels:
    """A plane of (down, right), or of (down, right, c), at most `LIMIT` pixels a side.

    Under each of `presets` a grey picture of it has the greys that it would have had unpacked, rounding apart;
    colours that are not three of 8 bits are averaged.
    """
    if plane.ndim == 3 and plane.shape[-1] == 3 and plane.dtype == np.uint8:
        small = np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(_size(plane), Image.Resampling.BOX))
        return Pixels("rgb", small.shape[0], small.shape[1], 0.0, 1.0, _text(small.tobytes()))
    with np.errstate(over="ignore"):
        grey = (plane.mean(-1) if plane.ndim == 3 else plane).astype(np.float32)
    finite = grey[np.isfinite(grey)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    grey = np.nan_to_num(grey, nan=low, posinf=high, neginf=low)
    small = np.asarray(Image.fromarray(grey).resize(_size(grey), Image.Resampling.BOX))
    narrowest = min((p.high - p.low for p in presets if p.high > p.low), default=high - low)
    # What was whole stays whole: numbers of an image hold no more than its own steps.
    step = max(narrowest / _LEVELS, (high - low) / 65535, 1.0 if plane.dtype.kind in "iub" else 0.0) or 1.0
    numbers = np.rint((small - low) / step).clip(0, 65535).astype(np.int32)
    differences = (np.diff(numbers, axis=1, prepend=0) & 0xFFFF).astype(">u2")
    two = differences.view(np.uint8).reshape(-1, 2)
    return Pixels("grey", small.shape[0], small.shape[1], low, step, _text(two.T.tobytes()))


def outline_paths(labels: NDArray[Any], names: Mapping[int, str]) -> list[tuple[str, str]]:
    """SVG path data per category: along the edges between the voxels of a value and all others, in voxels.

    Parameters
    ----------
    labels : (down, right), 0 is background.
    names : value -> category; a value without a name has itself as name.

    >>> outline_paths(np.array([[0, 0, 0], [0, 5, 5]]), {5: "lesion"})
    [('lesion', 'M1 1h2M1 2h2M1 1v1M3 1v1')]
    """
    step = 1
    while True:
        thinned = labels[::step, ::step]
        paths: dict[str, str] = {}
        for value in label_values(thinned):
            name = names.get(value, str(value))
            paths[name] = paths.get(name, "") + edge_path(thinned == value, step)
        if sum(map(len, paths.values())) <= OUTLINE_TEXT or min(thinned.shape) < 2:
            return list(paths.items())
        step *= 2


def edge_path(mask: NDArray[np.bool_], step: int = 1) -> str:
    """SVG path data of the border of a mask whose pixels are `step` wide; runs of edges are one line each."""
    padded = np.pad(mask, 1)
    level = padded[1:, 1:-1] != padded[:-1, 1:-1]
    upright = padded[1:-1, 1:] != padded[1:-1, :-1]
    flat = (f"M{a * step} {row * step}h{n * step}" for row, a, n in _runs(level))
    tall = (f"M{row * step} {a * step}v{n * step}" for row, a, n in _runs(upright.T))
    return "".join([*flat, *tall])


def _runs(edges: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """Row, first position and length of each run of True."""
    change = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(change == 1)
    stops = np.nonzero(change == -1)[1]
    yield from zip(rows.tolist(), starts.tolist(), (stops - starts).tolist(), strict=True)


def _size(plane: NDArray[Any]) -> tuple[int, int]:
    """Width and height to draw a plane with."""
    return min(LIMIT, plane.shape[1]), min(LIMIT, plane.shape[0])


def _text(data: bytes) -> str:
    return b64encode(zlib.compress(data, 9)).decode("ascii")
