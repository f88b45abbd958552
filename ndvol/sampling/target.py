"""Target: which window to read, and why it was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ndvol.errors import WindowError
from ndvol.geometry import Window

Role = Literal["positive", "negative", "any"]


@dataclass(frozen=True, slots=True)
class Target:
    """A window of a case, and the reason for it.

    Attributes
    ----------
    case : name in the catalogue.
    window : in the index space of the sampler's first image at that level, one entry per axis in storage order; may
        leave the volume, also wholly, and may be empty.
    role : ``positive`` holds a voxel of `category`, ``negative`` holds (almost) none, ``any`` is not constrained.
    category : the category that was asked for, maybe an inner node of the tree; None unless positive.
    point : the voxel for which a positive window was drawn, inside the window.
    level : pyramid level whose indices window and point are in; 0 is the finest.
    leaf : the category of that voxel or object itself: `category`, or one below it.
    object : position, among the objects of the case's record, of the object that a positive was drawn for.

    Raises
    ------
    WindowError : for an unknown role, a point outside the window, or a negative level.

    >>> Target("a", Window((0, 0), (4, 4)), "positive", "cyst", (3, 1)).role
    'positive'
    """

    case: str
    window: Window
    role: Role = "any"
    category: str | None = None
    point: tuple[int, ...] | None = None
    level: int = 0
    leaf: str | None = None
    object: int | None = None

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise WindowError("a target has no such role", got=repr(self.role), expected=get_args(Role))
        if self.level < 0:
            raise WindowError("a target's level is negative", got=self.level)
        if self.point is not None and not _holds(self.window, self.point):
            raise WindowError(
                "a target's point lies outside its window",
                got=self.point,
                expected=f"from {self.window.start} up to and without {self.window.stop}",
            )


def _holds(window: Window, point: tuple[int, ...]) -> bool:
    return len(point) == window.ndim and all(
        a <= p < b for a, p, b in zip(window.start, point, window.stop, strict=True)
    )
