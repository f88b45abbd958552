"""Negatives against a brute-force oracle: what may be drawn, and that it is drawn uniformly."""

from __future__ import annotations

from collections import Counter
from time import monotonic

import numpy as np
import pytest
from draws import admissible, assert_uniform, cases, draw, rng_of
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import VALUES, all_windows, cohort_of, marked_inside, random_labels, values_of

from ndvol.errors import OptionError, SamplingError, UnknownNameError
from ndvol.geometry import Window
from ndvol.sampling import Negative


class TestNegative:
    @settings(max_examples=60, deadline=None)
    @given(cases(0.15), st.sampled_from([None, "lesion", ("liver", "cyst")]), st.sampled_from([0.0, 0.1, 0.34, 1.0]))
    def test_draws_exactly_from_the_admissible_windows(self, drawn, categories, max_overlap):
        volumes, window = drawn
        allowed = admissible(volumes, window, categories, max_overlap)
        bound = Negative(categories, max_overlap).bind(cohort_of(volumes), window)
        if not allowed:
            with pytest.raises(SamplingError, match="no window of"):
                bound.target(0, rng_of(0))
            return
        search = bound._search
        seen = {(t.case, t.window) for t in draw(bound, 15)}
        assert seen <= allowed
        # The exact list is made only when draws keep missing; it must say the same.
        listed = [search._list(row) for row in range(len(volumes))]
        found = {
            (f"case-{place}", Window(positions[k], window))
            for place, positions in enumerate(listed)
            for k in range(len(positions))
        }
        assert found == allowed
        assert sum(map(len, listed)) == len(allowed)

    @pytest.mark.parametrize("share", [0.05, 0.25])
    def test_is_uniform_over_the_admissible_windows(self, share):
        """Few marked voxels are judged by the draws, many by the exact list; two label volumes overlap."""
        rng = np.random.default_rng(3)
        volumes = [[random_labels(rng, (9, 8), share) for _ in range(2)], [random_labels(rng, (4, 9), share)]]
        allowed = admissible(volumes, (3, 2), "lesion", 0.2)
        positions = sum(len(all_windows(v[0].shape, (3, 2))) for v in volumes)
        assert 5 < len(allowed) < positions
        targets = draw(Negative("lesion", 0.2).bind(cohort_of(volumes), (3, 2)), 4000)
        assert {t.role for t in targets} == {"negative"}
        assert_uniform([(t.case, t.window) for t in targets], dict.fromkeys(allowed, 1))

    def test_is_uniform_when_almost_nothing_isadmissible(self):
        labels = np.ones((20, 20), np.uint8)
        labels[3:6, 3:7] = labels[10:13, 17:20] = 0
        allowed = admissible([[labels]], (3, 3), None, 0.0)
        assert len(allowed) == 3
        bound = Negative().bind(cohort_of([[labels]]), (3, 3))
        targets = draw(bound, 600)
        assert bound._search._lists
        assert_uniform([(t.case, t.window) for t in targets], dict.fromkeys(allowed, 1))

    def test_the_exact_list_does_not_change_which_window_an_index_gives(self):
        labels = random_labels(np.random.default_rng(8), (14, 14), 0.35)
        cohort = cohort_of([[labels]])
        fresh = [Negative().bind(cohort, (3, 3)).target(i, rng_of(i)) for i in range(30)]
        used = Negative().bind(cohort, (3, 3))
        used._search._list(0)
        assert draw(used, 30) == fresh

    def test_a_voxel_of_two_label_volumes_counts_once(self):
        both = np.zeros((6,), np.uint8)
        both[2:4] = 1
        cohort = cohort_of([[both, both]])
        bound = Negative(max_overlap=0.5).bind(cohort, (4,))
        assert {t.window.start for t in draw(bound, 60)} == {(0,), (1,), (2,)}

    def test_cases_without_labels_are_not_used(self):
        cohort = cohort_of([[], [np.zeros((4,), np.uint8)]], [(50,), (4,)])
        assert {t.case for t in draw(Negative().bind(cohort, (2,)), 50)} == {"case-1"}
        with pytest.raises(SamplingError, match="negatives need cases with labels"):
            Negative().bind(cohort_of([[]], [(4,)]), (2,))

    def test_impossible_is_proved_at_once_with_the_numbers(self):
        labels = np.zeros((40, 40, 40), np.uint8)
        labels[::4, ::4, ::4] = 1
        bound = Negative("organ").bind(cohort_of([[labels], [labels]]), (8, 8, 8))
        before = monotonic()
        with pytest.raises(
            SamplingError, match=r"all 71874 positions in 2 labelled cases.*at least 8 voxels"
        ) as caught:
            bound.target(0, rng_of(0))
        assert monotonic() - before < 10
        assert (caught.value.cases, caught.value.positions) == (2, 71874)
        assert caught.value.smallest_overlap == 8 / 8**3

    def test_a_category_without_voxels_forbids_nothing(self):
        cohort = cohort_of([[np.ones((4,), np.uint8)]], examined=[("never",)])
        assert {t.window.start for t in draw(Negative("never").bind(cohort, (3,)), 20)} == {(0,), (1,)}


