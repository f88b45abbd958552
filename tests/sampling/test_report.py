"""The report on what is drawn, and its intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ndvol.geometry import Window
from ndvol.sampling import Target
from ndvol.sampling.report import SHOWN, DrawReport, Share


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(case):
    count, draws = case
    expected = binomtest(count, draws).proportion_ci(0.95, method="wilson")
    assert Share("a", count, draws).interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_counts_and_text():
    window = Window((0,), (1,))
    targets = [
        *[Target("b", window, "positive", "lesion", leaf="cyst")] * 6,
        *[Target("a", window, "positive", "organ")] * 2,
        *[Target("a", window, "negative")] * 2,
    ]
    report = DrawReport.of(targets, ["a", "b", "c"])
    assert report.roles == (Share("positive", 8, 10), Share("negative", 2, 10))
    assert report.categories == (Share("lesion", 6, 8), Share("organ", 2, 8))
    assert report.leaves == (Share("cyst", 6, 6),)
    assert report.cases == (Share("b", 6, 10), Share("a", 4, 10), Share("c", 0, 10))
    lines = str(report).splitlines()
    assert lines[0] == "10 draws from 3 cases, 1 of them never drawn"
    assert lines[2].split() == ["role", "draws", "share", "95", "%", "interval"]
    assert lines[3].split() == ["positive", "8", "80.00%", "49.02%", "…", "94.33%"]
    many = DrawReport.of([Target(f"c{k}", window) for k in range(SHOWN + 3)], [])
    assert str(many).endswith("… and 3 more")
    assert "category" not in str(many)
