"""Sweep over windows, chunk edges and codecs: time against copying out of RAM, and size of the file.

    python tests/benchmarks/chunks.py [--windows 60] [--shape 160,384,384] [--json sweep.json]

Four kinds of image: int16 CT, uint16 MR, float32 PET (quantized, as DICOM stores it) and uint8 RGB. Same windows for
the file and for RAM, warm page cache, one process, medians after 3 windows that are compared voxel for voxel. The chunk
is a cube of the edge, as `ndvol.geometry.chunk_shape` plans it for that many voxels. Sizes are those of the file as a
share of the voxels and of gzip -6 of them, as a .nii.gz has it. What it decides are `CHUNK_VOXELS` and `CODECS`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage

from ndvol.demo import make_toy
from ndvol.geometry import Grid, Window, tiling
from ndvol.store import CODECS, CaseWriter, forget, open_case
from ndvol.volumes import Volume

CHECKED = 3
WIDTHS = (8, 8, 6, 5, 5)


@dataclass(frozen=True)
class Row:
    """One combination: medians in ms, the file's bytes as a share of the voxels' and of gzip's."""

    kind: str
    codec: str
    edge: int
    window: int
    file_ms: float
    ram_ms: float
    ratio: float
    of_voxels: float
    of_gzip: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=60, help="windows per combination")
    parser.add_argument("--shape", type=numbers, default=(160, 384, 384))
    parser.add_argument("--sides", type=numbers, default=(32, 48, 64, 96, 128), help="of the windows")
    parser.add_argument("--edges", type=numbers, default=(16, 24, 32, 48, 64), help="of the chunks")
    parser.add_argument("--codecs", type=names, default=tuple(CODECS))
    parser.add_argument("--kinds", type=names, default=tuple(KINDS))
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    rows = []
    heads = ("file ms", "RAM ms", "ratio", "size", "/gz")
    print(
        f"{'kind':>4} {'codec':>8} {'edge':>4} {'window':>6}",
        *map(str.rjust, heads, WIDTHS),
    )
    for row in sweep(options):
        rows.append(row)
        figures = (row.file_ms, row.ram_ms, row.ratio, row.of_voxels, row.of_gzip)
        print(
            f"{row.kind:>4} {row.codec:>8} {row.edge:>4} {row.window:>6}",
            *(f"{figure:>{width}.2f}" for figure, width in zip(figures, WIDTHS, strict=True)),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def sweep(options: argparse.Namespace) -> Iterator[Row]:
    for kind in options.kinds:
        array = KINDS[kind](options.shape)
        zipped = len(gzip.compress(array.tobytes(), 6))
        for codec, edge in product(options.codecs, options.edges):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "case.h5")
                write(path, array, codec, edge)
                size, volume = path.stat().st_size, open_case(path).images["image"]
                for side in options.sides:
                    file_ms, ram_ms = measure(volume, array, side, options.windows)
                    shares = size / array.nbytes, size / zipped
                    yield Row(kind, codec, edge, side, file_ms, ram_ms, file_ms / ram_ms, *shares)
                forget(path)


def write(path: Path, array: np.ndarray, codec: str, edge: int) -> None:
    planned, tiling.CHUNK_VOXELS = tiling.CHUNK_VOXELS, edge**3
    try:
        with CaseWriter(path, case="case", uuid="0", codec=codec) as writer:
            writer.add_image("image", array, Grid.regular("czyx"[-array.ndim :], array.shape, spacing=(1, 1, 1)))
    finally:
        tiling.CHUNK_VOXELS = planned


def measure(volume: Volume, array: np.ndarray, side: int, count: int) -> tuple[float, float]:
    """Median ms of windows of `side` voxels along the axes of space, out of the file and out of RAM."""
    rng = np.random.default_rng(side)
    lengths = (*array.shape[:-3], *(min(side, n) for n in array.shape[-3:]))
    times: dict[str, list[float]] = {"file": [], "ram": []}
    for k in range(CHECKED + count):
        start = tuple(int(rng.integers(0, n - length + 1)) for n, length in zip(array.shape, lengths, strict=True))
        window = Window(start, lengths)
        begin = time.perf_counter()
        read = volume.read(window)
        middle = time.perf_counter()
        copied = array[window.slices].copy()
        end = time.perf_counter()
        if k < CHECKED:
            np.testing.assert_array_equal(read, copied)
            continue
        times["file"].append(middle - begin)
        times["ram"].append(end - middle)
    return 1e3 * statistics.median(times["file"]), 1e3 * statistics.median(times["ram"])


def ct(shape: tuple[int, ...]) -> np.ndarray:
    return make_toy(shape, seed=0).image


def mr(shape: tuple[int, ...]) -> np.ndarray:
    """Tissues under a smooth bias field, with the noise of a magnitude."""
    rng = np.random.default_rng(1)
    signal = 180 * make_toy(shape, seed=1).labels + 250 * (make_toy(shape, seed=1).image > -500)
    bias = 1 + 0.3 * np.sin(np.linspace(0, 3, shape[-1]))
    real, imaginary = rng.normal(0, 15, (2, *shape))
    return np.hypot(signal * bias + real, imaginary).astype(np.uint16)


def pet(shape: tuple[int, ...]) -> np.ndarray:
    """Hot organs, blurred, with noise that grows with the counts: 16-bit integers times a slope."""
    rng = np.random.default_rng(2)
    activity = ndimage.gaussian_filter(make_toy(shape, seed=2).labels.astype(np.float32), 2)
    counts = rng.poisson(40 * activity).astype(np.float32)
    stored = np.minimum(ndimage.gaussian_filter(counts, 1) * 100, 32767).round()
    return (stored * np.float32(0.000731)).astype(np.float32)


def rgb(shape: tuple[int, ...]) -> np.ndarray:
    """Stained tissue: three channels of one structure, with noise of a camera."""
    rng = np.random.default_rng(3)
    structure = ndimage.gaussian_filter(rng.normal(size=shape), 3)
    structure /= structure.std()
    channels = [base + gain * structure + rng.normal(0, 3, shape) for base, gain in ((190, 25), (130, 40), (170, 20))]
    return np.clip(channels, 0, 255).astype(np.uint8)


KINDS = {"CT": ct, "MR": mr, "PET": pet, "RGB": rgb}


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    main()