def nearest_mm(labels, values, window, spacing):
    """Distance of the nearest marked voxel from any voxel of the window, over all pairs of both."""
    union = np.any([np.isin(a, sorted(values)) for a in labels], axis=0)
    inside = np.argwhere(np.ones(window.shape)) + window.start
    gaps = np.abs(inside[:, None] - np.argwhere(union)[None])
    with np.errstate(invalid="ignore"):
        steps = np.where(gaps > 0, gaps * np.array(spacing), 0.0)
    return float(np.sqrt((steps**2).sum(-1)).min(initial=np.inf))


def brute_force(volumes, window, strategy, spacing):
    """Every window of every case that satisfies the strategy, straight from its definition."""
    found = set()
    for i, labels in enumerate(volumes):
        for w in all_windows(labels[0].shape, window):
            ok = marked_inside(labels, LESION, w) <= strategy.max_overlap * w.size + 1e-9
            for name, share in strategy.within or ():
                values = set(VALUES) if name == "label-0" else values_of(name)
                of = labels[:1] if name == "label-0" else labels
                ok &= marked_inside(of, values, w) >= share * w.size - 1e-9
            if ok and (strategy.min_distance_mm or strategy.hard):
                distance = nearest_mm(labels, LESION, w, spacing)
                ok &= distance >= strategy.min_distance_mm - 1e-9
                ok &= strategy.hard is None or distance <= strategy.hard + 1e-9
            if ok:
                found.add((f"case-{i}", w))
    return found


LESION = values_of("lesion")


class TestConstraints:
    @settings(max_examples=75)
    @given(
        cases(0.15),
        st.fixed_dictionaries(
            {
                "min_distance_mm": st.sampled_from([0.0, 1.4, 3.0]),
                "hard": st.sampled_from([None, 3.0, 5.1]),
                "within": st.sampled_from([None, "liver", {"organ": 0.2}, {"label-0": 0.3, "liver": 0.1}]),
                "by": st.sampled_from(["position", "case"]),
            }
        ),
        st.sampled_from([0.0, 0.3]),
        st.sampled_from([0.7, 1.5, np.inf]),
    )
    def test_draws_exactly_from_the_windows_that_satisfy_all(self, drawn, options, max_overlap, step):
        volumes, window = drawn
        n = len(window)
        spacing = (step, *[1.5] * (n - 1)) if n > 1 else (1.5,)
        if not options["min_distance_mm"]:
            options["max_overlap"] = max_overlap
        strategy = Negative("lesion", **options)
        allowed = brute_force(volumes, window, strategy, spacing)
        bound = strategy.bind(cohort_of(volumes, spacing=[spacing] * len(volumes)), window)
        search = bound._search
        listed = {
            (f"case-{search._cases[row]}", Window(start, window))
            for row in range(len(search._cases))
            for start in (search._list(row)[k] for k in range(len(search._list(row))))
        }
        assert listed == allowed
        # Drawn without the list, so that windows are judged one by one.
        fresh = strategy.bind(cohort_of(volumes, spacing=[spacing] * len(volumes)), window)
        if not allowed:
            with pytest.raises(SamplingError, match=r"no window of .* positions in \d labelled cases were examined"):
                fresh.target(0, rng_of(0))
            return
        assert {(t.case, t.window) for t in draw(fresh, 10)} <= allowed

    @pytest.mark.parametrize(
        "options",
        [
            {"min_distance_mm": 3.0},
            {"hard": 3.0},
            {"min_distance_mm": 2.0, "hard": 4.5},
            {"within": {"organ": 0.15}},
            {"within": {"organ": 0.1}, "hard": 6.0, "max_overlap": 0.2},
        ],
    )
    @pytest.mark.parametrize("by", ["position", pytest.param("case", marks=pytest.mark.slow)])
    def test_is_uniform_over_these_windows(self, options, by):
        rng = np.random.default_rng(9)
        volumes = [[random_labels(rng, shape, 0.09)] for shape in ((12, 9), (6, 8), (3, 3), (9, 9))]
        strategy = Negative("lesion", by=by, **options)
        spacing = (2.0, 1.5)
        allowed = brute_force(volumes, (3, 2), strategy, spacing)
        per_case = Counter(case for case, _ in allowed)
        assert len(per_case) > 1
        assert len(set(per_case.values())) > 1
        expected = {(case, w): 1 / per_case[case] if by == "case" else 1 for case, w in allowed}
        targets = draw(strategy.bind(cohort_of(volumes, spacing=[spacing] * 4), (3, 2)), 1200)
        assert_uniform([(t.case, t.window) for t in targets], expected)

    def test_by_case_finds_the_only_case_that_has_a_window(self):
        volumes = [[np.ones((4, 4), np.uint8)] for _ in range(30)]
        volumes[17][0][1:3, 1:3] = 0
        for by in ("case", "position"):
            bound = Negative(by=by).bind(cohort_of(volumes), (2, 2))
            assert {(t.case, t.window.start) for t in draw(bound, 5)} == {("case-17", (1, 1))}

    def test_impossible_is_proved_with_the_number_of_each_constraint(self):
        labels = np.zeros((20, 20), np.uint8)
        labels[::5, ::5], labels[8, 8:10], labels[9, 8:10] = 4, (1, 0), (0, 1)
        cohort = cohort_of([[labels]])
        with pytest.raises(SamplingError, match=r"voxels of these at most 8.485 mm away.*at least 9 mm") as caught:
            Negative("lesion", min_distance_mm=9).bind(cohort, (2, 2)).target(0, rng_of(0))
        assert caught.value.positions == 19 * 19
        with pytest.raises(SamplingError, match=r"at most 2 voxels of 'liver' in each, 0.5 of.*at least 4 voxels"):
            Negative("lesion", within="liver").bind(cohort, (2, 2)).target(0, rng_of(0))
        with pytest.raises(SamplingError, match="no position that is near enough"):
            Negative("never", hard=3).bind(cohort_of([[labels]], examined=[("never",)]), (2, 2)).target(0, rng_of(0))


