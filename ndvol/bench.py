"""The command `ndvol bench`: how fast windows are read from a bundle, against copying them out of arrays in RAM."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndvol.commands import bundle_argument, json_option
from ndvol.errors import SamplingError
from ndvol.tables import table, times

if TYPE_CHECKING:
    import numpy as np

    from ndvol.catalog import Catalog
    from ndvol.geometry import Window
    from ndvol.volumes import Volume

SIDES = (128, 96, 64, 32)
CASES = 4
"""Cases that are read, evenly chosen: their volumes are also held in memory, to copy windows out of."""
MOST_BYTES = 2**30
"""Voxels of all these cases together; a case that does not fit any more is left out."""
CHECKED = 3
"""Windows whose voxels are compared before the clock counts."""
WASTE = 4.0
"""Voxels decoded for each voxel wanted from which on a window is too small for the chunks."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A case's first image and its label maps on that grid, on disk and in memory."""

    name: str
    axes: str
    volumes: list[Volume]
    arrays: list[np.ndarray[Any, Any]]


@click.command()
@bundle_argument
@click.option("-w", "--window", type=click.IntRange(1), multiple=True, help="Voxels per side; repeatable.")
@click.option(
    "-n", "--windows", "count", type=click.IntRange(1), default=60, show_default=True, help="Windows per row."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
def bench(bundle: Path, window: tuple[int, ...], count: int, seed: int, as_json: bool) -> None:
    """Time image and label windows of a BUNDLE in this process, the files in the page cache."""
    from tqdm import tqdm

    from ndvol.opening import open_catalog

    cases = load_cases(open_catalog(bundle))
    rows = [measure(cases, side, count, seed) for side in tqdm(window or SIDES, unit="row", disable=None)]
    if as_json:
        click.echo(json.dumps({"cases": [case.name for case in cases], "windows": count, "rows": rows}, indent=1))
        return
    click.echo(table([_shown(row) for row in rows]))
    click.echo(f"\n{count} windows a row from {len(cases)} cases, median; x RAM: against copying them out of memory")
    for line in advice(rows):
        click.echo(line)


def load_cases(catalog: Catalog) -> list[Loaded]:
    """Up to `CASES` cases of at most `MOST_BYTES` together."""
    names = list(catalog)
    chosen = [names[i * len(names) // CASES] for i in range(CASES)] if len(names) > CASES else names
    cases: list[Loaded] = []
    left = MOST_BYTES
    for name in chosen:
        case = catalog[name]
        image = next(iter(case.images.values()))
        volumes = [image, *(label for label in case.labels.values() if label.shape == image.shape)]
        size = sum(prod(v.shape) * v.dtype.itemsize for v in volumes)
        if 0 < size <= left:
            cases.append(Loaded(name, image.axes, volumes, [v[...] for v in volumes]))
            left -= size
    if not cases:
        raise SamplingError(
            f"no case of {catalog.path or 'the catalogue'} fits in memory beside its file",
            got=f"{len(names)} cases",
            expected=f"one of up to {MOST_BYTES >> 20} MiB",
        )
    return cases


def measure(cases: Sequence[Loaded], side: int, count: int, seed: int) -> dict[str, Any]:
    """Windows of `side` voxels per spatial axis, or the whole axis where it is shorter.

    Returns
    -------
    window : shape in the first case. ms, windows_per_s, x_ram : medians.
    stored_bytes : read from the file per window. decoded : voxels decoded per voxel of the window. Both are None where
    other libraries decode.
    chunk : of the first image.
    """
    import numpy as np

    took: list[tuple[float, float]] = []
    costs: list[tuple[int, int] | None] = []
    wanted = 0
    for number, (case, window) in enumerate(_windows(cases, side, count + CHECKED, seed)):
        begin = time.perf_counter()
        read = [volume.read(window) for volume in case.volumes]
        middle = time.perf_counter()
        copied = [array[window.slices].copy() for array in case.arrays]
        end = time.perf_counter()
        if number < CHECKED:
            if not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(read, copied, strict=True)):
                raise AssertionError(f"the window {window} of {case.name} differs from the volume that it is a part of")
            continue
        took.append((middle - begin, end - middle))
        costs += [cost(volume, window) for volume in case.volumes]
        wanted += sum(a.nbytes for a in read)
    known = [c for c in costs if c is not None]
    direct = len(known) == len(costs)
    seconds = statistics.median(t for t, _ in took)
    return {
        "window": list(_shape(cases[0], side)),
        "ms": round(1e3 * seconds, 3),
        "windows_per_s": round(1 / seconds, 1),
        "x_ram": round(seconds / statistics.median(t for _, t in took), 2),
        "stored_bytes": round(sum(stored for stored, _ in known) / count) if direct else None,
        "decoded": round(sum(decoded for _, decoded in known) / wanted, 2) if direct else None,
        "chunk": list(getattr(cases[0].volumes[0].source, "chunk", None) or ()),
    }


def cost(volume: Volume, window: Window) -> tuple[int, int] | None:
    """Bytes read from the file and bytes decoded; None where the volume is not read chunk by chunk."""
    from ndvol.store import Hdf5Source

    return volume.source.cost(window) if isinstance(volume.source, Hdf5Source) else None


def advice(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the figures suggest, as sentences."""
    for row in rows:
        if row["decoded"] is None:
            yield "Read through other libraries; `ndvol import` makes files whose chunks are read directly."
            return
        if row["decoded"] > WASTE:
            yield (
                f"Windows of {times(row['window'])} decode {row['decoded']:g} voxels for each one wanted: the chunks "
                f"are {times(row['chunk'])}. Larger windows, cropped into several samples, cost less."
            )


def _windows(cases: Sequence[Loaded], side: int, count: int, seed: int) -> Iterator[tuple[Loaded, Window]]:
    """Windows inside the volumes, from one case after another."""
    import numpy as np

    from ndvol.geometry import Window

    rng = np.random.default_rng((seed, side))
    for number in range(count):
        case = cases[number % len(cases)]
        shape = _shape(case, side)
        start = tuple(int(rng.integers(0, n - w + 1)) for n, w in zip(case.arrays[0].shape, shape, strict=True))
        yield case, Window(start, shape)


def _shape(case: Loaded, side: int) -> tuple[int, ...]:
    """One time, all channels, `side` along the axes of space."""
    lengths = {"t": 1, "c": max(case.arrays[0].shape)}
    return tuple(min(lengths.get(a, side), n) for a, n in zip(case.axes, case.arrays[0].shape, strict=True))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for a terminal."""
    direct = row["stored_bytes"] is not None
    return {
        "window": times(row["window"]),
        "ms": f"{row['ms']:.2f}",
        "windows/s": f"{row['windows_per_s']:.0f}",
        "x RAM": f"{row['x_ram']:.1f}",
        "kB from file": f"{row['stored_bytes'] / 1e3:.0f}" if direct else "?",
        "decoded per voxel": f"{row['decoded']:.1f}" if direct else "?",
    }
