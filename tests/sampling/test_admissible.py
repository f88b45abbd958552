"""Box sums and the exact list of admissible positions against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import all_windows

from ndvol.errors import WindowError
from ndvol.sampling import admissible
from ndvol.sampling.admissible import Admissible, box_sums
from ndvol.sampling.places import Places, pick


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
        listed = Admissible(mask.shape, window, lambda w: mask[w.slices], limit)
    counts = {w.start: int(mask[w.clip(mask.shape).inside].sum()) for w in all_windows(mask.shape, window)}
    allowed = {start for start, count in counts.items() if count <= limit}
    starts = [listed[k] for k in range(len(listed))]
    assert set(starts) == allowed
    assert len(starts) == len(allowed)
    assert {start for start in counts if start in listed} == allowed
    assert listed.fewest == min(counts.values())
    with pytest.raises(IndexError):
        listed[len(listed)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4), st.integers(1, 8))
def test_places_number_every_window_once(shapes, side):
    places = Places(shapes, (side, 2))
    expected = [(i, w.start) for i, shape in enumerate(shapes) for w in all_windows(shape, (side, 2))]
    assert [places[k] for k in range(len(places))] == expected


def test_places_end():
    places = Places([(4,)], (2,))
    with pytest.raises(IndexError, match="place 3 of 3"):
        places[3]
    with pytest.raises(WindowError, match="one length per axis"):
        Places([(4, 4)], (2,))


def test_pick_survives_a_product_that_rounds_up_to_the_total():
    class Top:
        def random(self):
            return 1.0

    assert pick(np.array([1.0, 3.0]), Top()) == 1
