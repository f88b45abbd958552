"""Files of every format, one per test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from sources import SOURCES


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "raw" / request.param
    path.parent.mkdir()
    SOURCES[request.param](path)
    return path


@pytest.fixture
def write_source(tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str) -> Path:
        path = tmp_path / "raw" / name
        path.parent.mkdir(exist_ok=True)
        SOURCES[name](path)
        return path

    return write
