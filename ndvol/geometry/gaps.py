"""Where planes lie along their normal: evenly, with some missing, or unevenly; and what is then done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import GeometryError

GAP_SHARE = 0.10
"""A gap between neighbours may differ from the usual one by this share."""
DUPLICATE_SHARE = 0.01
"""Planes closer than this share of the usual gap lie at the same position."""
MOST_RUNS = 5
"""More runs of equal gaps than this are summed up in a message."""

OnGap = Literal["refuse", "mask", "resample"]
"""What to do where planes are missing: refuse, leave their places empty and say which, or interpolate between the
planes that are there, also where these are unevenly spaced."""
MOST_GROWTH = {"refuse": 1, "mask": 2, "resample": 4}
"""How many times as many planes the volume may have as there are: a volume is not made of next to nothing."""


def place_planes(
    depths: NDArray[np.float64], order: NDArray[np.intp], called: Sequence[str], on_gap: OnGap
) -> NDArray[np.float64]:
    """The index of each plane along z of an even volume, from 0 on; ascending.

    Whole numbers, one after the other or with places between them that are ``mask``ed or interpolated
    (``resample``). Only where the gaps are no multiples of the usual one does ``resample`` give fractions: the
    volume then reaches from the first plane to the last, with as few planes as keep its spacing no wider than
    the narrowest gap. Gaps so narrow that the volume would have more than `MOST_GROWTH` times as many planes as
    there are do not count for that; the usual gap does.

    Parameters
    ----------
    depths : positions along the normal, ascending.
    order, called : for messages: where each plane stands in the input, and its name.

    Raises
    ------
    GeometryError : with code ``duplicate-slices``, ``missing-slices`` or ``uneven-slices``.
    """
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    doubled = np.flatnonzero(gaps <= max(DUPLICATE_SHARE * usual, 1e-6)).tolist()
    if doubled:
        raise GeometryError(
            f"{len(doubled)} {'pair of slices lies' if len(doubled) == 1 else 'pairs of slices lie'} at the same "
            "position",
            got=f"first pair: {called[doubled[0]]} and {called[doubled[0] + 1]}",
            hint="they belong to different volumes (echo, phase, time) or were exported twice",
            code="duplicate-slices",
            pairs=[(int(order[k]), int(order[k + 1])) for k in doubled],
        )
    off = np.abs(gaps - usual) > GAP_SHARE * usual
    whole = np.where(off, np.round(gaps / usual), 1.0)
    if (np.abs(gaps / usual - whole)[off] > GAP_SHARE).any() or (whole[off] < 2).any():
        if on_gap == "resample":
            return _even_places(depths, gaps, called)
        raise _uneven(gaps, called, on_gap)
    if whole.sum() + 1 > MOST_GROWTH[on_gap] * len(depths):
        raise _missing(gaps, usual, whole, called, on_gap)
    return np.concatenate([[0.0], np.cumsum(whole)])


def _even_places(depths: NDArray[np.float64], gaps: NDArray[np.float64], called: Sequence[str]) -> NDArray[np.float64]:
    """Where unevenly spaced planes lie in the volume that `place_planes` describes."""
    extent = float(depths[-1] - depths[0])
    wide = np.sort(gaps[gaps * (MOST_GROWTH["resample"] * len(depths) - 1) >= extent])
    if wide[0] > (1 + GAP_SHARE) * float(np.median(gaps)):
        raise _uneven(gaps, called, "resample")
    # The narrowest gap jitters too: what counts is the middle of those that are it.
    narrowest = float(np.median(wide[wide <= (1 + GAP_SHARE) * wide[0]]))
    steps = np.ceil(extent / narrowest - DUPLICATE_SHARE)
    places = (depths - depths[0]) * (steps / extent)
    near = np.rint(places)
    return np.asarray(np.where(np.abs(places - near) <= DUPLICATE_SHARE, near, places))


def _missing(
    gaps: NDArray[np.float64], usual: float, whole: NDArray[np.float64], called: Sequence[str], on_gap: OnGap
) -> GeometryError:
    """The places where planes are missing, with the planes on both sides."""
    places = [(k, int(whole[k]) - 1) for k in np.flatnonzero(whole > 1).tolist()]
    total = sum(n for _, n in places)
    shown = [
        f"a gap of {gaps[k]:.3f} mm between slice {k + 1} of {len(called)} ({called[k]}) and the next ({called[k + 1]})"
        for k, _ in places[:MOST_RUNS]
    ]
    more = f" and {len(places) - MOST_RUNS} gaps more" if len(places) > MOST_RUNS else ""
    hint = "export the series again with all its slices"
    return GeometryError(
        f"{total} {'slice is' if total == 1 else 'slices are'} missing",
        got=", ".join(shown) + more,
        expected=f"{usual:.3f} mm between neighbours",
        hint=f"{hint}, or have the missing ones masked or interpolated" if on_gap == "refuse" else f"too many: {hint}",
        code="missing-slices",
        places=places,
    )


def _uneven(gaps: NDArray[np.float64], called: Sequence[str], on_gap: OnGap) -> GeometryError:
    """The runs of equal gaps, where there are few; the range and the worst gap, where there are many."""
    usual = float(np.median(gaps))
    starts = [0]
    for k in range(1, len(gaps)):
        # Half the tolerance: gaps that differ too much from the usual one then never share its run.
        if abs(gaps[k] - gaps[starts[-1]]) > GAP_SHARE / 2 * usual:
            starts.append(k)
    if len(starts) <= MOST_RUNS:
        runs = [(b - a, float(np.median(gaps[a:b]))) for a, b in pairwise([*starts, len(gaps)])]
        parts = [f"{'one' if n == 1 else n} of {mm:.3f} mm" for n, mm in runs]
        parts[0] = parts[0].replace(" of", " gap of" if runs[0][0] == 1 else " gaps of")
        text = ", ".join(parts[:-1]) + f", then {parts[-1]}"
    else:
        text = f"gaps from {gaps.min():.3f} to {gaps.max():.3f} mm, {usual:.3f} mm as a rule"
    first = starts[1]
    hint = "export each evenly spaced part as a series of its own"
    return GeometryError(
        "the slices are unevenly spaced",
        got=f"{text}; the first change is at slice {first + 1} of {len(called)} ({called[first]})",
        expected=f"one distance within {GAP_SHARE:.0%}",
        hint=hint if on_gap == "resample" else f"{hint}, or have the series resampled to one spacing",
        code="uneven-slices",
        gaps=[float(g) for g in gaps],
    )
