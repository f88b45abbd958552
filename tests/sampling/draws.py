"""Drawing from strategies, and judging what was drawn against a distribution."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import strategies as st
from scipy.stats import chisquare
from toy import TREE, all_windows, marked_inside, random_labels, values_of

P = 1e-4
"""A right strategy fails a seeded test with this probability, once, when the seed is chosen."""


def rng_of(index: int) -> np.random.Generator:
    return np.random.default_rng((0, 0, index))


def draw(bound, number):
    return [bound.target(i, rng_of(i)) for i in range(number)]


def assert_uniform(drawn, expected):
    """`drawn` holds nothing but the keys of `expected`, in the proportions of its weights."""
    counts = Counter(drawn)
    assert set(counts) <= set(expected)
    share = np.array([float(expected[k]) for k in expected])
    observed = np.array([counts[k] for k in expected])
    assert observed.sum() > 0
    # One key alone leaves nothing to test.
    assert len(expected) == 1 or chisquare(observed, share / share.sum() * observed.sum()).pvalue > P


@st.composite
def cases(draw, sparse=0.3):
    """Label volumes of one to three cases over the same 1 to 4 axes, and a window that may be larger than them."""
    n = draw(st.integers(1, 4))
    sides = st.integers(1, {1: 12, 2: 6, 3: 4, 4: 3}[n])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    volumes = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(*[sides] * n))
        volumes.append([random_labels(rng, shape, sparse) for _ in range(draw(st.integers(1, 2)))])
    return volumes, draw(st.tuples(*[st.integers(1, 5)] * n))


def present(volumes):
    return {int(v) for labels in volumes for a in labels for v in np.unique(a)} - {0}


def admissible(volumes, window, categories, max_overlap):
    names = TREE.names if categories is None else (categories,) if isinstance(categories, str) else categories
    values = set().union(*(values_of(n) for n in names))
    return {
        (f"case-{i}", w)
        for i, labels in enumerate(volumes)
        for w in all_windows(labels[0].shape, window)
        if marked_inside(labels, values, w) <= max_overlap * w.size
    }
