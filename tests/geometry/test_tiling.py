"""Tilings against counts of how often each voxel is covered, and searches over all starts and chunks."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from ndvol.errors import WindowError
from ndvol.geometry import SlidingWindows, Window, chunk_shape, start_range
from ndvol.geometry.tiling import CHUNK_VOXELS, chunk_counts, chunk_window, sliding_starts, touched_chunks

OVERLAPS = st.floats(0, 0.99) | st.sampled_from([0.0, 0.25, 0.5, 0.75])
SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7)
TILINGS = SHAPES.flatmap(lambda s: st.tuples(st.just(s), st.tuples(*[st.integers(1, 9)] * len(s)), OVERLAPS))
CHUNKINGS = SHAPES.flatmap(lambda s: st.tuples(st.just(s), st.tuples(*[st.integers(1, 5)] * len(s))))


@given(st.integers(0, 300), st.integers(1, 80), OVERLAPS)
def test_starts_follow_the_stride_and_end_at_the_border(length: int, window: int, overlap: float) -> None:
    starts = list(sliding_starts(length, window, overlap))
    assert starts[0] == 0
    assert starts[-1] == max(0, length - window)
    assert sorted(set(starts)) == starts
    stride = max(1, round(window * (1 - overlap)))
    assert set(np.diff(starts[:-1])) <= {stride}
    assert 0 <= starts[-1] - starts[max(0, len(starts) - 2)] <= stride
    covered = {i for a in starts for i in range(a, a + window)}
    assert set(range(length)) <= covered
    if window <= length:
        assert covered <= set(range(length))


@given(TILINGS)
def test_sliding_windows_cover_every_voxel(case: tuple[tuple[int, ...], tuple[int, ...], float]) -> None:
    shape, size, overlap = case
    tiles = SlidingWindows(shape, size, overlap)
    covered = np.zeros(shape, int)
    for tile in tiles:
        assert tile.shape == size
        covered[tile.clip(shape).inside] += 1
    assert covered.min() >= 1
    assert len(set(tiles)) == len(tiles) == len(list(tiles))
    assert [t.start for t in tiles] == sorted(t.start for t in tiles)
    assert [t.start for t in tiles] == list(
        product(*(sliding_starts(s, w, overlap) for s, w in zip(shape, size, strict=True)))
    )


def test_sliding_windows_are_a_sequence() -> None:
    tiles = SlidingWindows((10, 3), (4, 2), (0.5, 0.0))
    assert tiles[-1] == tiles[len(tiles) - 1] == Window((6, 1), (4, 2))
    assert [t.start for t in tiles] == [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1), (6, 0), (6, 1)]
    assert {type(v) for v in tiles[3].start} == {int}
    for index in (len(tiles), -len(tiles) - 1):
        with pytest.raises(IndexError, match=rf"^window {index} of 8$"):
            tiles[index]


@given(TILINGS)
def test_windows_know_their_numbers(case: tuple[tuple[int, ...], tuple[int, ...], float]) -> None:
    shape, size, overlap = case
    tiles = SlidingWindows(shape, size, overlap)
    assert (tiles.shape, tiles.window, tiles.overlap) == (shape, size, (overlap,) * len(shape))
    for number, tile in enumerate(tiles):
        assert tiles.number(tile) == number
        assert tuple(s[i] for s, i in zip(tiles.starts, tiles.position(number), strict=True)) == tile.start
    first = tiles[0]
    assert tiles.number(Window(first.start, tuple(n + 1 for n in size))) is None
    assert tiles.number(first.shifted([-1] * len(shape))) is None
    assert tiles.number(Window(first.start[1:], first.shape[1:])) is None


def test_a_tiling_too_large_to_list_answers_at_once() -> None:
    tiles = SlidingWindows((10**4,) * 4, (2,) * 4)
    assert len(tiles) == 5000**4
    assert tiles[len(tiles) - 1].stop == (10**4,) * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((9,), (0,)), r"^a sliding window needs a length >= 1 and an overlap in \[0, 1\); got 0, 0\.0$"),
        (((9,), (3,), 1.0), r"^a sliding window needs .* got 3, 1\.0$"),
        (((9,), (3,), -0.1), r"^a sliding window needs .* got 3, -0\.1$"),
        (((9,), (3,), float("nan")), r"^a sliding window needs .* got 3, nan$"),
        (((9,), (3, 3)), r"^one window length and overlap per axis; got \(3, 3\), \(0\.0,\) for 1 axes$"),
        (((9, 9), (3, 3), (0.5,)), r"^one window length and overlap per axis; got \(3, 3\), \(0\.5,\) for 2 axes$"),
    ],
)
def test_tilings_that_cannot_exist_are_refused(arguments, message: str) -> None:
    with pytest.raises(WindowError, match=message):
        SlidingWindows(*arguments)


@given(st.integers(0, 9), st.integers(1, 12))
def test_start_range_holds_the_starts_that_stay_inside_or_cover(length: int, window: int) -> None:
    """Searched over all starts that could matter: the window is in the volume, or the volume in the window."""
    good = [
        a
        for a in range(-30, 30)
        if (a >= 0 and a + window <= length) or (window >= length and a <= 0 and a + window >= length)
    ]
    (low,), (high,) = start_range((length,), (window,))
    assert list(range(low, high)) == good


@given(SHAPES.flatmap(lambda s: st.tuples(st.just(s), st.tuples(*[st.integers(1, 9)] * len(s)))))
def test_start_range_goes_axis_by_axis(case: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, window = case
    axes = [start_range((s,), (w,)) for s, w in zip(shape, window, strict=True)]
    assert start_range(shape, window) == (tuple(a[0] for a, _ in axes), tuple(b[0] for _, b in axes))


@given(
    st.sampled_from(["x", "yx", "zyx", "tzyx", "czyx", "tczyx", "tyx"]).flatmap(
        lambda axes: st.tuples(st.just(axes), st.tuples(*[st.integers(1, 2000)] * len(axes)))
    )
)
def test_chunks_fit_the_volume_and_the_budget(case: tuple[str, tuple[int, ...]]) -> None:
    axes, shape = case
    chunk = chunk_shape(axes, shape)
    assert len(chunk) == len(shape)
    assert all(1 <= c <= s for c, s in zip(chunk, shape, strict=True))
    assert all(c == 1 for c, a in zip(chunk, axes, strict=True) if a in "tc")
    assert prod(chunk) <= CHUNK_VOXELS
    spatial = [(c, s) for c, s, a in zip(chunk, shape, axes, strict=True) if a in "zyx"]
    # An axis is cut only when the budget is spent: one voxel more on each cut axis would exceed it.
    if any(c < s for c, s in spatial):
        assert prod(c + (c < s) for c, s in spatial) > CHUNK_VOXELS
    # Cut axes are near a cube, and uncut ones are no longer than it.
    cut = [c for c, s in spatial if c < s]
    assert max(cut, default=0) - min(cut, default=0) <= max(1, min(cut, default=0) // 8)
    assert max((c for c, s in spatial if c == s), default=0) <= min(cut, default=CHUNK_VOXELS)


def test_chunk_of_an_ordinary_volume_is_a_cube() -> None:
    assert chunk_shape("zyx", (300, 512, 512)) == (32, 32, 32)
    assert chunk_shape("zyx", (0, 512, 512))[0] == 1


@given(CHUNKINGS)
def test_chunks_partition_the_volume(case: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, chunk = case
    counts = chunk_counts(shape, chunk)
    assert counts == tuple(len(range(0, s, c)) for s, c in zip(shape, chunk, strict=True))
    owner = np.full(shape, -1)
    for number in range(prod(counts)):
        box = chunk_window(number, shape, chunk)
        assert (owner[box.slices] == -1).all()
        assert min(box.shape) > 0
        owner[box.slices] = number
    # Row-major: each voxel belongs to the chunk that integer division names.
    at = np.indices(shape).reshape(len(shape), -1).T // np.array(chunk)
    np.testing.assert_array_equal(owner.ravel(), np.ravel_multi_index(tuple(at.T), counts))


@given(CHUNKINGS, st.data())
def test_touched_chunks_are_those_that_share_a_voxel(
    case: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    shape, chunk = case
    start = tuple(data.draw(st.integers(-4, s + 2)) for s in shape)
    window = Window(start, tuple(data.draw(st.integers(0, 9)) for _ in shape))
    counts = chunk_counts(shape, chunk)
    expected = [
        tuple(int(i) for i in np.unravel_index(number, counts))
        for number in range(prod(counts))
        if chunk_window(number, shape, chunk).overlaps(window)
    ]
    assert list(touched_chunks(window, shape, chunk)) == expected
