"""Positives against a brute-force oracle: what may be drawn, and that it is drawn uniformly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from draws import assert_uniform, cases, draw, present, rng_of
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TREE, VALUES, all_windows, cohort_of, marked_inside, object_masks, objects_of, random_labels, values_of

from ndvol.errors import OptionError, SamplingError, UnknownNameError
from ndvol.geometry import Window, start_range
from ndvol.sampling import Positive


class TestPositive:
    @settings(max_examples=60, deadline=None)
    @given(cases(), st.sampled_from([None, "lesion", "organ", ("liver", "lesion")]), st.sampled_from([0.0, 0.4, 1.0]))
    def test_holds_its_voxel_and_stays_in_range(self, drawn, categories, jitter):
        volumes, window = drawn
        cohort = cohort_of(volumes)
        strategy, found = Positive(categories, jitter), present(volumes)
        named = (categories,) if isinstance(categories, str) else categories or (TREE.names if not found else ())
        absent = [n for n in named if not values_of(n) & found]
        if absent:
            with pytest.raises(SamplingError, match="no case holds a voxel"):
                strategy.bind(cohort, window)
            return
        bound = strategy.bind(cohort, window)
        for target in draw(bound, 20):
            labels = volumes[int(target.case[5:])]
            w = target.window
            assert all(a <= p < b for a, p, b in zip(w.start, target.point, w.stop, strict=True))
            assert any(int(a[target.point]) in values_of(target.category) for a in labels)
            # The leaf is the category of the voxel itself.
            assert any(VALUES.get(int(a[target.point])) == target.leaf for a in labels)
            assert target.leaf in (target.category, *TREE.descendants(target.category))
            low, stop = start_range(labels[0].shape, window)
            assert w.shape == window
            assert all(a <= s < b for a, s, b in zip(low, w.start, stop, strict=True))

    def test_is_uniform_over_all_voxels_of_a_subtree(self):
        rng = np.random.default_rng(5)
        volumes = [[random_labels(rng, (5, 4), 0.9) for _ in range(2)], [random_labels(rng, (3, 7), 0.9)]]
        expected = Counter()
        for case, labels in enumerate(volumes):
            for array in labels:
                expected.update((f"case-{case}", tuple(p)) for p in np.argwhere(np.isin(array, [3, 4, 5])).tolist())
        border = [p for case, p in expected if case == "case-0" and 0 in p]
        assert border, "the volume must have voxels at its border"
        assert max(expected.values()) == 2, "two label volumes must share a voxel"
        targets = draw(Positive("lesion").bind(cohort_of(volumes), (3, 3)), 6000)
        assert {t.category for t in targets} == {"lesion"}
        assert_uniform([(t.case, t.point) for t in targets], expected)

    def test_weights_are_those_of_the_named_nodes(self):
        volumes = [[random_labels(np.random.default_rng(1), (9, 9))]]
        targets = draw(Positive({"lesion": 3, "kidney": 1}).bind(cohort_of(volumes), (3, 3)), 3000)
        assert_uniform([t.category for t in targets], {"lesion": 3, "kidney": 1})

    def test_by_default_every_category_with_own_voxels_is_equally_likely(self):
        labels = np.array([1] * 30 + [4] * 2 + [3])
        targets = draw(Positive().bind(cohort_of([[labels]]), (3,)), 3000)
        assert_uniform([t.category for t in targets], {"liver": 1, "cyst": 1, "lesion": 1})

    @pytest.mark.parametrize("window", [1, 2, 4, 5, 8])
    def test_without_jitter_the_voxel_is_central_unless_the_border_forbids(self, window):
        labels = np.ones(40, np.uint8)
        for target in draw(Positive("liver").bind(cohort_of([[labels]]), (window,)), 50):
            (point,), (start,) = target.point, target.window.start
            assert start == min(max(point - window // 2, 0), 40 - window)

    @pytest.mark.parametrize(("window", "jitter"), [(4, 1.0), (5, 1.0), (8, 0.5), (9, 0.5)])
    def test_jitter_moves_the_window_uniformly(self, window, jitter):
        labels = np.zeros(60, np.uint8)
        labels[30] = 1
        reach = int(jitter * window / 2)
        centred = 30 - window // 2
        allowed = [s for s in range(centred - reach, centred + reach + 1) if s <= 30 < s + window]
        assert len(allowed) > 3
        targets = draw(Positive("liver", jitter).bind(cohort_of([[labels]]), (window,)), 3000)
        assert_uniform([t.window.start[0] for t in targets], dict.fromkeys(allowed, 1))

    def test_surplus_voxels_of_the_catalogue_do_not_bias(self):
        """Boxes of a picture cover each other: rows then count more voxels than the label volume holds."""
        arrays = [np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])]
        cohort = cohort_of([[a] for a in arrays])
        cohort.rows.voxels[:] = [2, 4]
        targets = draw(Positive("liver").bind(cohort, (1,)), 2000)
        assert_uniform(
            [(t.case, t.point) for t in targets],
            dict.fromkeys([("case-0", (0,)), ("case-0", (1,)), ("case-1", (0,))], 1),
        )

    def test_a_category_that_is_wholly_covered_is_an_error(self):
        cohort = cohort_of([[np.array([1, 1])]])
        cohort.rows.value[:] = 2
        with pytest.raises(SamplingError, match=r"hold \(almost\) no voxel of 'liver'"):
            Positive("liver").bind(cohort, (1,)).target(0, rng_of(0))

    def test_a_category_that_occurs_nowhere_is_an_error_at_bind(self):
        cohort = cohort_of([[np.array([1, 4])]])
        with pytest.raises(SamplingError, match=r"no case holds a voxel of 'kidney', 'never'; .*liver, cyst"):
            Positive(["liver", "kidney", "never"]).bind(cohort, (1,))
        with pytest.raises(SamplingError, match="no case holds a voxel of any category"):
            Positive().bind(cohort_of([[np.zeros(3, np.uint8)]]), (1,))
        with pytest.raises(UnknownNameError, match="did you mean 'liver'"):
            Positive("livre").bind(cohort, (1,))


def object_windows(labels, window, jitter, covered, policy):
    """By object and node, every start within the jitter whose window covers enough of the object's voxels."""
    shape = labels[0].shape
    objects = objects_of(shape, {str(k): a for k, a in enumerate(labels)}, policy)
    low, stop = start_range(shape, window)
    found = {}
    for k, mask in enumerate(object_masks(labels, policy)):
        starts = []
        for w in all_windows(shape, window):
            reached = True
            for axis, n in enumerate(window):
                # Twice the centred start: 2 floor(c - n / 2), the box's centre being c = (start + stop) / 2.
                centred = (int(objects.start[k][axis] + objects.stop[k][axis]) - n) // 2
                reach = int(jitter * n / 2)
                ends = [min(max(centred + s, low[axis]), stop[axis] - 1) for s in (-reach, reach)]
                reached &= ends[0] <= w.start[axis] <= ends[1]
            inside = int(mask[w.clip(shape).inside].sum())
            if reached and inside and inside >= covered * mask.sum():
                starts.append(w)
        found[k] = (VALUES[int(objects.value[k])], starts)
    return found


