"""What labels look like: a colour per category, and the outline of a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTLINES = (
    (255, 193, 7),
    (233, 30, 99),
    (0, 188, 212),
    (139, 195, 74),
    (255, 87, 34),
    (156, 39, 176),
    (121, 134, 203),
)
"""Colours of categories, told apart on grey; they repeat from the eighth on."""


def category_colour(name: str, names: Sequence[str], otherwise: int = 0) -> tuple[int, int, int]:
    """The (red, green, blue) of a category by its position in `names`, or of the number `otherwise` if it is not there.

    >>> category_colour("lesion", ["organ", "lesion"]) == OUTLINES[1]
    True
    """
    position = list(names).index(name) if name in names else otherwise
    return OUTLINES[position % len(OUTLINES)]


def outline(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of a 2-D mask or label map with a neighbour of another value; not of background, nor at the border.

    >>> outline(np.pad(np.ones((3, 3), bool), 1)).sum()
    np.int64(8)
    """
    padded = np.pad(values, 1, mode="edge")
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return np.asarray((values != 0) & np.any([side != values for side in neighbours], axis=0))
