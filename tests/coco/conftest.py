"""Pictures, videos and bundles to sample from, small enough to enumerate."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "exporting")]

from bundles import make_bundle  # noqa: E402
from toysets import make_pictures, make_video  # noqa: E402


@pytest.fixture
def pictures(tmp_path):
    return make_pictures(tmp_path / "pictures")


@pytest.fixture
def video(tmp_path):
    return make_video(tmp_path / "video")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("coco") / "bundle")
