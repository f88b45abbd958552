"""Time of an image + label window from a stored case, against copying it out of arrays in RAM.

    python tests/benchmarks/windows.py [--windows 60]

One CT-like int16 volume of 270 x 512 x 512 voxels with noise of 18 HU and a label map; same windows for both, warm page
cache, one process, median after 3 windows that are compared voxel for voxel.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from ndvol.demo import make_toy
from ndvol.geometry import Grid, Window
from ndvol.store import CaseWriter, open_case

SHAPE = (270, 512, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=60)
    count = parser.parse_args().windows
    toy = make_toy(SHAPE, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.h5")
        with CaseWriter(path, case="case", uuid="0") as writer:
            writer.add_image("CT", toy.image, Grid.regular("zyx", SHAPE, spacing=(2, 1, 1)))
            grid = Grid.regular("zyx", SHAPE, spacing=(2, 1, 1))
            writer.add_label("labels", toy.labels, grid, categories={v: str(v) for v in range(1, 6)})
        rows = [measure(open_case(path), toy, side, count) for side in (128, 96, 64, 32)]
        stored = path.stat().st_size / (toy.image.nbytes + toy.labels.nbytes)
    print(f"{'window':>8} {'file ms':>9} {'RAM ms':>9} {'ratio':>7}")
    for row in rows:
        print(f"{row['window']:>8} {row['file_ms']:>9.2f} {row['ram_ms']:>9.2f} {row['ratio']:>7.1f}")
    print(f"the file has {stored:.2f} of the voxels' size")
    print(json.dumps(rows))


def measure(case, toy, side: int, count: int) -> dict[str, float]:
    rng = np.random.default_rng(side)
    volumes, arrays = [case.images["CT"], case.labels["labels"]], [toy.image, toy.labels]
    times: dict[str, list[float]] = {"file": [], "ram": []}
    for k in range(count + 3):
        window = Window(tuple(int(rng.integers(0, n - side + 1)) for n in SHAPE), (side,) * 3)
        begin = time.perf_counter()
        read = [volume.read(window) for volume in volumes]
        middle = time.perf_counter()
        copied = [array[window.slices].copy() for array in arrays]
        end = time.perf_counter()
        if k < 3:
            assert all(np.array_equal(a, b) for a, b in zip(read, copied, strict=True))
            continue
        times["file"].append(middle - begin)
        times["ram"].append(end - middle)
    file_ms, ram_ms = (1e3 * statistics.median(times[name]) for name in ("file", "ram"))
    return {"window": side, "file_ms": file_ms, "ram_ms": ram_ms, "ratio": file_ms / ram_ms}


if __name__ == "__main__":
    main()