class TestExamined:
    """Annotated as absent and not annotated differ."""

    labels = np.zeros((6,), np.uint8)

    def cohort(self, *examined):
        marked = self.labels.copy()
        marked[0] = 4
        return cohort_of([[marked]] + [[self.labels]] * (len(examined) - 1), examined=examined)

    @pytest.mark.parametrize(
        ("categories", "expected"),
        [
            ("cyst", {0, 1, 2, 4}),
            ("tumour", {1, 2}),
            ("lesion", {1, 2}),
            (["cyst", "liver"], {0}),
            ("liver", {0, 3}),
            # Whatever occurs in the cohort: a cyst.
            (None, {0, 1, 2, 4}),
        ],
    )
    def test_only_where_it_was_looked_for(self, categories, expected):
        cohort = self.cohort(
            ("cyst", "liver"), ("lesion",), ("cyst", "tumour"), ("liver", "kidney"), ("cyst", "never"), ()
        )
        targets = draw(Negative(categories).bind(cohort, (2,)), 200)
        assert {int(t.case[5:]) for t in targets} == expected

    def test_nobody_looked(self):
        with pytest.raises(SamplingError, match=r"in no case.*'tumour' not examined in 2 cases") as caught:
            Negative("tumour").bind(self.cohort(("cyst",), ("liver",)), (2,))
        assert caught.value.code == "not-examined"
        with pytest.raises(SamplingError, match="negatives need cases with labels, and none has any"):
            Negative("tumour").bind(self.cohort((), ()), (2,))


def test_distances_need_known_steps():
    labels = np.zeros((6, 6), np.uint8)
    cohort = cohort_of([[labels], [labels]], spacing=[(1.0, 1.0), (np.nan, np.nan)])
    for options in ({"min_distance_mm": 1}, {"hard": 5}):
        with pytest.raises(SamplingError, match="not known of case 'case-1'; got 1 of 2 cases without") as caught:
            Negative("lesion", **options).bind(cohort, (2, 2))
        assert caught.value.code == "no-spacing"
    Negative("lesion").bind(cohort, (2, 2)).target(0, rng_of(0))


def test_an_unknown_region_is_named():
    cohort = cohort_of([[np.zeros((6, 6), np.uint8)]])
    with pytest.raises(UnknownNameError, match=r"no category and no label volume 'body'.*organ, .*label-0"):
        Negative("lesion", within="body").bind(cohort, (2, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_distance_mm": 2, "max_overlap": 0.1}, "cannot both hold some of the categories and lie apart"),
        ({"min_distance_mm": -1}, "min_distance_mm must be a distance; got -1"),
        ({"min_distance_mm": float("inf")}, "min_distance_mm must be a distance"),
        ({"hard": 0}, "hard must be a distance in mm"),
        ({"hard": 2, "min_distance_mm": 3}, "not below min_distance_mm"),
        ({"within": {"liver": 1.5}}, "lies within 'liver' by more than all of it"),
        ({"within": {"liver": 0}}, "positive, finite weights"),
        ({"by": "volume"}, "negatives are not drawn so"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Negative("lesion", **options)