class TestObjects:
    @pytest.mark.parametrize("policy", ["category", "component"])
    @settings(max_examples=60)
    @given(
        cases(0.2),
        st.sampled_from(["lesion", "organ", "liver"]),
        st.sampled_from([0.0, 0.5, 1.0]),
        st.sampled_from([0.0, 0.3, 0.75, 1.0]),
    )
    def test_draws_exactly_from_the_windows_that_cover_enough(self, policy, drawn, category, jitter, covered):
        volumes, window = drawn
        if not values_of(category) & present(volumes):
            return
        allowed = {
            (f"case-{i}", k, w): leaf
            for i, labels in enumerate(volumes)
            for k, (leaf, starts) in object_windows(labels, window, jitter, covered, policy).items()
            for w in starts
            if leaf in (category, *TREE.descendants(category))
        }
        strategy = Positive(category, jitter, by="object", covered=covered)
        bound = strategy.bind(cohort_of(volumes, policy=policy), window)
        if not allowed:
            with pytest.raises(SamplingError, match=f"covers an object of '{category}' to {covered:g}"):
                bound.target(0, rng_of(0))
            return
        for target in draw(bound, 15):
            assert (target.category, target.point) == (category, None)
            assert allowed[target.case, target.object, target.window] == target.leaf

    def test_is_uniform_over_the_objects_of_a_subtree_and_their_windows(self):
        rng = np.random.default_rng(2)
        volumes = [[random_labels(rng, (8, 9), 0.12)], [random_labels(rng, (5, 12), 0.12)]]
        by_object = {
            (f"case-{i}", k): starts
            for i, labels in enumerate(volumes)
            for k, (leaf, starts) in object_windows(labels, (2, 3), 1.0, 0.6, "component").items()
            if leaf in ("lesion", "cyst", "tumour")
        }
        assert len(by_object) > 8
        assert len({len(starts) for starts in by_object.values()}) > 2
        expected = {(*key, w): 1 / len(starts) for key, starts in by_object.items() for w in starts}
        strategy = Positive("lesion", jitter=1.0, by="object", covered=0.6)
        targets = draw(strategy.bind(cohort_of(volumes, policy="component"), (2, 3)), 6000)
        assert_uniform([(t.case, t.object, t.window) for t in targets], expected)

    def test_objects_that_cannot_be_covered_are_not_drawn(self):
        labels = np.zeros(40, np.uint8)
        labels[2:20] = labels[25:28] = labels[30:33] = labels[35] = 1
        bound = Positive("liver", by="object", covered=0.5).bind(cohort_of([[labels]], policy="component"), (4,))
        assert_uniform([t.object for t in draw(bound, 900)], {1: 1, 2: 1, 3: 1})
        # One of many: found although draws keep missing it.
        many = np.zeros(3000, np.uint8)
        many.reshape(-1, 15)[:, :9] = 1
        many[-13:] = 0
        rare = Positive("liver", by="object", covered=0.5).bind(cohort_of([[many]], policy="component"), (4,))
        assert {t.object for t in draw(rare, 20)} == {199}

    def test_impossible_coverage_is_proved(self):
        labels = np.ones((6, 6), np.uint8)
        bound = Positive("liver", by="object", covered=0.5).bind(cohort_of([[labels]]), (2, 2))
        with pytest.raises(SamplingError, match=r"covers an object of 'liver' to 0.5: all 1 objects"):
            bound.target(0, rng_of(0))

    @pytest.mark.parametrize("dims", ["extent", "square"])
    def test_windows_fitted_to_their_objects(self, dims):
        labels = random_labels(np.random.default_rng(4), (7, 9, 5), 0.1)
        cohort = cohort_of([[labels]], policy="component")
        objects = objects_of(labels.shape, {"0": labels}, "component")
        bound = Positive(by="object", window_dims=dims).bind(cohort, (1, 1, 1))
        for target in draw(bound, 60):
            box = Window.between(objects.start[target.object], objects.stop[target.object])
            length = (max(box.shape),) * 3 if dims == "square" else box.shape
            start = [(2 * a + n - m) // 2 for a, n, m in zip(box.start, box.shape, length, strict=True)]
            assert target.window == Window(tuple(start), length)


class TestWindows:
    @settings(max_examples=60)
    @given(cases(), st.sampled_from(["lesion", "organ", "cyst"]), st.sampled_from([0.0, 0.2, 0.5]))
    def test_draws_exactly_from_the_windows_that_are_filled_enough(self, drawn, category, filled):
        volumes, window = drawn
        allowed = {
            (f"case-{i}", w)
            for i, labels in enumerate(volumes)
            for w in all_windows(labels[0].shape, window)
            if (n := marked_inside(labels, values_of(category), w)) and n >= filled * w.size - 1e-9
        }
        if not values_of(category) & present(volumes):
            return
        bound = Positive(category, by="window", filled=filled).bind(cohort_of(volumes), window)
        if not allowed:
            with pytest.raises(SamplingError, match=f"is filled with '{category}' to {filled:g}"):
                bound.target(0, rng_of(0))
            return
        assert {(t.case, t.window) for t in draw(bound, 15)} <= allowed
        search = bound._draw._searches[0]
        listed = {
            (f"case-{search._cases[row]}", Window(start, window))
            for row in range(len(search._cases))
            for start in (search._list(row)[k] for k in range(len(search._list(row))))
        }
        assert listed == allowed

    @pytest.mark.parametrize("share", [0.2, 0.4])
    def test_is_uniform_over_these_windows(self, share):
        rng = np.random.default_rng(6)
        volumes = [[random_labels(rng, (9, 8), share) for _ in range(2)], [random_labels(rng, (4, 9), share)]]
        allowed = {
            (f"case-{i}", w): 1
            for i, labels in enumerate(volumes)
            for w in all_windows(labels[0].shape, (3, 2))
            if marked_inside(labels, values_of("lesion"), w) >= 2
        }
        assert len(allowed) > 3
        targets = draw(Positive("lesion", by="window", filled=2 / 6).bind(cohort_of(volumes), (3, 2)), 3000)
        assert_uniform([(t.case, t.window) for t in targets], allowed)

    def test_impossible_filling_is_proved_with_the_numbers(self):
        labels = np.zeros((9, 9), np.uint8)
        labels[2, 2:5] = 4
        bound = Positive("lesion", by="window", filled=0.5).bind(cohort_of([[labels]]), (3, 3))
        with pytest.raises(SamplingError, match=r"all positions .*got at most 3 voxels of 'lesion'.*0.333.*at least 5"):
            bound.target(0, rng_of(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "slice"}, "positives are not drawn so; got by='slice'"),
        ({"covered": 0.5}, "covered goes with by='object'; got by='voxel'"),
        ({"filled": 0.5, "by": "object"}, "filled goes with by='window'"),
        ({"window_dims": "extent"}, "window_dims goes with by='object'"),
        ({"window_dims": "box", "by": "object"}, "no such window_dims; got 'box'"),
        ({"jitter": 0.5, "by": "window"}, "has no jitter"),
        ({"jitter": 0.5, "by": "object", "window_dims": "square"}, "has no jitter"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Positive("liver", **options)
