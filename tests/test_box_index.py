"""BoxIndex against arrays in which every box is painted by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.box_index import BoxIndex, disjoint
from ndvol.errors import SamplingError
from ndvol.geometry import Window


@st.composite
def boxes(draw):
    n = draw(st.integers(1, 4))
    shape = draw(st.tuples(*[st.integers(1, {1: 20, 2: 8, 3: 5, 4: 4}[n])] * n))
    count = draw(st.integers(0, 8))
    low = [[draw(st.integers(0, s - 1)) for s in shape] for _ in range(count)]
    high = [[draw(st.integers(a, s)) for a, s in zip(box, shape, strict=True)] for box in low]
    value = [draw(st.integers(1, 3)) for _ in range(count)]
    corners = [np.array(c, np.int64).reshape(count, n) for c in (low, high)]
    return shape, np.array(value, np.int64), *corners


def painted(shape, value, start, stop):
    """Per value the voxels that any of its boxes holds."""
    masks = {v: np.zeros(shape, bool) for v in (1, 2, 3)}
    for v, a, b in zip(value.tolist(), start, stop, strict=True):
        masks[v][tuple(slice(x, y) for x, y in zip(a, b, strict=True))] = True
    return masks


@given(boxes(), st.data())
def test_every_box_is_judged_by_itself(drawn, data):
    shape, value, start, stop = drawn
    masks = painted(*drawn)
    index = BoxIndex(value, start, stop, shape)
    assert set(index.values) == {v for v, mask in masks.items() if mask.any()}
    for v, mask in masks.items():
        voxels = [index.voxel(v, r) for r in range(index.count(v))]
        assert sorted(voxels) == [tuple(p) for p in np.argwhere(mask).tolist()]
        with pytest.raises(SamplingError, match=f"value {v} has no voxel"):
            index.voxel(v, len(voxels))
    n = len(shape)
    window = Window(data.draw(st.tuples(*[st.integers(-3, 6)] * n)), data.draw(st.tuples(*[st.integers(0, 6)] * n)))
    for wanted in ([1], [1, 2], [3, 1, 2], []):
        union = np.any([masks[v] for v in wanted], axis=0) if wanted else np.zeros(shape, bool)
        clip = window.clip(shape)
        expected = np.zeros(window.shape, bool)
        expected[clip.placement] = union[clip.inside]
        assert np.array_equal(index.mask(wanted, window), expected)
        low, high = index.bounds(wanted, window)
        assert low <= expected.sum() <= high
        assert index.inside(wanted, window) == expected.sum()
        if len(wanted) < 2:
            assert low == high


@given(boxes())
def test_disjoint_boxes_hold_the_same_voxels_once(drawn):
    shape, _, start, stop = drawn
    times = np.zeros(shape, int)
    for a, b in zip(*disjoint(start, stop), strict=True):
        times[tuple(slice(x, y) for x, y in zip(a, b, strict=True))] += 1
    union = np.any(list(painted(shape, np.ones(len(start), int), start, stop).values()), axis=0)
    assert np.array_equal(times, union.astype(int))
