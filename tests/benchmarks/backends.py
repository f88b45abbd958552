"""Time of a window through every backend, against copying it out of an array in RAM.

    python tests/benchmarks/backends.py [--windows 40] [--depth 128]

A CT-like int16 volume of depth x 512 x 512 voxels with noise of 18 HU, as NIfTI, and a picture of 4096 x 4096 x 3
bytes, as PNG and as tiled TIFF. Same windows for all, warm page cache, one process, median after 3 windows that are
compared voxel for voxel. "open" is the time of opening the source the first time, its conversion included.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from ndvol import open_volume
from ndvol.demo import make_toy
from ndvol.formats import tiff_tiles
from ndvol.formats.kept import Kept
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid, Window

BACKENDS = (None, "hdf5", "npy", "cog")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--depth", type=int, default=128)
    options = parser.parse_args()
    print("| source | backend | open s | size | window | ms | x RAM |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path, array, windows in sources(Path(folder), options.depth):
            for backend in BACKENDS:
                measure(path, array, windows, backend, options.windows)


def sources(folder: Path, depth: int) -> Iterator[tuple[Path, np.ndarray, list[tuple[int, ...]]]]:
    """Files with the arrays that they hold and the shapes of windows to read."""
    ct = make_toy((depth, 512, 512), seed=0).image
    cubes = [(96, 96, 96), (64, 64, 64), (1, 512, 512)]
    write_nifti(folder / "ct.nii", ct, Grid.regular("zyx", ct.shape, spacing=(2, 1, 1)))
    yield folder / "ct.nii", ct, cubes
    with (folder / "ct.nii").open("rb") as plain, gzip.open(folder / "ct.nii.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed)
    yield folder / "ct.nii.gz", ct, cubes
    rng = np.random.default_rng(0)
    wave = np.add.outer(np.arange(4096), np.arange(4096))[..., None] // 32 + np.arange(3) * 60
    rgb = ((wave + rng.integers(0, 12, wave.shape)) % 256).astype(np.uint8)
    Image.fromarray(rgb).save(folder / "a.png", compress_level=1)
    squares = [(3, 512, 512), (3, 128, 128)]
    yield folder / "a.png", np.moveaxis(rgb, -1, 0), squares
    tifffile.imwrite(folder / "a.tif", rgb, photometric="rgb", tile=(256, 256), compression="zlib", predictor=True)
    yield folder / "a.tif", np.moveaxis(rgb, -1, 0), squares


def measure(path: Path, array: np.ndarray, shapes: list[tuple[int, ...]], backend: str | None, count: int) -> None:
    work = path.parent / "work"
    tiff_tiles.KEPT_TILES = Kept(0)  # each window decodes its tiles, as in a cohort that no cache holds
    begin = time.perf_counter()
    volume = open_volume(path, backend=backend, workdir=work)
    volume[tuple(slice(0, 1) for _ in array.shape)]
    opened = time.perf_counter() - begin
    size = sum(p.stat().st_size for p in work.glob(f"{backend}/*/*/voxels.*")) if backend else path.stat().st_size
    for shape in shapes:
        rng = np.random.default_rng(shape)
        times: dict[str, list[float]] = {"file": [], "ram": []}
        for k in range(count + 3):
            start = tuple(int(rng.integers(0, n - s + 1)) for n, s in zip(array.shape, shape, strict=True))
            window = Window(start, shape)
            begin = time.perf_counter()
            patch = volume.read(window)
            middle = time.perf_counter()
            copied = array[window.slices].copy()
            end = time.perf_counter()
            if k < 3:
                assert np.array_equal(patch, copied)
                continue
            times["file"].append(middle - begin)
            times["ram"].append(end - middle)
        file_ms, ram_ms = (1e3 * statistics.median(times[name]) for name in ("file", "ram"))
        cells = [path.name, str(backend), f"{opened:.2f}", f"{size / array.nbytes:.2f}", "x".join(map(str, shape))]
        print("| " + " | ".join([*cells, f"{file_ms:.2f}", f"{file_ms / ram_ms:.1f}"]) + " |", flush=True)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
