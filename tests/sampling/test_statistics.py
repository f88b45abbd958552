"""Draws from a cohort of 20 cases against the stated distribution of every strategy, by chi-squared tests."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest
from draws import assert_uniform, rng_of
from scipy import ndimage
from toy import VALUES, cohort_of, object_masks, objects_of, values_of

from ndvol.geometry import start_range
from ndvol.sampling import Mix, Negative, Positive, Sliding, Uniform
from ndvol.sampling.order import even_share

WINDOW = (3, 4, 5)
SPACING = (2.0, 1.0, 1.0)
DRAWS = [pytest.param(1500, id="few"), pytest.param(20_000, id="20000", marks=pytest.mark.slow)]
BINS = 50
"""Voxels and windows are counted in so many bins: each then holds enough for a chi-squared test."""


@cache
def volumes():
    """20 cases of all sizes with balls of every category; some have none of some."""
    rng = np.random.default_rng(11)
    cases = []
    for case in range(20):
        shape = tuple(rng.integers(2 if case == 7 else 6, 14, 3).tolist())
        labels = np.zeros(shape, np.uint8)
        at = np.indices(shape)
        for value in range(1, 6):
            for _ in range(int(rng.integers(0, 3)) if case else 2):
                centre = [rng.integers(0, n) for n in shape]
                radius = rng.uniform(0.6, 2.4)
                labels[sum((a - c) ** 2 for a, c in zip(at, centre, strict=True)) <= radius**2] = value
        cases.append([labels])
    assert {int(v) for [a] in cases for v in np.unique(a)} == {0, *VALUES}
    return cases


@cache
def cohort():
    return cohort_of(volumes(), policy="component", spacing=[SPACING] * 20)


def draw(strategy, number, *, even=False):
    bound = strategy.bind(cohort(), WINDOW)
    return [bound.target(i, rng_of(i), even_share(0, 0, i, number) if even else None) for i in range(number)]


def case_of(target):
    return int(target.case[5:])


def mask_of(case, name):
    return np.isin(volumes()[case][0], sorted(values_of(name)))


def starts_of(case):
    """(low, counts) of the positions of the window."""
    low, stop = start_range(volumes()[case][0].shape, WINDOW)
    return np.array(low), np.array(stop) - low


def inside_counts(mask):
    """Marked voxels of the window at every position, by plain sums over slices."""
    low, stop = start_range(mask.shape, WINDOW)
    counts = np.zeros([b - a for a, b in zip(low, stop, strict=True)], int)
    for at in np.ndindex(counts.shape):
        start = np.array(at) + low
        counts[at] = mask[tuple(slice(max(0, s), s + w) for s, w in zip(start, WINDOW, strict=True))].sum()
    return counts


def distances(mask):
    """Distance in mm of the window at every position from the nearest marked voxel: the least over its voxels."""
    if not mask.any():
        return np.full(starts_of_shape(mask.shape), np.inf)
    field = ndimage.distance_transform_edt(~mask, sampling=SPACING)
    low, _ = start_range(mask.shape, WINDOW)
    found = np.zeros(starts_of_shape(mask.shape))
    for at in np.ndindex(found.shape):
        start = np.array(at) + low
        found[at] = field[tuple(slice(max(0, s), s + w) for s, w in zip(start, WINDOW, strict=True))].min()
    return found


def starts_of_shape(shape):
    low, stop = start_range(shape, WINDOW)
    return tuple(b - a for a, b in zip(low, stop, strict=True))


def assert_windows_uniform(targets, allowed):
    """`allowed`: per case True at the admissible starts; windows are equally likely, in all cases together."""
    totals = {case: int(ok.sum()) for case, ok in allowed.items() if ok.any()}
    assert_uniform([case_of(t) for t in targets], totals)
    ends = np.cumsum(list(totals.values()))
    before = dict(zip(totals, ends - list(totals.values()), strict=True))
    ranks = {case: np.cumsum(allowed[case].ravel()).reshape(allowed[case].shape) - 1 for case in totals}
    bins = []
    for target in targets:
        case = case_of(target)
        at = tuple(np.array(target.window.start) - starts_of(case)[0])
        assert allowed[case][at], "a window that violates its constraint"
        bins.append(int((before[case] + ranks[case][at]) * BINS // ends[-1]))
    sizes = Counter(int(k * BINS // ends[-1]) for k in range(ends[-1]))
    assert_uniform(bins, sizes)


def assert_faces_reached(targets, cases):
    """In the cases drawn from, windows begin at the first and at the last position of every axis."""
    for axis in range(3):
        seen = {0: 0, 1: 0}
        for target in targets:
            low, count = (int(x[axis]) for x in starts_of(case_of(target)))
            seen[0] += target.window.start[axis] == low
            seen[1] += target.window.start[axis] == low + count - 1
        assert min(seen.values()) > 0
    assert {case_of(t) for t in targets} <= set(cases)


@pytest.mark.parametrize("number", DRAWS)
@pytest.mark.parametrize("even", [False, True])
def test_uniform(number, even):
    targets = draw(Uniform(), number, even=even)
    assert_windows_uniform(targets, {case: np.ones(starts_of(case)[1], bool) for case in range(20)})
    assert_faces_reached(targets, range(20))


@pytest.mark.parametrize("number", DRAWS)
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_positive_by_voxel(number, even, jitter):
    weights = {"lesion": 3, "organ": 1, "cyst": 2}
    targets = draw(Positive(weights, jitter), number, even=even)
    assert_uniform([t.category for t in targets], weights)
    for name in weights:
        drawn = [t for t in targets if t.category == name]
        masks = [mask_of(case, name) for case in range(20)]
        assert_uniform([case_of(t) for t in drawn], {c: int(m.sum()) for c, m in enumerate(masks) if m.any()})
        leaves = {v: sum(int((a == v).sum()) for [a] in volumes()) for v in values_of(name)}
        assert_uniform([t.leaf for t in drawn], {VALUES[v]: n for v, n in leaves.items() if n})
        listed = [(c, tuple(p)) for c, m in enumerate(masks) for p in np.argwhere(m).tolist()]
        voxels = {key: k for k, key in enumerate(listed)}
        sizes = Counter(k * BINS // len(voxels) for k in range(len(voxels)))
        assert_uniform([voxels[case_of(t), t.point] * BINS // len(voxels) for t in drawn], sizes)
    assert_faces_reached(targets, range(20))


def within_jitter(start, stop, case):
    """True at the starts that full jitter reaches from the window centred on a box."""
    low, count = starts_of(case)
    near = np.ones(count, bool)
    for axis, w in enumerate(WINDOW):
        centred = (int(start[axis] + stop[axis]) - w) // 2
        ends = [min(max(centred + s - low[axis], 0), count[axis] - 1) for s in (-(w // 2), w // 2)]
        index = np.arange(count[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
        near &= (index >= ends[0]) & (index <= ends[1])
    return near


@pytest.mark.parametrize("number", DRAWS)
@pytest.mark.parametrize("covered", [0.0, 0.7])
def test_positive_by_object(number, covered):
    targets = draw(Positive("lesion", jitter=1.0, by="object", covered=covered), number)
    able = {}
    for case, labels in enumerate(volumes()):
        objects = objects_of(labels[0].shape, {"0": labels[0]}, "component")
        for k, mask in enumerate(object_masks(labels, "component")):
            if VALUES[int(objects.value[k])] in ("lesion", "cyst", "tumour"):
                counts = inside_counts(mask)
                near = within_jitter(objects.start[k], objects.stop[k], case)
                allowed = near & (counts >= max(1, covered * mask.sum() - 1e-9))
                if allowed.any():
                    able[case, k] = allowed
    assert_uniform([(case_of(t), t.object) for t in targets], dict.fromkeys(able, 1))
    for target in targets:
        at = tuple(np.array(target.window.start) - starts_of(case_of(target))[0])
        assert able[case_of(target), target.object][at]
    by_object = defaultdict(list)
    for target in targets:
        by_object[case_of(target), target.object].append(target.window.start)
    # Within the most drawn object, its windows.
    key = max(by_object, key=lambda k: len(by_object[k]))
    low = starts_of(key[0])[0]
    windows = {tuple(int(x) for x in np.array(p) + low): 1 for p in np.argwhere(able[key])}
    assert set(by_object[key]) <= set(windows)


@pytest.mark.parametrize("number", DRAWS)
@pytest.mark.parametrize("filled", [0.0, 0.3])
def test_positive_by_window(number, filled):
    targets = draw(Positive("lesion", by="window", filled=filled), number)
    counts = {case: inside_counts(mask_of(case, "lesion")) for case in range(20)}
    need = max(1, filled * np.prod(WINDOW))
    assert_windows_uniform(targets, {case: n >= need for case, n in counts.items()})


@pytest.mark.parametrize("number", DRAWS)
@pytest.mark.parametrize(
    ("options", "by"),
    [
        ({"max_overlap": 0.0}, "position"),
        ({"max_overlap": 0.1}, "position"),
        ({"max_overlap": 0.1}, "case"),
        ({"min_distance_mm": 2.0}, "position"),
        ({"hard": 3.0}, "position"),
        ({"hard": 3.0}, "case"),
        ({"within": {"organ": 0.2}, "max_overlap": 0.2}, "position"),
    ],
    ids=str,
)
def test_negative(number, options, by):
    targets = draw(Negative("lesion", by=by, **options), number)
    size = np.prod(WINDOW)
    allowed = {}
    for case in range(20):
        ok = inside_counts(mask_of(case, "lesion")) <= options.get("max_overlap", 0.0) * size + 1e-9
        if "within" in options:
            ok &= inside_counts(mask_of(case, "organ")) >= 0.2 * size - 1e-9
        if "min_distance_mm" in options or "hard" in options:
            away = distances(mask_of(case, "lesion"))
            ok &= (away >= options.get("min_distance_mm", 0) - 1e-9) & (away <= options.get("hard", np.inf) + 1e-9)
        allowed[case] = ok
    if by == "position":
        assert_windows_uniform(targets, allowed)
    else:
        assert_uniform([case_of(t) for t in targets], {case: 1 for case, ok in allowed.items() if ok.any()})
        for case in allowed:
            own = [t for t in targets if case_of(t) == case]
            places = {tuple(p): 1 for p in np.argwhere(allowed[case]).tolist()}
            drawn = [tuple(int(x) for x in np.array(t.window.start) - starts_of(case)[0]) for t in own]
            assert set(drawn) <= set(places)
            if len(own) > 5 * len(places):
                assert_uniform(drawn, places)
    assert {t.role for t in targets} == {"negative"}


@pytest.mark.parametrize("number", DRAWS)
@pytest.mark.parametrize("even", [False, True])
def test_mix(number, even):
    mix = Mix({Mix({Positive({"lesion": 1, "kidney": 2}): 2, Uniform(): 1}): 3, Negative("organ"): 1})
    targets = draw(mix, number, even=even)
    assert_uniform([t.role for t in targets], {"positive": 2, "any": 1, "negative": 1})
    assert_uniform([t.category for t in targets if t.category], {"lesion": 1, "kidney": 2})


def test_sliding_covers_every_voxel_of_every_case():
    bound = Sliding((0.5, 0.0, 0.25)).bind(cohort(), WINDOW)
    covered = [np.zeros(labels.shape, int) for [labels] in volumes()]
    for index in range(bound.length):
        target = bound.target(index, rng_of(index))
        array = covered[case_of(target)]
        array[target.window.clip(array.shape).inside] += 1
    assert all(array.min() > 0 for array in covered)
