"""Checks of what a user hands to a strategy or a sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor, isfinite
from operator import index as as_int
from typing import TypeAlias, TypeVar

from ndvol.errors import OptionError, SamplingError, WindowError
from ndvol.geometry.grid import SPATIAL_AXES

Categories: TypeAlias = str | Sequence[str] | Mapping[str, float] | None
Weighted: TypeAlias = tuple[tuple[str, float], ...]
T = TypeVar("T")

SHARE_TOLERANCE = 1e-6
"""Voxels; a share times a size of up to 2^33 voxels is closer to the true product than this."""


def check_share(name: str, value: float, *, closed: bool = True) -> None:
    """Raise unless `value` lies in [0, 1], or in [0, 1) when not `closed`."""
    # `not <=` also refuses nan.
    if not 0 <= value <= 1 or (not closed and value == 1):
        raise WindowError(f"{name} is out of range", got=value, expected="0 … 1" if closed else "at least 0, below 1")


def least_voxels(share: float, size: int) -> int:
    """The smallest number of voxels that is at least `share` of `size`: 29 for 0.29 of 100, whatever floats say."""
    return ceil(share * size - SHARE_TOLERANCE)


def most_voxels(share: float, size: int) -> int:
    """The largest number of voxels that is at most `share` of `size`."""
    return floor(share * size + SHARE_TOLERANCE)


def modest_window(cases: Iterable[tuple[str, Sequence[int]]]) -> tuple[int, ...]:
    """A window for a first look: half of the smallest case along each spatial axis, but no more than 64 voxels.

    Parameters
    ----------
    cases : axes and shape of each; all have the same spatial axes.

    >>> modest_window([("zyx", (40, 96, 112)), ("tzyx", (9, 300, 512, 512))])
    (20, 48, 56)
    """
    shapes = ([n for a, n in zip(axes, shape, strict=True) if a in SPATIAL_AXES] for axes, shape in cases)
    return tuple(max(1, min(64, least // 2)) for least in map(min, zip(*shapes, strict=True)))


def check_weights(what: str, weights: Sequence[float]) -> None:
    """Raise unless there is a weight and all are positive and finite."""
    if not weights or not all(isfinite(w) and w > 0 for w in weights):
        raise OptionError(f"{what} needs positive, finite weights", got=list(weights), code="bad-weights")


def weighted_names(categories: Categories | Weighted) -> Weighted | None:
    """Names with weights, in the order given; names without a weight get 1.

    >>> weighted_names("cyst"), weighted_names({"lesion": 2, "organ": 1})
    ((('cyst', 1.0),), (('lesion', 2.0), ('organ', 1.0)))
    """
    if categories is None:
        return None
    if isinstance(categories, str):
        categories = (categories,)
    items = categories.items() if isinstance(categories, Mapping) else categories
    pairs = [(item, 1.0) if isinstance(item, str) else item for item in items]
    check_weights("a choice of categories", [weight for _, weight in pairs])
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError("a category is named twice", got=twice, hint="give it one weight: {name: weight}")
    return tuple((name, float(weight)) for name, weight in pairs)


def window_lengths(window: Sequence[int], axes: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """One positive length per axis; `window` may give them for the spatial axes only.

    Parameters
    ----------
    shapes : by case; axes t and c that `window` leaves out are taken whole, so they must agree.

    Raises
    ------
    WindowError : when the lengths are not positive integers, one per axis or per spatial axis.
    SamplingError : when the cases differ on an axis to be taken whole.

    >>> window_lengths((8, 8), "cyx", {"a": (3, 50, 60), "b": (3, 40, 70)})
    (3, 8, 8)
    """
    spatial = [a for a in axes if a in SPATIAL_AXES]
    try:
        given = [as_int(n) for n in window]
    except TypeError:
        raise WindowError("a window needs a sequence of integer lengths", got=repr(window)) from None
    if len(given) not in (len(axes), len(spatial)) or min(given, default=0) < 1:
        raise WindowError(
            "a window needs one positive length per axis",
            got=tuple(given),
            expected=f"{len(axes)} for {axes!r}" + (f" or {len(spatial)}" if len(spatial) < len(axes) else ""),
        )
    if len(given) == len(axes):
        return tuple(given)
    lengths = dict(zip(spatial, given, strict=True))
    for position, axis in enumerate(axes):
        if axis not in lengths:
            whole = {shape[position]: name for name, shape in shapes.items()}
            if len(whole) > 1:
                raise SamplingError(
                    f"the cases differ in length on axis {axis!r}",
                    got=", ".join(f"{n} in {name!r}" for n, name in list(whole.items())[:4]),
                    hint=f"give the window a length for every axis of {axes!r}",
                )
            lengths[axis] = next(iter(whole))
    return tuple(lengths[a] for a in axes)


def axis_values(what: str, values: Sequence[T], axes: str, *, other: T) -> tuple[T, ...]:
    """One value per axis, as given or, for the spatial axes only, with `other` on t and c.

    Raises
    ------
    WindowError : for another number of values.

    >>> axis_values("halo", (4, 8), "cyx", other=0)
    (0, 4, 8)
    """
    spatial = [a for a in axes if a in SPATIAL_AXES]
    if len(values) == len(axes):
        return tuple(values)
    if len(values) != len(spatial):
        raise WindowError(f"{what} needs one value per axis", got=tuple(values), expected=f"{len(axes)} for {axes!r}")
    given = dict(zip(spatial, values, strict=True))
    return tuple(given.get(a, other) for a in axes)


def halo_lengths(halo: int | Sequence[int], axes: str) -> tuple[int, ...]:
    """Voxels of context per side and axis; one number holds for every spatial axis.

    >>> halo_lengths(4, "tyx"), halo_lengths((1, 2, 3), "tyx")
    ((0, 4, 4), (1, 2, 3))
    """
    given = list(halo) if isinstance(halo, Iterable) else [halo] * sum(a in SPATIAL_AXES for a in axes)
    return tuple(whole_number("a halo", n) for n in axis_values("a halo", given, axes, other=0))


def chosen_names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """`names` as a tuple, without repetition; a single name stands for itself."""
    # A string is a sequence too: of its letters.
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if len(set(chosen)) < len(chosen):
        raise OptionError(f"{what} names a volume twice", got=chosen)
    return chosen


def whole_number(name: str, value: int, *, least: int = 0) -> int:
    """`value` as an int; raises unless it is one, and at least `least`."""
    try:
        number = as_int(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise OptionError(f"{name} must be a whole number", got=repr(value), expected=f"{least} or more")
    return number
