"""The scripts for public data sets as modules, and images to make tiny sets of."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid

sys.path.insert(0, str(Path(__file__).parents[1] / "formats"))  # makes `structure_files` importable

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
GRID = Grid.regular("zyx", (4, 6, 5), spacing=(3, 1, 1.5), origin=(-5, 4, 20))


@pytest.fixture
def script(monkeypatch):
    """Imports a script by name, with its folder on the path as when it is run."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


@pytest.fixture
def nifti():
    """Writes noise that the path decides, or labels of `values`, or `array`, and returns what it wrote."""

    def write(path, values=None, *, array=None, grid=GRID):
        if array is None:
            rng = np.random.default_rng(list(path.name.encode()))
            noise = rng.integers(-900, 900, grid.shape).astype(np.int16)
            array = noise if values is None else rng.choice([0, *values], grid.shape).astype(np.uint8)
        write_nifti(path, array, grid)
        return array

    return write
