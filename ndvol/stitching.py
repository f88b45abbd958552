"""Stitcher: patches of a sliding grid back into one volume, slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndvol.errors import OptionError, WindowError
from ndvol.geometry import Grid, Reorientation, SlidingWindows, Window
from ndvol.geometry.blending import BlendMode, SlabMean, disjoint
from ndvol.sampling.aligned import restrict
from ndvol.sampling.options import halo_lengths
from ndvol.store import CaseWriter
from ndvol.version import __version__

PREDICTION = "prediction"
"""Name of the volume in a stitched file."""

LARGEST = 1e38
"""Magnitude up to which float32 holds the difference of two values."""

Out: TypeAlias = str | Path | NDArray[Any]
Put = Callable[[tuple[int, ...], NDArray[Any]], None]


class Stitcher:
    """Blends patches that come in the order of their windows; what no later window touches is written at once.

    Parameters
    ----------
    grid : of the volume that the windows tile. Axis c, where it has one, must be whole in every window.
    windows : the sliding grid over it.
    out : an array of the result's shape that is filled, or the path of an ndvol file with one volume, ``prediction``,
        on `grid`, that appears when the stitcher is closed: ``ndvol.open_case(out)``; its case has the file's name.
    mode : weight of a voxel by its place in the window: ``mean`` (all equal), ``gaussian`` (standard deviation 1/8
        of the window) or ``hann``. All weights are positive, so the border of the volume is covered too.
    halo : voxels per side that patches may have around the window, and that are cut off: one number for the spatial
        axes, or one per axis.
    categories : names of the classes 1, 2, … of the patches' channel axis. With them the result is a label volume:
        at each voxel the class with the largest weighted mean, the first of equal ones; class 0 is background.
        Otherwise the result is float32, and keeps the channels as its axis c.
    reorientation : of the volume that was read, kept in the file so that an export can undo it.

    In memory is one slab: float32 of the window's depth along the first axis (of a volume over time, whose windows
    do not overlap in t, along the second), with up to one chunk more when a file is written, times the channels.

    The result is exact, bit for bit, wherever the patches agree and float32 holds their values: a constant gives
    that constant, an identity gives the original. Elsewhere it is the weighted mean to a few units in float32's last
    place of the largest patch value.

    Raises
    ------
    WindowError : when the windows do not tile the grid. OptionError : for an unknown mode.

    >>> grid = Grid.regular("yx", (4, 6))
    >>> windows = SlidingWindows(grid.shape, (4, 4), 0.5)
    >>> image, result = np.arange(24.0).reshape(4, 6), np.zeros((4, 6))
    >>> with Stitcher(grid, windows, result) as stitcher:
    ...     for window in windows:
    ...         stitcher.add(window, image[window.slices])
    >>> bool((result == image).all())
    True
    """

    def __init__(
        self,
        grid: Grid,
        windows: SlidingWindows,
        out: Out,
        *,
        mode: BlendMode = "gaussian",
        halo: int | Sequence[int] = 0,
        categories: Mapping[int, str] | None = None,
        reorientation: Reorientation | None = None,
    ) -> None:
        if mode not in get_args(BlendMode):
            raise OptionError("there is no such mode", got=repr(mode), expected=f"one of {get_args(BlendMode)}")
        kept = [i for i, a in enumerate(grid.axes) if a != "c"]
        lengths = halo_lengths(halo, grid.axes)
        if windows.shape != grid.shape or 0 in grid.shape or not kept:
            raise WindowError(
                "the windows do not tile the grid", got=windows.shape, expected=f"{grid.axes} {grid.shape}"
            )
        for i, axis in enumerate(grid.axes):
            if axis == "c" and (windows.window[i] != grid.shape[i] or lengths[i]):
                got = f"window {windows.window}, halo {lengths}"
                raise WindowError("a stitcher needs windows with all channels and no halo along them", got=got)
        self._windows, self._out, self._mode, self._categories = windows, out, mode, categories
        self._reorientation = reorientation
        # Channels are an axis of the patches, not of the tiling: a model may make others out of those of the image.
        self._grid = restrict(grid, grid.axes.replace("c", ""))
        self._tiles = SlidingWindows(
            self._grid.shape, [windows.window[i] for i in kept], [windows.overlap[i] for i in kept]
        )
        self._halo = tuple(lengths[i] for i in kept)
        self._place = int(self._grid.axes.startswith("t"))
        self._leading = int(self._place == 1 and self._grid.ndim > 1 and disjoint(self._tiles, 0))
        self._channels: int | None = None
        self._slabs: SlabMean | None = None
        self._count, self._closed = 0, False
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon(error)

    def add(self, window: Window, patch: ArrayLike) -> None:
        """Add the patch of the next window of the grid.

        Parameters
        ----------
        patch : numbers of the window's shape, or of that with the halo around it; axes in storage order, with or
            without channels c: before the spatial axes and after t. All patches have the same channels.

        Raises
        ------
        WindowError : for another window than the next one, a patch of another shape, or values that are not finite.
        OptionError : when an array `out` cannot hold the result, or `categories` are not those of the patches.
        StoreError : for trouble with the file, which is then given up.
        """
        if self._closed:
            raise WindowError("the stitcher is closed")
        if self._count == len(self._windows) or window != self._windows[self._count]:
            raise self._disorder(window)
        scores, channels = self._scores(window, np.asarray(patch))
        if self._slabs is not None and channels != self._channels:
            raise WindowError("the patches differ in channels", got=channels, expected=self._channels)
        self._count += 1
        try:
            self._slabs = self._slabs or self._begin(channels)
            self._slabs.add(scores)
        except BaseException as error:
            self._abandon(error)
            raise

    def close(self) -> None:
        """Publish the file.

        Raises
        ------
        WindowError : when windows are missing, so that voxels are not covered; then there is no file.
        """
        self._closed = True
        with self._files:
            if self._count < len(self._windows):
                raise WindowError(
                    "the stitcher is closed before all windows have come, so the volume is not covered",
                    got=f"{self._count} of {len(self._windows)}",
                    expected=f"next the window at {self._windows[self._count].start}",
                    code="missing-windows",
                )

    def _abandon(self, error: BaseException) -> None:
        self._closed = True
        self._files.__exit__(type(error), error, error.__traceback__)

    def _disorder(self, window: Window) -> WindowError:
        number = self._windows.number(window)
        if number is None:
            what = "this is no window of the stitcher's grid"
        elif number < self._count:
            what = f"window {number} has come already"
        else:
            what = f"window {number} comes too early: {number - self._count} before it are missing"
        done = self._count == len(self._windows)
        return WindowError(
            what,
            got=f"{window.start} + {window.shape}",
            expected="no more windows" if done else f"window {self._count} at {self._windows[self._count].start}",
            hint="add each window once, in the order of the grid; do not shuffle",
            code="window-order",
        )

    def _scores(self, window: Window, patch: NDArray[Any]) -> tuple[NDArray[Any], int | None]:
        """The patch as (channels, *window), without its halo, and the number of channels or None."""
        tile = self._tiles[self._count]
        has_channels = patch.ndim == tile.ndim + 1
        scores = np.moveaxis(patch, self._place, 0) if has_channels else patch[np.newaxis]
        if scores.shape[1:] == tile.padded(self._halo).shape:
            scores = scores[:, *(slice(h, h + n) for h, n in zip(self._halo, tile.shape, strict=True))]
        if scores.shape[1:] != tile.shape or not len(scores) or patch.dtype.kind not in "biuf":
            halo = f" or {tile.padded(self._halo).shape}" if any(self._halo) else ""
            raise WindowError(
                f"the patch at {window.start} does not fit its window",
                got=f"{patch.dtype} {patch.shape}",
                expected=f"numbers {tile.shape}{halo}, with channels before axis {self._place} or without",
            )
        inside = scores[:, *tile.clip(self._tiles.shape).placement]
        # A comparison with nan is false, and both ends are nan where one voxel is.
        if not (float(inside.min()) >= -LARGEST and float(inside.max()) <= LARGEST):
            raise WindowError(f"the patch at {window.start} holds nan, inf or values beyond {LARGEST:g}")
        return scores, len(scores) if has_channels else None

    def _begin(self, channels: int | None) -> SlabMean:
        """Settle what the result is, now that the patches' channels are known, and open the file."""
        self._channels = channels
        grid, dtype = self._grid, np.dtype(np.float32)
        if self._categories is not None:
            _check_classes(self._categories, channels)
            dtype = np.min_scalar_type(max(self._categories, default=0))
        elif channels is not None:
            axes, shape, at = grid.axes, grid.shape, self._place
            grid = Grid(
                f"{axes[:at]}c{axes[at:]}", (*shape[:at], channels, *shape[at:]), grid.affine, grid.frame, grid.unit
            )
        step = 1
        if isinstance(self._out, np.ndarray):
            put = _into_array(self._out, grid.shape, dtype)
        else:
            writer = self._files.enter_context(CaseWriter(self._out, case=Path(self._out).stem))
            writer.set_provenance({"stitched": self._facts(), "ndvol": __version__})
            stream = writer.stream(
                PREDICTION, dtype, grid, categories=self._categories, reorientation=self._reorientation
            )
            put, step = stream.put, stream.chunk[grid.axes.index(self._grid.axes[self._leading])]
        emit = self._emitter(put, dtype)
        return SlabMean(self._tiles, self._mode, channels or 1, emit, leading=self._leading, step=step)

    def _emitter(self, put: Put, dtype: np.dtype[Any]) -> Put:
        """From finished boxes (channels, *box) to boxes of the result."""
        at = self._place
        if self._categories is not None:
            return lambda start, block: put(start, _first_largest(block, dtype))
        if self._channels is None:
            return lambda start, block: put(start, block[0])
        return lambda start, block: put((*start[:at], 0, *start[at:]), np.moveaxis(block, 0, at))

    def _facts(self) -> dict[str, Any]:
        windows = self._windows
        return {"mode": self._mode, "window": windows.window, "overlap": windows.overlap, "halo": self._halo}


def _check_classes(categories: Mapping[int, str], channels: int | None) -> None:
    if channels is None or sorted(categories) != list(range(1, channels)):
        raise OptionError(
            "categories must name the classes 1, 2, … of the patches' channels",
            got=f"{sorted(categories)} for {'no' if channels is None else channels} channels",
            hint="class 0 is background and has no name",
        )


def _into_array(out: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Put:
    if out.shape != shape or not np.can_cast(dtype, out.dtype, "safe"):
        got, expected = f"{out.dtype} {out.shape}", f"{dtype} {shape}, or a wider type"
        raise OptionError("the array cannot hold the result", got=got, expected=expected)

    def put(start: tuple[int, ...], block: NDArray[Any]) -> None:
        out[Window(start, block.shape).slices] = block

    return put


def _first_largest(scores: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """argmax along the first axis; `scores` is used up, so that no other array of its size is needed."""
    best, label = scores[0], np.zeros(scores.shape[1:], dtype)
    for value in range(1, len(scores)):
        better = scores[value] > best
        label[better] = value
        np.maximum(best, scores[value], out=best)
    return label
