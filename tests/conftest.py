"""What all tests share: one Hypothesis profile, and the real scans where a checkout has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"

# Reproducible on every machine: no time limit per example, and the same examples in every run.
settings.register_profile(
    "ndvol",
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ndvol")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if REAL_DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker(pytest.mark.skip(reason="the real scans (../shared/data) are not here"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; only for tests marked ``realdata``."""
    return REAL_DATA
