"""Even order: every part of the distribution gets its share of an epoch, rounded up or down."""

from __future__ import annotations

from collections import Counter
from math import ceil, floor

import numpy as np
import pytest
from draws import admissible, assert_uniform
from hypothesis import given
from hypothesis import strategies as st
from toy import TREE, all_windows, cohort_of, random_labels, values_of

from ndvol.sampling import Mix, Negative, Positive, Uniform
from ndvol.sampling.order import even_share, shuffled


@given(st.integers(0, 2**40), st.integers(0, 5), st.integers(1, 300))
def test_shares_are_equally_spaced_in_random_order(seed, epoch, length):
    shares = [even_share(seed, epoch, i, length) for i in range(length)]
    assert all(0 <= s < 1 for s in shares)
    assert np.allclose(np.diff(sorted(shares)), 1 / length)
    assert sorted(shuffled(seed, epoch, i, length) for i in range(length)) == list(range(length))


def test_orders_differ_by_seed_and_epoch():
    orders = [[shuffled(seed, epoch, i, 60) for i in range(60)] for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert [even_share(0, e, 0, 1) >= 0.0 for e in range(5)] == [True] * 5


def test_a_single_draw_is_uniform():
    shares = [even_share(0, epoch, 3, 7) for epoch in range(3000)]
    assert_uniform([int(s * 10) for s in shares], dict.fromkeys(range(10), 1))


def even_epoch(bound, length, epoch=0):
    rngs = [np.random.default_rng((5, epoch, i)) for i in range(length)]
    return [bound.target(i, rng, even_share(5, epoch, i, length)) for i, rng in enumerate(rngs)]


def assert_even(drawn, probability, length):
    """Every key was drawn as often as its share of the epoch says, rounded up or down."""
    counts = Counter(drawn)
    assert set(counts) <= set(probability)
    for key, p in probability.items():
        assert floor(length * p - 1e-9) <= counts[key] <= ceil(length * p + 1e-9), key


@pytest.fixture(scope="module")
def volumes():
    rng = np.random.default_rng(1)
    return [[random_labels(rng, shape, 0.4)] for shape in ((9, 8), (5, 12), (3, 3))]


LENGTHS = (7, 60, 333)


@pytest.mark.parametrize("length", LENGTHS)
def test_positives_spread_over_categories_and_voxels(volumes, length):
    weights = {"lesion": 3, "kidney": 1}
    targets = even_epoch(Positive(weights).bind(cohort_of(volumes), (3, 3)), length)
    assert_even([t.category for t in targets], {"lesion": 0.75, "kidney": 0.25}, length)
    voxels = {
        (name, f"case-{i}", tuple(p), VALUE_NAMES[int(labels[tuple(p)])])
        for name in weights
        for i, [labels] in enumerate(volumes)
        for p in np.argwhere(np.isin(labels, sorted(values_of(name)))).tolist()
    }
    per_node = Counter(name for name, *_ in voxels)
    probability = {key: weights[key[0]] / 4 / per_node[key[0]] for key in voxels}
    assert_even([(t.category, t.case, t.point, t.leaf) for t in targets], probability, length)
    # So every case gets its share of each leaf, too.
    for name in ("cyst", "kidney"):
        of_case = Counter()
        for (_, case, _, leaf), p in probability.items():
            of_case[case] += p * (leaf == name)
        assert_even([t.case for t in targets if t.leaf == name], of_case, length)


@pytest.mark.parametrize("length", LENGTHS)
def test_objects_and_positions_are_not_drawn_again_before_all_were_drawn(volumes, length):
    cohort = cohort_of(volumes, policy="component")
    objects = even_epoch(Positive("lesion", by="object").bind(cohort, (3, 3)), length)
    rows = cohort.objects_of("lesion")
    keys = {(f"case-{c}", n) for c, n in zip(cohort.objects.case[rows], cohort.objects.number[rows], strict=True)}
    assert len(keys) > 8
    assert_even([(t.case, t.object) for t in objects], dict.fromkeys(keys, 1 / len(keys)), length)
    places = {(f"case-{i}", w) for i, [labels] in enumerate(volumes) for w in all_windows(labels.shape, (3, 4))}
    uniform = even_epoch(Uniform().bind(cohort, (3, 4)), length)
    assert_even([(t.case, t.window) for t in uniform], dict.fromkeys(places, 1 / len(places)), length)
    windows = even_epoch(Positive("lesion", by="window").bind(cohort, (9, 9)), length)
    allowed = {(t.case, t.window) for t in even_epoch(Positive("lesion", by="window").bind(cohort, (9, 9)), 2000)}
    assert_even([(t.case, t.window) for t in windows], dict.fromkeys(allowed, 1 / len(allowed)), length)


def test_a_mix_gives_each_part_its_share(volumes):
    mix = Mix({Positive("lesion"): 2, Mix({Negative(max_overlap=0.6): 1, Uniform(): 3}): 3})
    targets = even_epoch(mix.bind(cohort_of(volumes), (3, 3)), 101)
    assert_even([t.role for t in targets], {"positive": 0.4, "negative": 0.15, "any": 0.45}, 101)


def test_negatives_stay_uniform(volumes):
    cohort = cohort_of(volumes)
    bound = Negative("lesion", max_overlap=0.2).bind(cohort, (3, 3))
    allowed = admissible(volumes, (3, 3), "lesion", 0.2)
    drawn = [t for epoch in range(100) for t in even_epoch(bound, 40, epoch)]
    assert_uniform([(t.case, t.window) for t in drawn], dict.fromkeys(allowed, 1))


VALUE_NAMES = {1: "liver", 2: "kidney", 3: "lesion", 4: "cyst", 5: "tumour"}
assert set(VALUE_NAMES.values()) <= set(TREE.names)
