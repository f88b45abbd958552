"""Masks as kwcoco and COCO write them: run lengths, column by column, beginning with background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import SourceError


def rle_of_mask(mask: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """The run lengths of a mask (y, x) that lies at `corner` (y, x) of a picture of `size` (rows, columns).

    >>> rle_of_mask(np.array([[True, False], [True, True]]), (0, 1), (3, 3))
    {'size': [3, 3], 'counts': [3, 2, 2, 1, 1]}
    """
    x, y = np.nonzero(mask.T)
    at = (x + corner[1]) * size[0] + y + corner[0]
    gaps = np.flatnonzero(np.diff(at) > 1)
    starts, stops = at[np.concatenate([[0], gaps + 1])], at[np.concatenate([gaps, [-1]])] + 1
    edges = np.stack([starts, stops], 1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [size[0] * size[1]]])).tolist()
    return {"size": list(size), "counts": counts if counts[-1] else counts[:-1]}


def mask_of_rle(rle: object, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (rows, columns) of run lengths; raises `SourceError` for anything else.

    >>> mask_of_rle({"size": [2, 2], "counts": [1, 2, 1]}, (2, 2)).tolist()
    [[False, True], [True, False]]
    """
    if not isinstance(rle, Mapping) or not isinstance(rle.get("counts"), Sequence) or isinstance(rle["counts"], str):
        raise SourceError(
            "a mask is no list of run lengths", got=str(rle)[:80], hint="polygons and packed masks are not read here"
        )
    counts = np.array(rle["counts"], np.int64).ravel()
    if list(rle.get("size", ())) != list(size) or (counts < 0).any() or counts.sum() > size[0] * size[1]:
        raise SourceError("the run lengths of a mask do not fit the picture", got=rle.get("size"), expected=list(size))
    flat = np.zeros(size[0] * size[1], bool)
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    flat[: len(runs)] = runs
    return flat.reshape(size, order="F")
