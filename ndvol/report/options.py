"""What a report is to show."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """Windows to draw.

    Attributes
    ----------
    window : voxels per spatial axis in storage order, or one number for all; None: `modest_window`.
    count : of positive windows, and of negative ones.
    categories : to draw and to avoid, with all below them; none: all.
    seed : of the draws.
    counted : draws behind the shares that the page tells; no image is read for them.
    """

    window: tuple[int, ...] | None = None
    count: int = 16
    categories: tuple[str, ...] = ()
    seed: int = 0
    counted: int = 1000


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report shows.

    Attributes
    ----------
    draws : the windows to draw.
    pictured : cases that are shown with pictures, evenly spread over the catalogue; the page says how many there are.
    """

    draws: DrawOptions = field(default_factory=DrawOptions)
    pictured: int = 24
