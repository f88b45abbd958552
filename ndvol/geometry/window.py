"""Window and Clip: where to read, and how the part inside a volume maps into the patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, prod
from operator import index as as_int
from typing import Self

from ndvol.errors import WindowError


def _integers(values: Sequence[int], what: str) -> tuple[int, ...]:
    try:
        return tuple(as_int(v) for v in values)
    except TypeError:
        raise WindowError(f"{what} must be integers", got=repr(values)) from None


@dataclass(frozen=True, slots=True)
class Clip:
    """The law ``patch[clip.placement] == volume[clip.inside]``; outside `placement` is padding."""

    inside: tuple[slice, ...]
    placement: tuple[slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the real part; a zero says that the window lies wholly outside."""
        return tuple(s.stop - s.start for s in self.inside)


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open box ``[start, start + shape)`` in index space, one entry per axis in storage order.

    It may leave the volume on any side: negative starts mean outside, never "from the end". An empty
    window (a length of 0) is legal.

    Raises
    ------
    WindowError : when the entries are not integers, differ in number, or a length is negative.

    >>> w = Window((-2, 3), (4, 4))
    >>> w.stop
    (2, 7)
    >>> w.clip((10, 5))
    Clip(inside=(slice(0, 2, None), slice(3, 5, None)), placement=(slice(2, 4, None), slice(0, 2, None)))
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _integers(self.start, "the window's start"))
        object.__setattr__(self, "shape", _integers(self.shape, "the window's shape"))
        if len(self.start) != len(self.shape):
            raise WindowError(
                "a window needs one start and one length per axis",
                got=f"start {self.start} and shape {self.shape}",
            )
        if min(self.shape, default=0) < 0:
            raise WindowError("a window's length cannot be negative", got=f"shape {self.shape}")

    @classmethod
    def full(cls, shape: Sequence[int]) -> Self:
        """The window that covers an array of `shape`."""
        return cls((0,) * len(shape), tuple(shape))

    @classmethod
    def between(cls, start: Sequence[int], stop: Sequence[int]) -> Self:
        """The window from `start` up to and without `stop`.

        >>> Window.between((1, 2), (3, 5))
        Window(start=(1, 2), shape=(2, 3))
        """
        lo, hi = _integers(start, "the window's start"), _integers(stop, "the window's stop")
        if len(lo) != len(hi):
            raise WindowError("start and stop differ in length", got=f"{lo} and {hi}")
        return cls(lo, tuple(b - a for a, b in zip(lo, hi, strict=True)))

    @classmethod
    def centred(cls, centre: Sequence[float], extent: Sequence[float]) -> Self:
        """The window of `extent` voxels per axis about `centre`: start = floor(c - d / 2), length = ceil(d).

        Coordinates are those of the box: voxel i reaches from i to i + 1.

        >>> Window.centred((4.5, 4), (5, 3.2))
        Window(start=(2, 2), shape=(5, 4))
        """
        pairs = [(float(c), float(d)) for c, d in zip(centre, extent, strict=True)]
        if not all(isfinite(c) and isfinite(d) and d >= 0 for c, d in pairs):
            raise WindowError("centre and extent must be finite, the extent not negative", got=f"{centre}, {extent}")
        return cls(tuple(floor(c - d / 2) for c, d in pairs), tuple(ceil(d) for _, d in pairs))

    @property
    def ndim(self) -> int:
        return len(self.start)

    @property
    def stop(self) -> tuple[int, ...]:
        """One past the last index, per axis."""
        return tuple(a + n for a, n in zip(self.start, self.shape, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels, those outside the volume included."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The window as slices, for an array that holds it wholly; raises when a start is negative."""
        if min(self.start, default=0) < 0:
            raise WindowError("a negative start would count from the end in a slice", got=f"start {self.start}")
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def shifted(self, offset: Sequence[int]) -> Self:
        """The window moved by `offset` voxels."""
        self._same_ndim(offset, "offset")
        return type(self)(tuple(a + o for a, o in zip(self.start, offset, strict=True)), self.shape)

    def padded(self, margin: Sequence[int]) -> Self:
        """The window grown by `margin` voxels on both sides of each axis."""
        self._same_ndim(margin, "margin")
        return type(self)(
            tuple(a - m for a, m in zip(self.start, margin, strict=True)),
            tuple(n + 2 * m for n, m in zip(self.shape, margin, strict=True)),
        )

    def intersection(self, other: Window) -> Self:
        """The voxels in both; empty (a length of 0 per disjoint axis) when there are none."""
        self._same_ndim(other.start, "other window")
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return type(self)(start, tuple(max(0, b - a) for a, b in zip(start, stop, strict=True)))

    def overlaps(self, other: Window) -> bool:
        """True when both share at least one voxel; touching faces do not."""
        return self.intersection(other).size > 0

    def clip(self, shape: Sequence[int]) -> Clip:
        """How the part inside an array of `shape` maps into the patch."""
        self._same_ndim(shape, "volume shape")
        inside, placement = [], []
        for a, n, length in zip(self.start, self.shape, shape, strict=True):
            lo = min(max(a, 0), length)
            hi = max(min(a + n, length), lo)
            at = min(max(lo - a, 0), n)
            inside.append(slice(lo, hi))
            placement.append(slice(at, at + hi - lo))
        return Clip(tuple(inside), tuple(placement))

    def _same_ndim(self, values: Sequence[int], what: str) -> None:
        if len(values) != self.ndim:
            raise WindowError(
                f"the {what} has another number of axes than the window",
                got=f"{len(values)} for {tuple(values)}",
                expected=f"{self.ndim} for start {self.start}",
            )
