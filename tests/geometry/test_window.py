"""Window and Clip against arrays and sets of indices, in 1 to 4 axes."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from ndvol.errors import WindowError
from ndvol.geometry import Clip, Window


@st.composite
def windows(draw: st.DrawFn, ndim: int) -> Window:
    """Inside, across every border, wholly outside, and empty, for axes of 0 to 6 voxels."""
    start = [draw(st.integers(-9, 9)) for _ in range(ndim)]
    return Window(tuple(start), tuple(draw(st.integers(0, 7)) for _ in range(ndim)))


SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)
CASES = SHAPES.flatmap(lambda s: st.tuples(st.just(s), windows(len(s))))
PAIRS = st.integers(1, 3).flatmap(lambda n: st.tuples(windows(n), windows(n)))


def members(window: Window) -> set[tuple[int, ...]]:
    """Every index of the window, by the definition of a half-open box."""
    return set(product(*(range(a, a + n) for a, n in zip(window.start, window.shape, strict=True))))


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape)


@given(CASES)
def test_the_law_of_the_clip(case: tuple[tuple[int, ...], Window]) -> None:
    shape, window = case
    volume = numbered(shape)
    margin = 20
    padded = np.pad(volume, margin, constant_values=-7)
    expected = padded[tuple(slice(a + margin, b + margin) for a, b in zip(window.start, window.stop, strict=True))]

    clip = window.clip(shape)
    np.testing.assert_array_equal(expected[clip.placement], volume[clip.inside], strict=True)
    patch = np.full(window.shape, -7)
    patch[clip.placement] = volume[clip.inside]
    np.testing.assert_array_equal(patch, expected, strict=True)
    assert clip.shape == volume[clip.inside].shape
    # No slice counts from the end, and none relies on numpy cutting it short.
    for s, length in [*zip(clip.inside, shape, strict=True), *zip(clip.placement, window.shape, strict=True)]:
        assert 0 <= s.start <= s.stop <= length


@given(CASES)
def test_the_clip_holds_the_shared_indices(case: tuple[tuple[int, ...], Window]) -> None:
    shape, window = case
    clip = window.clip(shape)
    inside = set(product(*(range(s.start, s.stop) for s in clip.inside)))
    assert inside == members(window) & members(Window.full(shape))


@given(PAIRS)
def test_intersection_and_overlaps_are_those_of_sets(pair: tuple[Window, Window]) -> None:
    a, b = pair
    shared = members(a) & members(b)
    assert members(a.intersection(b)) == shared
    assert a.intersection(b).size == len(shared)
    assert a.overlaps(b) == b.overlaps(a) == bool(shared)


@given(windows(3), st.tuples(*[st.integers(-5, 5)] * 3))
def test_shifted_moves_every_index(window: Window, offset: tuple[int, ...]) -> None:
    moved = {tuple(i + o for i, o in zip(m, offset, strict=True)) for m in members(window)}
    assert members(window.shifted(offset)) == moved
    assert window.shifted(offset).shape == window.shape


@given(windows(2), st.tuples(*[st.integers(0, 3)] * 2))
def test_padded_holds_all_within_the_margin(window: Window, margin: tuple[int, ...]) -> None:
    grown = window.padded(margin)
    assert grown.shape == tuple(n + 2 * m for n, m in zip(window.shape, margin, strict=True))
    assert members(window) <= members(grown)
    near = {
        tuple(i + d for i, d in zip(m, delta, strict=True))
        for m in members(window)
        for delta in product(*(range(-k, k + 1) for k in margin))
    }
    assert near <= members(grown)
    if window.size:
        assert members(grown) == near
    assert grown.padded([-m for m in margin]) == window


@given(CASES)
def test_between_full_and_size(case: tuple[tuple[int, ...], Window]) -> None:
    shape, window = case
    assert Window.between(window.start, window.stop) == window
    assert window.size == len(members(window))
    assert window.ndim == len(shape)
    assert members(Window.full(shape)) == set(np.ndindex(*shape))
    assert pickle.loads(pickle.dumps(window)) == window
    assert hash(Window(list(window.start), np.array(window.shape))) == hash(window)


@given(CASES)
def test_slices_of_a_window_inside_select_it(case: tuple[tuple[int, ...], Window]) -> None:
    shape, window = case
    inside = window.intersection(Window.full(shape))
    if inside.size:
        volume = numbered(shape)
        chosen = {tuple(map(int, np.argwhere(volume == v)[0])) for v in volume[inside.slices].ravel()}
        assert chosen == members(inside)
        assert volume[inside.slices].shape == inside.shape


def test_entries_become_plain_integers() -> None:
    window = Window(np.array([1, -2]), [np.int64(3), True])
    assert window == Window((1, -2), (3, 1))
    assert {type(v) for v in (*window.start, *window.shape)} == {int}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window((0.5,), (1,)), r"^the window's start must be integers; got \(0\.5,\)$"),
        (lambda: Window((0,), ("1",)), r"^the window's shape must be integers; got \('1',\)$"),
        (lambda: Window(3, (1,)), r"^the window's start must be integers; got 3$"),
        (
            lambda: Window((0, 0), (1,)),
            r"^a window needs one start and one length per axis; got start \(0, 0\) and shape \(1,\)$",
        ),
        (lambda: Window((0, 0), (1, -1)), r"^a window's length cannot be negative; got shape \(1, -1\)$"),
        (lambda: Window.between((3,), (1,)), r"^a window's length cannot be negative; got shape \(-2,\)$"),
        (lambda: Window.between((3, 1), (4,)), r"^start and stop differ in length; got \(3, 1\) and \(4,\)$"),
        (
            lambda: Window((-1, 0), (2, 2)).slices,
            r"^a negative start would count from the end in a slice; got start \(-1, 0\)$",
        ),
        (
            lambda: Window((0,), (1,)).clip((2, 2)),
            r"^the volume shape has another number of axes than the window; got 2 for \(2, 2\); "
            r"expected 1 for start \(0,\)$",
        ),
        (lambda: Window((0,), (1,)).shifted((1, 2)), r"^the offset has another number of axes than the window; got 2"),
        (lambda: Window((0,), (1,)).padded(()), r"^the margin has another number of axes than the window; got 0"),
        (
            lambda: Window((0,), (1,)).intersection(Window((0, 0), (1, 1))),
            r"^the other window has another number of axes than the window; got 2",
        ),
        (lambda: Window((0,), (3,)).padded((-2,)), r"^a window's length cannot be negative; got shape \(-1,\)$"),
    ],
)
def test_windows_that_cannot_exist_are_refused(make, message: str) -> None:
    with pytest.raises(WindowError, match=message):
        make()


def test_the_shape_of_a_clip() -> None:
    assert Clip((slice(2, 5), slice(0, 0)), (slice(0, 3), slice(1, 1))).shape == (3, 0)


@given(
    st.lists(st.tuples(st.integers(-80, 80).map(lambda k: k / 8), st.integers(0, 80).map(lambda k: k / 8)), max_size=4)
)
def test_centre_and_extent(pairs: list[tuple[float, float]]) -> None:
    window = Window.centred([c for c, _ in pairs], [d for _, d in pairs])
    for (c, d), start, length in zip(pairs, window.start, window.shape, strict=True):
        # By counting up: the last integer not above c - d / 2, and the first not below d.
        assert start == max(k for k in range(-30, 30) if k <= c - d / 2)
        assert length == min(k for k in range(30) if k >= d)


@pytest.mark.parametrize(
    ("centre", "extent"), [((0.0,), (-1.0,)), ((float("nan"),), (1.0,)), ((0.0,), (float("inf"),))]
)
def test_a_centre_or_extent_that_cannot_be_is_refused(centre: tuple[float], extent: tuple[float]) -> None:
    with pytest.raises(WindowError, match="centre and extent must be finite"):
        Window.centred(centre, extent)
