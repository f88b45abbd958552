"""Lattice: the voxels a target asks for, axis by axis, from ndsampler's ways to say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isfinite
from operator import index as as_int
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndvol.errors import OptionError, WindowError
from ndvol.geometry import Window

CENTRES = {"z": ("cz", "depth"), "y": ("cy", "height"), "x": ("cx", "width")}
"""Target keys of the centre and the extent along each spatial axis."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Indices ``start, start + step, …``, `count` of them per axis; they may leave the volume on any side.

    >>> Lattice((-2, 5), (3, 2), (2, 1)).indices(0).tolist()
    [-2, 0, 2]
    """

    start: tuple[int, ...]
    count: tuple[int, ...]
    step: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.step, default=1) < 1:
            raise WindowError("the steps of a slice must be positive", got=self.step)
        if min(self.count, default=0) < 0:
            raise WindowError("a slice stops before it starts", got=f"lengths {self.count}")

    @property
    def ndim(self) -> int:
        return len(self.start)

    def indices(self, axis: int) -> NDArray[np.int64]:
        """The indices along `axis`."""
        return self.start[axis] + self.step[axis] * np.arange(self.count[axis], dtype=np.int64)

    @property
    def hull(self) -> Window:
        """The smallest window that holds all indices."""
        length = (s * (n - 1) + 1 if n else 0 for s, n in zip(self.step, self.count, strict=True))
        return Window(self.start, tuple(length))

    def valid(self, shape: Sequence[int]) -> Window:
        """Which of the indices lie in a volume of `shape`, as a window over the patch."""
        start, length = [], []
        for axis, n in enumerate(shape):
            inside = np.flatnonzero((at := self.indices(axis)) >= 0)
            inside = inside[at[inside] < n]
            start.append(int(inside[0]) if len(inside) else 0)
            length.append(len(inside))
        return Window(tuple(start), tuple(length))

    def padded(self, pad: Sequence[tuple[int, int]]) -> Lattice:
        """With so many more indices before and after, in the same steps."""
        start = tuple(a - low * s for a, (low, _), s in zip(self.start, pad, self.step, strict=True))
        count = tuple(n + low + high for n, (low, high) in zip(self.count, pad, strict=True))
        return Lattice(start, count, self.step)


@dataclass(frozen=True, slots=True)
class Box:
    """The box of the annotation that a target names: exact, where centre and extent would round.

    Attributes
    ----------
    start, extent : by axis.
    """

    start: Mapping[str, float]
    extent: Mapping[str, float]

    def centre(self, axis: str) -> Fraction:
        return Fraction(self.start[axis]) + Fraction(self.extent[axis]) / 2

    def keys(self) -> dict[str, float]:
        """Centre and extent under the names that targets have for them, from x on.

        >>> Box({"y": 2.0, "x": 5.5}, {"y": 3.0, "x": 1.0}).keys()
        {'cx': 6.0, 'width': 1.0, 'cy': 3.5, 'height': 3.0}
        """
        found: dict[str, float] = {}
        for axis in (a for a in "xyz" if a in self.start):
            centre, extent = CENTRES[axis]
            found |= {centre: self.start[axis] + self.extent[axis] / 2, extent: self.extent[axis]}
        return found


def lattice_of(target: Mapping[str, Any], axes: str, shape: Sequence[int], box: Box | None = None) -> Lattice:
    """The voxels that a target asks for, before ``pad``.

    ``space_slice`` and ``time_slice`` count before ``slices``, and these before centre and extent; what nothing
    says is taken whole. Starts are indices: a negative one means outside.

    Parameters
    ----------
    target : with the keys that `known_keys` leaves.
    axes, shape : of what is sampled, without c.
    box : of the annotation ``aid``.

    Raises
    ------
    OptionError : when the keys do not fit the axes, are incomplete or contradict each other.
    WindowError : for a slice with a step below 1 or a stop before its start.

    >>> lattice_of({"cx": 5, "cy": 2, "width": 6, "height": 4.5}, "yx", (10, 10))
    Lattice(start=(-1, 2), count=(5, 6), step=(1, 1))
    """
    given = _given_slices(target, axes)
    spans: dict[str, tuple[int, int, int]] = {}
    for axis, n in zip(axes, shape, strict=True):
        if axis in given:
            spans[axis] = _span(given[axis], n)
    lengths = _window_lengths(target, axes, box)
    for axis, n in zip(axes, shape, strict=True):
        if axis in spans:
            if isinstance(target.get("window_dims"), Sequence) and not isinstance(target["window_dims"], str):
                _check_length(axis, spans[axis], lengths)
        elif axis in lengths:
            spans[axis] = (*_centred(_centre(target, axis, box), lengths[axis]), 1)
        else:
            spans[axis] = (0, n, 1)
    starts, counts, steps = zip(*(spans[a] for a in axes), strict=True)
    return Lattice(starts, counts, steps)


def _given_slices(target: Mapping[str, Any], axes: str) -> dict[str, slice]:
    spatial = [a for a in axes if a != "t"]
    found: dict[str, slice] = {}
    for key, named in (("slices", list(axes)), ("space_slice", spatial)):
        if key in target:
            parts = target[key]
            if not isinstance(parts, Sequence) or len(parts) != len(named):
                raise OptionError(
                    f"{key!r} must be one slice per axis",
                    got=parts,
                    expected=f"{len(named)} slices, {''.join(named)!r}",
                )
            found.update(zip(named, parts, strict=True))
    if "time_slice" in target:
        if "t" not in axes:
            raise OptionError("there is no time axis for 'time_slice'", got=target["time_slice"], expected=f"{axes!r}")
        found["t"] = target["time_slice"]
    return found


def _span(part: object, length: int) -> tuple[int, int, int]:
    """Start, count and step of a slice along an axis of `length`; a negative start lies outside."""
    if not isinstance(part, slice):
        raise OptionError("a target is sliced with slices only", got=repr(part), expected="slice(start, stop, step)")
    try:
        start = 0 if part.start is None else as_int(part.start)
        stop = length if part.stop is None else as_int(part.stop)
        step = 1 if part.step is None else as_int(part.step)
    except TypeError:
        raise OptionError("the numbers of a slice must be integers", got=part) from None
    if step < 1 or stop < start:
        raise WindowError("a slice must run forward", got=part, hint="a negative start means outside the volume")
    return start, -(-(stop - start) // step), step


def _check_length(axis: str, span: tuple[int, int, int], lengths: Mapping[str, Fraction]) -> None:
    if axis in lengths and ceil(lengths[axis]) != span[1]:
        raise OptionError(
            f"the slice and 'window_dims' contradict each other on axis {axis!r}",
            got=f"{span[1]} and {float(lengths[axis]):g} voxels",
            hint="give one of them",
        )


def _window_lengths(target: Mapping[str, Any], axes: str, box: Box | None) -> dict[str, Fraction]:
    """Length of the window along each spatial axis of which the target says something, before rounding up."""
    spatial = [a for a in axes if a in CENTRES]
    for axis, keys in CENTRES.items():
        if axis not in axes and (named := [key for key in keys if key in target]):
            raise OptionError(f"there is no axis {axis!r} for {named[0]!r}", got=axes, expected=f"axes with {axis!r}")
    extents = {a: _number(target, CENTRES[a][1]) for a in spatial if CENTRES[a][1] in target}
    if box:
        extents = {a: Fraction(box.extent[a]) for a in spatial} | extents
    wanted = target.get("window_dims", "extent")
    if wanted == "extent":
        missing = [CENTRES[a][1] for a in spatial if CENTRES[a][0] in target and a not in extents]
        if missing:
            hint = "give it, or 'window_dims' as a tuple"
            raise OptionError("a target with a centre needs an extent", got=f"no {missing[0]!r}", hint=hint)
        return extents
    if wanted == "square":
        if not extents:
            raise OptionError("window_dims='square' needs extents", expected="'width', 'height' …, or an 'aid'")
        return dict.fromkeys(extents, max(extents.values()))
    if isinstance(wanted, str) or not isinstance(wanted, Sequence | np.ndarray) or len(wanted) != len(spatial):
        raise OptionError(
            "'window_dims' makes no sense",
            got=repr(wanted),
            expected=f"one length per axis of {''.join(spatial)!r}, 'extent' or 'square'",
        )
    return {a: _as_number("window_dims", n) for a, n in zip(spatial, wanted, strict=True)}


def _centre(target: Mapping[str, Any], axis: str, box: Box | None) -> Fraction:
    key = CENTRES[axis][0]
    if key not in target:
        if box is None:
            raise OptionError(
                f"the window has a length along {axis!r} but no place", hint=f"give {key!r}, slices, or an 'aid'"
            )
        return box.centre(axis)
    centre = _number(target, key, positive=False)
    # The centre that an annotation's row states is rounded; its box is not.
    return box.centre(axis) if box is not None and float(box.centre(axis)) == float(centre) else centre


def _centred(centre: Fraction, length: Fraction) -> tuple[int, int]:
    """start = floor(c - d/2) and exactly ceil(d) voxels, without rounding in between."""
    return floor(centre - length / 2), ceil(length)


def _number(target: Mapping[str, Any], key: str, *, positive: bool = True) -> Fraction:
    return _as_number(key, target[key], positive=positive)


def _as_number(key: str, value: Any, *, positive: bool = True) -> Fraction:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number) or (positive and number < 0):
        raise OptionError(f"{key!r} must be a {'length' if positive else 'finite number'}", got=repr(value))
    return Fraction(number)
