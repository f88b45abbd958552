"""Every strategy against a brute-force oracle: what it may draw, and that it draws it uniformly."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
from draws import assert_uniform, cases, draw, rng_of
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import all_windows, cohort_of, random_labels

from ndvol.errors import OptionError, WindowError
from ndvol.geometry import SlidingWindows, Window, start_range
from ndvol.sampling import Mix, Negative, Positive, Sliding, Target, Uniform


class TestUniform:
    @settings(max_examples=40, deadline=None)
    @given(cases())
    def test_starts_stay_in_range(self, drawn):
        volumes, window = drawn
        for target in draw(Uniform().bind(cohort_of(volumes), window), 20):
            low, stop = start_range(volumes[int(target.case[5:])][0].shape, window)
            assert target.window.shape == window
            assert all(a <= s < b for a, s, b in zip(low, target.window.start, stop, strict=True))
            assert (target.role, target.category, target.point) == ("any", None, None)

    def test_every_position_of_every_case_is_equally_likely(self):
        shapes = [(5, 3), (2, 4), (1, 1)]
        cohort = cohort_of([[], [], []], shapes)
        targets = draw(Uniform().bind(cohort, (2, 3)), 4000)
        expected = {(f"case-{i}", w): 1 for i, s in enumerate(shapes) for w in all_windows(s, (2, 3))}
        assert len(expected) == 4 + 2 + 6
        assert_uniform([(t.case, t.window) for t in targets], expected)


class TestSliding:
    @settings(max_examples=30, deadline=None)
    @given(cases(), st.sampled_from([0.0, 0.25, 0.5]))
    def test_lists_every_case_in_order(self, drawn, overlap):
        volumes, window = drawn
        bound = Sliding(overlap).bind(cohort_of(volumes), window)
        expected = [
            Target(f"case-{i}", w) for i, v in enumerate(volumes) for w in SlidingWindows(v[0].shape, window, overlap)
        ]
        assert bound.length == len(expected)
        assert draw(bound, bound.length) == expected
        with pytest.raises(IndexError):
            bound.target(bound.length, rng_of(0))

    @settings(max_examples=60)
    @given(cases(), st.data())
    def test_the_grid_by_its_law(self, drawn, data):
        """Stride max(1, round(d (1 - overlap))), row-major, the last window shifted back, every voxel covered."""
        volumes, window = drawn
        overlap = tuple(data.draw(st.sampled_from([0.0, 0.2, 0.5, 0.9])) for _ in window)
        expected = []
        for i, labels in enumerate(volumes):
            shape = labels[0].shape
            axes = []
            for n, d, share in zip(shape, window, overlap, strict=True):
                starts, stride = [0], max(1, round(d * (1 - share)))
                while starts[-1] + d < n:
                    starts.append(min(starts[-1] + stride, n - d))
                axes.append(starts)
            expected += [(f"case-{i}", Window(start, window)) for start in product(*axes)]
        bound = Sliding(overlap).bind(cohort_of(volumes), window)
        found = [(t.case, t.window) for t in draw(bound, bound.length)]
        assert found == expected
        for i, labels in enumerate(volumes):
            covered = np.zeros(labels[0].shape, bool)
            for case, w in found:
                if case == f"case-{i}":
                    covered[w.clip(covered.shape).inside] = True
            assert covered.all()

    def test_overlaps_are_checked(self):
        assert Sliding([0.5, 0]).overlap == (0.5, 0)
        with pytest.raises(WindowError, match="overlap is out of range; got 1"):
            Sliding((0.5, 1.0))
        with pytest.raises(WindowError, match="one window length and overlap per axis"):
            Sliding((0.5, 0.5)).bind(cohort_of([[]], [(4,)]), (2,))


class TestMix:
    def test_chooses_by_weight_through_nested_mixes(self):
        cohort = cohort_of([[random_labels(np.random.default_rng(1), (12, 12), 0.1)]])
        mix = Mix({Mix({Positive("organ"): 1, Negative(): 2}): 3, Uniform(): 1})
        roles = [t.role for t in draw(mix.bind(cohort, (2, 2)), 4000)]
        assert_uniform(roles, {"positive": 1, "negative": 2, "any": 1})

    def test_a_strategy_that_ends_is_refused(self):
        with pytest.raises(OptionError, match="cannot be mixed"):
            Mix({Sliding(): 1, Uniform(): 1}).bind(cohort_of([[]], [(4,)]), (2,))


CONFIGURATIONS = [
    Uniform(),
    Positive(),
    Positive("lesion"),
    Positive(["lesion", "organ"], jitter=0.5),
    Positive({"lesion": 2, "organ": 1}),
    Negative(["lesion"], 0.1),
    Sliding(0.5),
    Sliding((0.5, 0.25)),
    Positive("lesion", by="object", covered=0.5, jitter=1.0),
    Positive("lesion", by="object", window_dims="square"),
    Positive("lesion", by="window", filled=0.25),
    Negative("lesion", min_distance_mm=3, within={"liver": 0.5}, hard=9, by="case"),
    Mix({Positive({"cyst": 1}): 1, Negative(): 2}),
]


@pytest.mark.parametrize("strategy", CONFIGURATIONS, ids=repr)
def test_configurations_hash_compare_and_pickle(strategy):
    again = pickle.loads(pickle.dumps(strategy))
    assert again == strategy
    assert hash(again) == hash(strategy)
    assert sum(again == other for other in CONFIGURATIONS) == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Positive(jitter=1.1), WindowError, "jitter is out of range; got 1.1"),
        (lambda: Positive(jitter=float("nan")), WindowError, "jitter is out of range"),
        (lambda: Negative(max_overlap=-0.1), WindowError, "max_overlap is out of range"),
        (lambda: Sliding(1.0), WindowError, "overlap is out of range"),
        (lambda: Positive({"cyst": 0}), OptionError, "positive, finite weights"),
        (lambda: Positive([]), OptionError, "positive, finite weights"),
        (lambda: Positive(["cyst", "cyst"]), OptionError, "named twice; got \\['cyst'\\]"),
        (lambda: Negative([]), OptionError, "choice of categories"),
        (lambda: Mix({}), OptionError, "a mix needs positive, finite weights"),
        (lambda: Mix({Uniform(): float("inf")}), OptionError, "a mix needs positive, finite weights"),
    ],
)
def test_impossible_configurations_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_stream_of_a_seed_is_pinned():
    """A change here changes everybody's samples: it needs a new major version."""
    labels = np.zeros((12, 10), np.uint8)
    labels[2:4, 3:9], labels[8:, :2] = 1, 4
    mix = Mix({Positive({"liver": 1, "lesion": 1}, jitter=0.5): 2, Negative(): 1, Uniform(): 1})
    targets = draw(mix.bind(cohort_of([[labels], [labels.T.copy()]]), (4, 4)), 12)
    assert [(t.case, t.window.start, t.role, t.category, t.point) for t in targets] == PINNED


PINNED = [
    ("case-0", (4, 5), "negative", None, None),
    ("case-1", (4, 0), "positive", "liver", (6, 2)),
    ("case-0", (7, 4), "negative", None, None),
    ("case-1", (6, 2), "any", None, None),
    ("case-1", (3, 7), "any", None, None),
    ("case-0", (2, 3), "any", None, None),
    ("case-0", (4, 3), "negative", None, None),
    ("case-1", (0, 7), "positive", "lesion", (1, 10)),
    ("case-0", (0, 4), "positive", "liver", (3, 5)),
    ("case-1", (2, 2), "any", None, None),
    ("case-0", (8, 0), "positive", "lesion", (9, 0)),
    ("case-1", (6, 4), "negative", None, None),
]
