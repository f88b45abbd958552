"""The memory of one slab, whatever the size of the volume."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ndvol.geometry import Grid, SlidingWindows
from ndvol.stitching import Stitcher

LIMIT_MIB = 400
LARGE = """
import sys
from pathlib import Path
import numpy as np
import ndvol
from ndvol.geometry import Grid, SlidingWindows, Window
from ndvol.stitching import Stitcher

shape = (512, 1024, 1024)
def voxels(window):
    z, y, x = (np.arange(a, a + n, dtype=np.float32) for a, n in zip(window.start, window.shape))
    return z[:, None, None] * 3 + y[:, None] * np.float32(0.1) + x * np.float32(1.7)

grid = Grid.regular("zyx", shape, spacing=(1, 0.5, 0.5))
windows = SlidingWindows(shape, (32, 256, 256), (0.25, 0.25, 0.25))
with Stitcher(grid, windows, sys.argv[1], mode="gaussian") as stitcher:
    for window in windows:
        stitcher.add(window, voxels(window))
# Of this process image alone: what getrusage calls the maximum includes the parent before the exec.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
volume = ndvol.open_case(sys.argv[1]).images["prediction"]
assert (volume.grid, volume.dtype.itemsize * np.prod(shape)) == (grid, 2**31)
for start in ((0, 0, 0), (500, 1000, 1000), (17, 333, 801), (250, 900, 5)):
    window = Window(start, (12, 24, 24))
    assert np.array_equal(volume.read(window), voxels(window))
print(peak.split()[1])
"""


def peak_bytes(tmp_path: Path, depth: int) -> int:
    """Traced memory, numpy's arrays among it, while a volume is stitched into a file."""
    grid = Grid.regular("zyx", (depth, 96, 96), spacing=(1, 1, 1))
    windows = SlidingWindows(grid.shape, (16, 48, 48), 0.5)
    patch = np.ones((16, 48, 48), np.float32)
    tracemalloc.start()
    try:
        with Stitcher(grid, windows, tmp_path / f"{depth}.h5") as stitcher:
            for window in windows:
                stitcher.add(window, patch)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_volume(tmp_path):
    row, patch = 96 * 96 * 4, 16 * 48 * 48 * 4
    peak_bytes(tmp_path, 16)  # what modules keep after their first use
    small, large = (peak_bytes(tmp_path, depth) for depth in (128, 512))
    # The window's depth and less than a chunk's, and what a patch is worked on with.
    assert small >= 16 * row
    assert large <= (16 + 31) * row + 8 * patch
    # What is kept per chunk is its hash.
    assert large - small < 128 * row / 4
    assert large < 512 * row / 5


def test_a_volume_over_time_needs_a_slab_of_one_frame():
    grid = Grid.regular("tzyx", (4, 128, 64, 64), spacing=(1, 1, 1))
    windows = SlidingWindows(grid.shape, (1, 16, 32, 32), (0, 0.5, 0.5, 0.5))
    out, patch, frame = np.zeros(grid.shape, np.float32), np.ones(windows.window), 128 * 64 * 64 * 4
    tracemalloc.start()
    try:
        with Stitcher(grid, windows, out) as stitcher:
            for window in windows:
                stitcher.add(window, patch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert out.min() == 1
    assert frame / 8 <= peak < frame / 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_two_gibibytes_in_400_mebibytes(tmp_path, capsys):
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "large.h5")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout) / 1024
    with capsys.disabled():
        print(f" peak {peak:.0f} MiB ", end="")
    assert peak < LIMIT_MIB
