"""LabelIndex against plain numpy on the whole array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndvol.errors import SamplingError
from ndvol.geometry import Window
from ndvol.label_index import LabelIndex, count_chunks
from ndvol.volumes import ArrayLabelSource, ArraySource


@st.composite
def labels_and_chunk(draw):
    n = draw(st.integers(1, 4))
    shape = draw(st.tuples(*[st.integers(1, {1: 12, 2: 7, 3: 5, 4: 3}[n])] * n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.where(rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.7])), rng.integers(1, 4, shape), 0)
    return labels.astype(draw(st.sampled_from(["u1", "i2", "u4"]))), draw(st.tuples(*[st.integers(1, 4)] * n))


@settings(max_examples=60, deadline=None)
@given(labels_and_chunk())
def test_every_voxel_is_numbered_once(drawn):
    labels, chunk = drawn
    index = ArrayLabelSource(labels, chunk).label_index()
    assert list(index.values) == [v for v in np.unique(labels).tolist() if v]
    for value in (1, 2, 3, 9):
        voxels = [index.voxel(value, r) for r in range(index.count(value))]
        assert sorted(voxels) == [tuple(p) for p in np.argwhere(labels == value).tolist()]


@settings(max_examples=60, deadline=None)
@given(labels_and_chunk(), st.data())
def test_windows_are_judged_exactly(drawn, data):
    labels, chunk = drawn
    n = labels.ndim
    window = Window(data.draw(st.tuples(*[st.integers(-4, 12)] * n)), data.draw(st.tuples(*[st.integers(1, 8)] * n)))
    clip = window.clip(labels.shape)
    index = ArrayLabelSource(labels, chunk).label_index()
    for values in ([1], [1, 3], [9], []):
        expected = np.zeros(window.shape, bool)
        expected[clip.placement] = np.isin(labels, values)[clip.inside]
        low, high = index.bounds(values, window)
        assert low <= expected.sum() <= high <= window.size
        assert index.inside(values, window) == expected.sum()
        assert np.array_equal(index.mask(values, window), expected)


def test_a_volume_of_background_has_an_index():
    index = ArrayLabelSource(np.zeros((4, 4), np.uint8)).label_index()
    assert (index.values, index.count(1)) == ((), 0)
    assert index.inside([1], Window((0, 0), (4, 4))) == 0
    with pytest.raises(SamplingError, match="value 1 has no voxel 0"):
        index.voxel(1, 0)


def test_nothing_is_read_where_the_counts_decide():
    class Deaf(ArraySource):
        def read_into(self, window, out, *, level=0, fill_value=0):
            raise AssertionError("the counts alone must do")

    labels = np.zeros((8, 8), np.uint8)
    labels[:2, :2] = 1
    index = LabelIndex(Deaf(labels), (2, 2), count_chunks(labels, (2, 2)))
    assert index.inside([1], Window((0, 0), (3, 3))) == 4
    assert not index.mask([1], Window((4, 4), (4, 4))).any()
    with pytest.raises(AssertionError, match="counts alone"):
        index.mask([1], Window((1, 1), (4, 4)))


def test_counts_that_contradict_the_labels_are_damage():
    labels = np.array([1, 1, 0, 0], np.uint8)
    table = count_chunks(labels, (2,))
    table[0, 2] = 3
    with pytest.raises(SamplingError, match=r"another number of voxels.*got 2; expected 3.*ndvol verify"):
        LabelIndex(ArraySource(labels), (2,), table).voxel(1, 0)
