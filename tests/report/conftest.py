"""Makes `browser`, and `bundles`, which the tests of exports share, importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "exporting")]
