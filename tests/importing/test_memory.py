"""Nothing of a case stays in memory when the next one begins; `tests/campaigns/many_files.py` does it at full size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ndvol.formats.writing import DicomOptions, write_dicom_series, write_nifti, write_pictures
from ndvol.geometry import Grid

SHAPE = (16, 512, 512)
VOLUME_MIB = 8
PROBE = Path(__file__).with_name("memory_probe.py")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Four cases each of DICOM, NIfTI with labels, and pictures; noise, so that their files are as large as they."""
    raw = tmp_path_factory.mktemp("memory") / "raw"
    noise = np.random.default_rng(0).integers(0, 2**15, SHAPE, np.int16)
    grid = Grid.regular("zyx", SHAPE, spacing=(3, 1, 1))
    for k in range(4):
        write_dicom_series(raw / "dicom" / str(k), noise, grid, DicomOptions(seed=str(k)))
        write_nifti(raw / "nifti" / "images" / f"{k}.nii", noise, grid)
        write_nifti(raw / "nifti" / "labels" / f"{k}.nii", (noise > 2**14).astype(np.uint8), grid)
        write_pictures(raw / "pictures" / f"stack{'abcd'[k]}", noise.astype(np.uint16))
    return raw


@pytest.mark.parametrize("jobs", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_memory_does_not_grow_with_the_number_of_cases(sources, tmp_path, jobs):
    command = [sys.executable, str(PROBE), str(sources), str(tmp_path), str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(found)
    after_each = found["after_each"]
    assert len(after_each) == 12
    assert len(list(tmp_path.glob("*.h5"))) == 12
    # The first of each kind loads its libraries.
    for kind in (after_each[1:4], after_each[5:8], after_each[9:12]):
        assert max(kind) - min(kind) < VOLUME_MIB, after_each
    assert after_each[-1] - after_each[1] < 2 * VOLUME_MIB
    if jobs:
        before, after = found["here"]
        assert after - before < VOLUME_MIB, found["here"]
