"""Blending: the weighted mean of the patches of a sliding grid, finished slab by slab in the memory of one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ndvol.geometry.tiling import SlidingWindows

BlendMode = Literal["mean", "gaussian", "hann"]
"""How the weight of a voxel falls from the window's centre to its border: not at all, as a Gaussian or Hann's bell."""

SIGMA = 1 / 8
"""Of the Gaussian, as a share of the window's length: that of nnU-Net and MONAI."""

Emit = Callable[[tuple[int, ...], NDArray[np.float32]], None]


def axis_weights(mode: BlendMode, length: int) -> NDArray[np.float64]:
    """Weights of the voxels along one axis of a window, all positive; a voxel's weight is their product.

    Both bells are taken at the centres of the voxels, i + 1/2, so that no weight is zero at a border. Hann's bells
    add up to 1 where windows overlap by half.

    >>> axis_weights("hann", 4).round(3).tolist(), axis_weights("gaussian", 2).round(3).tolist()
    ([0.146, 0.854, 0.854, 0.146], [0.135, 0.135])
    """
    at = (np.arange(length) + 0.5) / length
    if mode == "gaussian":
        return np.asarray(np.exp(-0.5 * ((at - 0.5) / SIGMA) ** 2))
    return np.asarray(np.sin(np.pi * at) ** 2) if mode == "hann" else np.ones(length)


def disjoint(windows: SlidingWindows, axis: int) -> bool:
    """True when no voxel along `axis` is in two windows.

    >>> disjoint(SlidingWindows((6,), (3,)), 0), disjoint(SlidingWindows((7,), (3,)), 0)
    (True, False)
    """
    return all(b - a >= windows.window[axis] for a, b in pairwise(windows.starts[axis]))


class SlabMean:
    """The weighted mean over all windows that hold a voxel, of patches that come in the order of the windows.

    Parameters
    ----------
    windows : the grid.
    mode : weights of the voxels of a window.
    channels : length of the axis before those of the windows that patches and blocks have.
    emit : called as ``emit(start, block)`` with each finished box of the volume, every voxel once. `start` is that
        of its voxels, `block` belongs to the callee until the call returns.
    leading : how many of the first axes are finished window by window; their windows must be `disjoint`.
    step : blocks start at multiples of `step` along the axis after those, and end at one or at the volume's end.

    Held is one slab in float32: of the windows' length on the leading axes and the one after, there with up to
    ``step - 1`` rows more, of the volume's length on the others.

    The mean is kept up to date, ``mean += w / (sum of w so far) * (patch - mean)``, and not divided at the end. So
    it is exact, bit for bit, wherever the patches agree: the first is taken as it is and the others change nothing.
    Where they differ it is the weighted mean to a few units in the last place. The sums of weights are products of
    sums along single axes, since the windows form a grid; none is stored.

    >>> def emit(start, block):
    ...     print(start, block.tolist())
    >>> slabs = SlabMean(SlidingWindows((5,), (3,)), "mean", 1, emit)
    >>> for patch in [[[1, 1, 1]], [[3, 3, 3]]]:
    ...     slabs.add(np.array(patch))
    (0,) [[1.0, 1.0]]
    (2,) [[2.0, 3.0, 3.0]]
    """

    def __init__(
        self, windows: SlidingWindows, mode: BlendMode, channels: int, emit: Emit, *, leading: int = 0, step: int = 1
    ) -> None:
        self._windows, self._emit, self._axis, self._step = windows, emit, leading, step
        self._weights = [axis_weights(mode, n) for n in windows.window]
        self._next = 0
        self._origin = (0,) * len(windows.shape)
        held = list(windows.shape)
        held[:leading] = map(min, windows.window[:leading], windows.shape[:leading])
        # A row whose block is not complete waits for it.
        held[leading] = max(
            min(start + windows.window[leading], windows.shape[leading]) - start // step * step
            for start in windows.starts[leading]
        )
        self._slab = np.zeros((channels, *held), np.float32)

    def add(self, patch: NDArray[Any]) -> None:
        """Add the patch of the next window, of shape (channels, *window)."""
        clip = self._windows[self._next].clip(self._windows.shape)
        held = tuple(slice(s.start - o, s.stop - o) for s, o in zip(clip.inside, self._origin, strict=True))
        mean = self._slab[:, *held]
        change = np.subtract(patch[:, *clip.placement], mean, dtype=np.float32)
        change *= self._share(clip.shape)
        mean += change
        self._next += 1
        self._hand_over()

    def _share(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The next window's weight at its first `shape` voxels over the sum of its and all earlier windows'.

        Earlier are the windows that come before on the first axis, or share the start there and come before on the
        others: ``sum(a, b, …) = before(a) * all(b, …) + own(a) * sum(b, …)``.
        """
        # 1 from the first window on: both products have the same factors in the same order.
        own = total = every = np.ones((), np.float32)
        position = self._windows.position(self._next)
        for axis in reversed(range(len(shape))):
            mine, before, after = self._along(axis, position[axis], shape[axis])
            total = before * every + mine * total
            own = mine * own
            every = (before + mine + after) * every
        return np.asarray(own / total)

    def _along(self, axis: int, position: int, length: int) -> list[NDArray[np.float32]]:
        """Weights along `axis` of a window, of all before and of all after it, shaped to multiply later axes."""
        starts, weights = self._windows.starts[axis], self._weights[axis]
        before, after = np.zeros((2, length))
        for start in reversed(starts[:position]):
            if (ahead := starts[position] - start) >= len(weights):
                break
            shared = weights[ahead:][:length]
            before[: len(shared)] += shared
        for start in starts[position + 1 :]:
            if (behind := start - starts[position]) >= length:
                break
            after[behind:] += weights[: length - behind]
        later = (1,) * (len(self._weights) - 1 - axis)
        return [w.astype(np.float32).reshape(-1, *later) for w in (weights[:length], before, after)]

    def _hand_over(self) -> None:
        """Emit the rows of the slab that no later window touches, and make room for the next."""
        axis, last = self._axis, self._next == len(self._windows)
        following = self._origin if last else self._windows[self._next].start
        goes_on = not last and following[:axis] == self._origin[:axis]
        first, length = self._origin[axis], self._windows.shape[axis]
        stop = following[axis] // self._step * self._step if goes_on else length
        if stop == first:
            return
        rows = np.moveaxis(self._slab, axis + 1, 0)
        self._emit(self._origin, np.moveaxis(rows[: stop - first], 0, axis + 1))
        kept = len(rows) - (stop - first) if goes_on else 0
        # One row at a time: numpy would copy the whole slab to move it onto itself.
        for row in range(kept):
            rows[row] = rows[row + stop - first]
        rows[kept:] = 0
        self._origin = (*following[:axis], stop if goes_on else 0, *self._origin[axis + 1 :])
