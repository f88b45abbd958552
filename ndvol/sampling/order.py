"""Even order: an epoch whose draws are spread evenly over all that a strategy can draw."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["random", "even"]
"""Every draw for itself; or an epoch's draws spread evenly over the strategy's distribution, in random order."""

EVEN_KEY = (1,)
"""Tells the generator of an epoch from those of its samples."""


def even_share(seed: int, epoch: int, index: int, length: int) -> float:
    """Where in [0, 1) draw `index` of an epoch of `length` lies: equally spaced, from a random first one.

    Any part p of the distribution then gets ``length * p`` draws, rounded up or down. Every single draw is uniform.

    >>> shares = sorted(even_share(0, 0, i, 4) for i in range(4))
    >>> [round(b - a, 9) for a, b in zip(shares, shares[1:])], shares[0] < 0.25
    ([0.25, 0.25, 0.25], True)
    """
    order, offset = _epoch(seed, epoch, length)
    return min((int(order[index]) + offset) / length, float(np.nextafter(1.0, 0.0)))


def shuffled(seed: int, epoch: int, index: int, length: int) -> int:
    """Number `index` of a random order of ``range(length)``."""
    return int(_epoch(seed, epoch, length)[0][index])


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, length: int) -> tuple[NDArray[Any], float]:
    rng = np.random.default_rng(np.random.SeedSequence((seed, epoch), spawn_key=EVEN_KEY))
    order = rng.permutation(length)
    return (order.astype(np.uint32) if length < 2**32 else order), float(rng.random())
