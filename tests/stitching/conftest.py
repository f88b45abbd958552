"""Makes the oracle, and the toys of the sampler's tests, importable; worker processes inherit the path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "sampling")]
