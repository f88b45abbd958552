"""The windows that a sampler draws, for the page to show in their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ndvol.catalog import Catalog
from ndvol.errors import SamplingError
from ndvol.sampler import VolumeSampler
from ndvol.sampling import Negative, Positive, Strategy, Target

MAX_DRAWS = 200
"""Windows of one role in one answer."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What to draw.

    Attributes
    ----------
    window : lengths, as for `VolumeSampler`.
    categories : names; none for all that occur.
    positive, negative : numbers of windows.
    max_overlap : of the negatives.
    seed : of the sampler.
    """

    window: tuple[int, ...]
    categories: tuple[str, ...] = ()
    positive: int = 8
    negative: int = 8
    max_overlap: float = 0.0
    seed: int = 0


def draw_windows(catalog: Catalog, draws: Draws) -> dict[str, Any]:
    """The targets of `VolumeSampler` for each role; no image is read.

    Returns
    -------
    JSON values: ``image``, whose grid the windows are in, and its ``axes``; ``windows``; for each role its ``code``,
    whose sample i is the role's i-th window; and the ``problems`` of roles that cannot be drawn.
    """
    names = draws.categories or None
    roles: list[tuple[str, int, Strategy]] = [
        ("positive", draws.positive, Positive(names)),
        ("negative", draws.negative, Negative(names, max_overlap=draws.max_overlap)),
    ]
    windows: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"image": "", "axes": "", "windows": windows, "code": {}, "problems": []}
    for role, count, strategy in roles:
        if not count:
            continue
        try:
            sampler = VolumeSampler(catalog, draws.window, strategy=strategy, seed=draws.seed, length=count)
            windows += [_row(index, sampler.target(index)) for index in range(count)]
        except SamplingError as error:
            answer["problems"].append({"role": role, "error": str(error)})
            continue
        answer |= {"image": sampler.images[0], "axes": sampler.axes}
        answer["code"][role] = _code(draws, role)
    return answer


def _row(index: int, target: Target) -> dict[str, Any]:
    return {
        "index": index,
        "role": target.role,
        "case": target.case,
        "category": target.category or "",
        "leaf": target.leaf or "",
        "start": list(target.window.start),
        "stop": list(target.window.stop),
        "point": None if target.point is None else list(target.point),
    }


def _code(draws: Draws, role: str) -> str:
    """The call that draws the windows again; for a person to copy."""
    chosen = f"{list(draws.categories)!r}" if draws.categories else ""
    if role == "negative" and draws.max_overlap:
        chosen = f"{chosen + ', ' if chosen else ''}max_overlap={draws.max_overlap:g}"
    strategy = f"ndvol.{role.capitalize()}({chosen})"
    return f"ndvol.VolumeSampler(catalog, {draws.window!r}, strategy={strategy}, seed={draws.seed})"
