"""TIFF read window by window: only the tiles (or strips) that a window touches are decoded, by tifffile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ndvol.errors import SourceError
from ndvol.formats.kept import Kept, Stamp, mapped_bytes, stamp_of
from ndvol.formats.mapped import MappedSource, RawVoxels
from ndvol.formats.tiff_files import Tiff, opened_tiff, unreadable
from ndvol.geometry import Window
from ndvol.volumes import PatchSource, valid_window

KEPT_TILES = Kept(2**26)
"""Tiles last decoded, per process."""
MAX_OPEN = 256
"""Tables of tiles kept per process."""


@dataclass(frozen=True, slots=True)
class _Pages:
    """The segments (tiles or strips) of all pages of a TIFF.

    Attributes
    ----------
    axes : of one page: y and x, with c in front or behind.
    shape : of a page: planes of separate samples, rows, columns, samples per pixel.
    segment : rows and columns of a segment.
    decode, tables : of each page: tifffile's decoder, and the JPEG tables that it shares.
    offsets, sizes : per page and segment, in bytes; size 0 for a segment that is not stored.
    nodata : value of segments that are not stored.
    """

    axes: str
    shape: tuple[int, int, int, int]
    segment: tuple[int, int]
    decode: tuple[Callable[..., Any], ...]
    tables: tuple[dict[str, Any], ...]
    offsets: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    nodata: float


class TileSource:
    """A `PatchSource` over the tiles of one TIFF; pickles as its path and layout.

    Parameters
    ----------
    file_axes, file_shape : in the file's own order: those of the pages, then those of one page.
    axes : of the volume: the same in another order.
    """

    levels = 1

    def __init__(
        self, path: Path, file_axes: str, file_shape: tuple[int, ...], axes: str, dtype: np.dtype[Any]
    ) -> None:
        self._stamp = stamp_of(path.absolute())
        self._order = tuple(axes.index(a) for a in file_axes)
        self._pages_shape = file_shape[: len(file_shape) - len(self._table().axes)]
        if prod(self._pages_shape) != len(self._table().decode):
            raise SourceError(f"{path} has another number of pages than its axes say", got=f"{file_axes} {file_shape}")
        self.shape: tuple[int, ...] = tuple(file_shape[file_axes.index(a)] for a in axes)
        self.dtype: np.dtype[Any] = dtype

    def _table(self) -> _Pages:
        return _pages(self._stamp)

    def read_into(self, window: Window, out: NDArray[Any], *, level: int = 0, fill_value: float = 0) -> Window:
        """See `PatchSource`; raises `SourceError` where a tile cannot be decoded or the file has changed."""
        clip = window.clip(self.shape)
        if clip.shape != window.shape:
            out[...] = fill_value
        if 0 not in clip.shape:
            patch = out[clip.placement].transpose(self._order)
            inside = [clip.inside[k] for k in self._order]
            data, pages, n = mapped_bytes(self._stamp), self._table(), len(self._pages_shape)
            for index in product(*(range(s.start, s.stop) for s in inside[:n])):
                page = int(np.ravel_multi_index(index, self._pages_shape)) if index else 0
                target = patch[tuple(i - s.start for i, s in zip(index, inside, strict=False))]
                _fill(target, page, inside[n:], pages, partial(self._segment, data, pages))
        return valid_window(window, self.shape)

    def _segment(self, data: NDArray[np.uint8], pages: _Pages, page: int, number: int) -> NDArray[Any]:
        def decode() -> NDArray[Any]:
            offset, size = pages.offsets[page][number], pages.sizes[page][number]
            if not size:
                return np.full((*pages.segment, pages.shape[3]), pages.nodata, self.dtype)
            if offset + size > len(data):
                raise SourceError(f"{self._stamp.path} ends within a tile", code="truncated")
            try:
                found = pages.decode[page](data[offset : offset + size].tobytes(), number, **pages.tables[page])[0]
            except Exception as error:  # decoders raise whatever the bytes provoke
                raise unreadable(Path(self._stamp.path).parent, Path(self._stamp.path).name, error) from error
            first: NDArray[Any] = np.asarray(found)[0]  # of one plane of depth
            return first

        return KEPT_TILES.get((self._stamp, page, number), decode)


def _fill(
    target: NDArray[Any],
    page: int,
    inside: list[slice],
    pages: _Pages,
    segment: Callable[[int, int], NDArray[Any]],
) -> None:
    """Fill `target`, whose axes are those of a page, from the segments that the slices `inside` touch."""
    at = dict(zip(pages.axes, inside, strict=True))
    separate, rows, columns, _ = pages.shape
    grid = -(-rows // pages.segment[0]), -(-columns // pages.segment[1])
    samples = at.get("c", slice(0, 1))
    planes = range(samples.start, samples.stop) if separate > 1 else range(1)
    # To (plane, y, x, sample), whichever of the outer two the page has.
    target = target[None] if separate == 1 else target
    target = target if pages.axes == "yxc" else target[..., None]
    for plane, row, column in product(planes, *map(_touched, (at["y"], at["x"]), pages.segment)):
        found = segment(page, (plane * grid[0] + row) * grid[1] + column)
        y, y_in = _overlap(at["y"], row * pages.segment[0], found.shape[0])
        x, x_in = _overlap(at["x"], column * pages.segment[1], found.shape[1])
        chosen = found[y_in, x_in] if separate > 1 else found[y_in, x_in, samples]
        target[plane - planes.start, y, x] = chosen


def _touched(span: slice, step: int) -> range:
    return range(span.start // step, (span.stop - 1) // step + 1)


def _overlap(span: slice, start: int, length: int) -> tuple[slice, slice]:
    """Where a segment of `length` at `start` lies in the patch, and which part of the segment that is."""
    low, high = max(span.start, start), min(span.stop, start + length)
    return slice(low - span.start, high - span.start), slice(low - start, high - start)


@lru_cache(MAX_OPEN)
def _pages(stamp: Stamp) -> _Pages:
    path = Path(stamp.path)
    try:
        with opened_tiff(path.parent, path.name) as file:
            found = _segments(file.series[0])
    except Exception as error:  # tifffile raises whatever the bytes provoke
        raise unreadable(path.parent, path.name, error) from error
    if found is None:
        raise SourceError(f"{path} cannot be read tile by tile", code="compression")
    return found


def _segments(series: tifffile.TiffPageSeries) -> _Pages | None:
    """The segments of a series; None where its pages are not alike, or not of a kind that is read tile by tile."""
    key, pages = series.keyframe, list(_own_pages(series))
    axes = {"YX": "yx", "YXS": "yxc", "SYX": "cyx"}.get(key.axes)
    fits = axes is not None and series.axes.endswith(key.axes) and len(pages) == prod(series.shape[: -len(key.axes)])
    plain = key.dtype is not None and key.dtype.kind in "iuf" and key.dtype.itemsize * 8 == key.bitspersample
    if not (fits and plain and key.imagedepth == 1):
        return None
    if key.compression != 1 and key.compression not in tifffile.TIFF.DECOMPRESSORS:
        return None
    if key.predictor != 1 and key.predictor not in tifffile.TIFF.UNPREDICTORS:
        return None
    tables = [{"jpegtables": p.jpegtables} if key.compression in (6, 7) else {} for p in pages]
    separate, _, rows, columns, samples = key.shaped
    segment = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, rows), columns)
    count = separate * -(-rows // segment[0]) * -(-columns // segment[1])
    if any(len(p.dataoffsets) != count or len(p.databytecounts) != count for p in pages):
        return None
    return _Pages(
        axes=str(axes),
        shape=(separate, rows, columns, samples),
        segment=segment,
        decode=tuple(p.keyframe.decode for p in pages),
        tables=tuple(tables),
        offsets=tuple(tuple(p.dataoffsets) for p in pages),
        sizes=tuple(tuple(p.databytecounts) for p in pages),
        nodata=key.nodata,
    )


def _own_pages(series: tifffile.TiffPageSeries) -> Iterator[Any]:
    """The pages that lie in the file itself, all of them or the count is wrong."""
    return (page for page in series.pages if page is not None and page.parent is series.parent)


def tiff_in_place(root: Path, header: Tiff, axes: str) -> PatchSource | None:
    """A source of the volume of `axes` in a TIFF; None where the file must be decoded as a whole.

    Parameters
    ----------
    header : without palette and alpha, which must be looked at as a whole.
    """
    path = root / header.path
    try:
        with opened_tiff(root, header.path) as file:
            series, order = file.series[0], tuple(header.axes.index(a) for a in axes)
            offset = series.dataoffset
            if series.dtype.kind not in "iuf" or _segments(series) is None:
                return None
            stored = series.dtype.newbyteorder(file.byteorder)
    except SourceError:
        raise
    except Exception as error:  # tifffile raises whatever the bytes provoke
        raise unreadable(root, header.path, error) from error
    if offset is not None and offset + prod(header.shape) * stored.itemsize <= path.stat().st_size:
        return MappedSource(RawVoxels(path, stored, offset, header.shape, order), header.dtype)
    return TileSource(path, header.axes, header.shape, axes, header.dtype)
