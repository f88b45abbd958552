"""Box sums and the exact list of admissible positions against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import all_windows

from ndvol.errors import WindowError
from ndvol.geometry import start_range
from ndvol.sampling import admissible, distances
from ndvol.sampling.admissible import Admissible, Starts, box_sums, count_planes
from ndvol.sampling.distances import distance_planes, reach_of, squared_distance
from ndvol.sampling.places import Places, number_below, pick


@st.composite
def masks(draw):
    n = draw(st.integers(1, 4))
    side = {1: 15, 2: 7, 3: 5, 4: 3}[n]
    shape = draw(st.tuples(*[st.integers(1, side)] * n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return mask, draw(st.tuples(*[st.integers(1, side + 2)] * n))


@settings(max_examples=60, deadline=None)
@given(masks())
def test_box_sums_are_the_sums_of_the_boxes(drawn):
    mask, window = drawn
    window = tuple(min(n, w) for n, w in zip(mask.shape, window, strict=True))
    sums = box_sums(mask, window)
    assert sums.shape == tuple(n - w + 1 for n, w in zip(mask.shape, window, strict=True))
    for start in np.ndindex(sums.shape):
        assert sums[start] == mask[tuple(slice(s, s + w) for s, w in zip(start, window, strict=True))].sum()


@pytest.mark.parametrize("slab", [1, 40, 2**24])
@settings(max_examples=40, deadline=None)
@given(masks(), st.integers(0, 6))
def test_the_list_is_exact(slab, drawn, limit):
    mask, window = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admissible, "SLAB_VOXELS", slab)
        starts = all_starts(mask.shape, window)
        sums = count_planes(starts.region, starts.window, lambda w: mask[w.slices])
        listed = Admissible(starts, (plane <= limit for plane in sums))
    counts = {w.start: int(mask[w.clip(mask.shape).inside].sum()) for w in all_windows(mask.shape, window)}
    allowed = {start for start, count in counts.items() if count <= limit}
    starts = [listed[k] for k in range(len(listed))]
    assert set(starts) == allowed
    assert len(starts) == len(allowed)
    assert {start for start in counts if start in listed} == allowed
    with pytest.raises(IndexError):
        listed[len(listed)]


def all_starts(shape, window):
    low, stop = start_range(shape, window)
    return Starts(shape, low, [b - a for a, b in zip(low, stop, strict=True)], window)


@settings(max_examples=40, deadline=None)
@given(masks(), st.integers(0, 6), st.data())
def test_the_list_of_some_starts_is_exact(drawn, limit, data):
    mask, window = drawn
    low, stop = start_range(mask.shape, window)
    first = [data.draw(st.integers(a, b - 1)) for a, b in zip(low, stop, strict=True)]
    count = [data.draw(st.integers(1, b - a)) for a, b in zip(first, stop, strict=True)]
    starts = Starts(mask.shape, first, count, window)
    assert len(starts) == np.prod(count)
    sums = count_planes(starts.region, starts.window, lambda w: mask[w.slices])
    listed = Admissible(starts, (plane <= limit for plane in sums))
    ends = [a + n for a, n in zip(first, count, strict=True)]
    windows = [w for w in all_windows(mask.shape, window) if all(map(in_range, w.start, first, ends))]
    allowed = {w.start for w in windows if mask[w.clip(mask.shape).inside].sum() <= limit}
    assert sorted(listed[k] for k in range(len(listed))) == sorted(allowed)


def in_range(value, first, end):
    return first <= value < end


@pytest.mark.parametrize("slab", [1, 40, 2**22])
@settings(max_examples=40, deadline=None)
@given(masks(), st.data())
def test_distances_are_those_of_the_nearest_voxels(slab, drawn, data):
    """Against the distances between all pairs of a window's voxels and marked voxels, at every position."""
    mask, window = drawn
    spacing = [data.draw(st.sampled_from([0.7, 1.0, 2.5, np.inf])) for _ in window]
    limit = data.draw(st.sampled_from([0.5, 2.0, 5.0]))
    starts = all_starts(mask.shape, window)

    def padded_mask(w):
        found = np.zeros(w.shape, bool)
        clip = w.clip(mask.shape)
        found[clip.placement] = mask[clip.inside]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "SLAB_VOXELS", slab)
        planes = list(distance_planes(starts.region, starts.window, padded_mask, spacing, limit))
    found = np.concatenate([p.ravel() for p in planes]).reshape(starts.shape)
    for w in all_windows(mask.shape, window):
        inside = np.argwhere(np.ones(w.shape)) + w.start
        gaps = np.abs(inside[:, None] - np.argwhere(mask)[None])
        with np.errstate(invalid="ignore"):
            steps = np.where(gaps > 0, gaps * np.array(spacing), 0.0)
        nearest = (steps**2).sum(-1).min(initial=np.inf)
        at = tuple(min(s - a, n - 1) for s, a, n in zip(w.start, starts.low, starts.shape, strict=True))
        within = nearest <= limit**2
        assert found[at] == pytest.approx(nearest) if within else found[at] > limit**2
        padded = w.padded(reach_of(limit, spacing))
        single = squared_distance(padded_mask(padded), padded, w, spacing)
        assert single == pytest.approx(nearest) if within else single > limit**2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4), st.integers(1, 8))
def test_places_number_every_window_once(shapes, side):
    places = Places.inside(shapes, (side, 2))
    expected = [(i, w.start) for i, shape in enumerate(shapes) for w in all_windows(shape, (side, 2))]
    assert [places[k] for k in range(len(places))] == expected


def test_places_end():
    places = Places.inside([(4,)], (2,))
    with pytest.raises(IndexError, match="place 3 of 3"):
        places[3]
    with pytest.raises(WindowError, match="one length per axis"):
        Places.inside([(4, 4)], (2,))


def test_pick_survives_a_product_that_rounds_up_to_the_total():
    class Top:
        def random(self):
            return 1.0

    assert pick(np.array([1.0, 3.0]), Top(), None) == (1, None)
    last = float(np.nextafter(1.0, 0.0))
    part, within = pick(np.array([1.0, 3.0]), Top(), last)
    assert (part, within < 1) == (1, True)
    assert number_below(3, Top(), last) == 2
