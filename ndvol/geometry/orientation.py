"""Lossless reorientation: permutation and flips of the spatial axes, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GridError
from ndvol.geometry.grid import Grid


@dataclass(frozen=True, slots=True)
class Reorientation:
    """First permute the spatial axes by `order`, then flip those of the result that `flips` marks.

    Attributes
    ----------
    order : the k-th spatial axis of the result is axis ``order[k]`` of the input.
    flips : per spatial axis of the result, whether it runs backwards through the input.

    >>> Reorientation((1, 0), (True, False)).array(np.array([[1, 2, 3], [4, 5, 6]]), axes="yx")
    array([[3, 6],
           [2, 5],
           [1, 4]])
    """

    order: tuple[int, ...]
    flips: tuple[bool, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))) or len(self.flips) != len(self.order):
            raise GridError("not a reorientation", got=f"order {self.order}, flips {self.flips}")

    @property
    def is_identity(self) -> bool:
        return self.order == tuple(range(len(self.order))) and not any(self.flips)

    def array(self, volume: NDArray[Any], *, axes: str) -> NDArray[Any]:
        """A view of `volume`, whose axes are named by `axes`, in the new orientation."""
        spatial = [i for i, a in enumerate(axes) if a in "zyx"]
        order = list(range(len(axes)))
        for position, source in zip(spatial, self.order, strict=True):
            order[position] = spatial[source]
        flipped = [position for position, flip in zip(spatial, self.flips, strict=True) if flip]
        return np.asarray(np.flip(volume.transpose(order), tuple(flipped)))

    def grid(self, grid: Grid) -> Grid:
        """The grid of `array(volume)`."""
        result = grid.permute(self.order)
        for position, flip in zip(result.spatial, self.flips, strict=True):
            if flip:
                result = result.flip(position)
        return result

    def inverse(self) -> Reorientation:
        """The reorientation that undoes this one."""
        order = tuple(self.order.index(k) for k in range(len(self.order)))
        return Reorientation(order, tuple(self.flips[k] for k in order))


def closest_canonical(grid: Grid) -> Reorientation:
    """The reorientation after which z runs closest to superior, y to posterior and x to left.

    Of all permutations the one with the largest sum of absolute cosines is taken, the first in
    lexicographic order where several are equal, so that the answer never depends on rounding of a loop.
    """
    n = len(grid.spatial)
    # Row k: the direction in the world that storage axis k should follow; the last axis follows world x.
    cosines = grid.direction[::-1]
    scores = {order: sum(abs(cosines[k, order[k]]) for k in range(n)) for order in permutations(range(n))}
    best = max(scores.values(), default=0.0)
    order = min(order for order, score in scores.items() if score > best - 1e-6)
    return Reorientation(order, tuple(bool(cosines[k, order[k]] < 0) for k in range(n)))
