"""Targets, cohorts, and label volumes that lack an axis of the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TREE, VALUES, chunk_of, cohort_of, random_labels

from ndvol.errors import SamplingError, WindowError
from ndvol.geometry import Window
from ndvol.sampling import ObjectRows, Rows, Target, examined_categories
from ndvol.sampling.indices import Broadcast
from ndvol.volumes import ArrayLabelSource

KEYS = ("category", "case", "label", "value", "voxels")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": "maybe"}, "no such role; got 'maybe'"),
        ({"window": Window((0, 0), (3, 0)), "point": (0, 0)}, "outside its window"),
        ({"level": -1}, "level is negative; got -1"),
        ({"point": (3, 0)}, r"outside its window; got \(3, 0\); expected from \(0, 0\) up to and without \(3, 3\)"),
        ({"point": (1,)}, "outside its window"),
    ],
)
def test_impossible_targets_are_refused(options, message):
    with pytest.raises(WindowError, match=message):
        Target(**{"case": "a", "window": Window((0, 0), (3, 3)), **options})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4, st.integers(0, 9)), max_size=30))
def test_rows_sum_the_objects_of_a_value(objects):
    columns = dict(zip(KEYS, np.array(objects, np.int64).reshape(-1, 5).T, strict=True))
    corners = np.zeros((len(objects), 3), np.int64)
    table = ObjectRows.gather(**columns, number=np.arange(len(objects)), start=corners, stop=corners + 1)
    assert sorted(table.number.tolist()) == [k for k, row in enumerate(objects) if row[-1]]
    for k, number in enumerate(table.number):
        assert [int(getattr(table, key)[k]) for key in KEYS] == list(objects[number])
    rows = Rows.of(table)
    totals: dict = {}
    for *key, voxels in objects:
        totals[tuple(key)] = totals.get(tuple(key), 0) + voxels
    columns = (rows.category, rows.case, rows.label, rows.value, rows.voxels)
    found = [tuple(map(int, row)) for row in zip(*columns, strict=True)]
    assert found == sorted((*key, n) for key, n in totals.items() if n)


def test_a_subtree_is_one_slice_of_the_rows():
    cohort = cohort_of([[np.arange(6)], [np.array([5, 4, 5])]])
    for name in TREE.names:
        wanted = {TREE.index(n) for n in (name, *TREE.descendants(name))}
        assert cohort.rows.category[cohort.subtree(name)].tolist() == sorted(
            c for c in cohort.rows.category.tolist() if c in wanted
        )
    assert cohort.occurring() == ("liver", "kidney", "lesion", "cyst", "tumour")
    assert cohort.rows.voxels[cohort.subtree("tumour")].tolist() == [1, 2]
    assert set(VALUES.values()) == set(cohort.occurring())


def test_contradicting_cohorts_are_refused():
    good = cohort_of([[np.arange(6)]])

    def change(**columns):
        return replace(good, **columns)

    with pytest.raises(SamplingError, match="no case to draw from"):
        change(names=())
    with pytest.raises(SamplingError, match="one shape, spacing and tuple of label volumes per case"):
        change(label_names=((), ()))
    with pytest.raises(SamplingError, match="one shape, spacing and tuple of label volumes per case"):
        change(spacing=np.ones((1, 2)))
    with pytest.raises(SamplingError, match="case 'case-0' holds no voxel; got \\[0\\]"):
        change(shapes=np.array([[0]]))
    with pytest.raises(SamplingError, match="sorted by category"):
        change(objects=replace(good.objects, category=good.objects.category[::-1]))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_broadcast_equals_the_repeated_array(data):
    """A label volume over some axes is judged like one that repeats it along the others."""
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * 4))
    positions = data.draw(st.sampled_from([(1, 2, 3), (2, 3), (0, 2, 3), (3,)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    own = random_labels(rng, tuple(shape[i] for i in positions), 0.5)
    whole = np.zeros(shape, np.uint8) + np.expand_dims(own, [i for i in range(4) if i not in positions])
    index = Broadcast(ArrayLabelSource(own, chunk_of(own)).label_index(), positions, shape)
    for value in (1, 4):
        voxels = [index.voxel(value, r) for r in range(index.count(value))]
        assert sorted(voxels) == [tuple(p) for p in np.argwhere(whole == value).tolist()]
    window = Window(data.draw(st.tuples(*[st.integers(-2, 3)] * 4)), data.draw(st.tuples(*[st.integers(1, 4)] * 4)))
    clip = window.clip(shape)
    expected = np.zeros(window.shape, bool)
    expected[clip.placement] = np.isin(whole, [1, 4])[clip.inside]
    assert np.array_equal(index.mask([1, 4], window), expected)
    low, high = index.bounds([1, 4], window)
    assert low <= expected.sum() <= high


def test_examined_categories():
    def examined(*names):
        return {TREE.names[i] for i in examined_categories(TREE, names)}

    assert examined("lesion") == {"lesion", "cyst", "tumour"}
    assert examined("cyst") == {"cyst"}
    assert examined("cyst", "tumour", "never", "not in the tree") == {"lesion", "cyst", "tumour", "never"}
    assert examined("liver", "kidney", "lesion") == {"organ", "liver", "kidney", "lesion", "cyst", "tumour"}
    assert examined() == set()
