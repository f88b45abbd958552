"""The rows that need no other loader: draws, opening, hashes, sizes."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from peer_files import NAMES, Cohort

import ndvol
from ndvol.geometry import Grid, Window
from ndvol.store import CaseWriter, forget, open_case
from ndvol.store.direct import DirectReader


def all_rows(cohort: Cohort) -> Iterator[dict[str, Any]]:
    yield draws(cohort, list(NAMES.values())[:3])
    yield many_categories(cohort)
    yield from opening(cohort)
    yield hashes(cohort)
    yield from sizes(cohort)


def median_ms(work: Callable[[int], Any], count: int = 60) -> float:
    took = []
    for k in range(count + 3):
        begin = time.perf_counter()
        work(k)
        took.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(took[3:])


def window_ms(case: Any, side: int) -> float:
    """An image and label window of `side` voxels."""
    rng = np.random.default_rng(side)
    volumes = [*case.images.values(), *case.labels.values()]
    shape = volumes[0].shape
    windows = [Window([int(rng.integers(n - side + 1)) for n in shape], [side] * 3) for _ in range(63)]
    return median_ms(lambda k: [volume.read(windows[k]) for volume in volumes])


def draws(cohort: Cohort, names: list[str]) -> dict[str, Any]:
    catalog = ndvol.open(cohort.bundle)
    strategy = ndvol.Positive(dict.fromkeys(names, 1.0))
    sampler = ndvol.VolumeSampler(catalog, (64, 64, 64), strategy=strategy, length=1000)
    draw, read = median_ms(sampler.target, 200), window_ms(catalog[cohort.names[0]], 64)
    return {
        "what": f"one draw, {len(names)} categories, against a 64³ window",
        "value": f"{draw:.2f} ms, {draw / read:.2f} × ({read:.2f} ms)",
        "mark": "≤ 0.25",
    }


def many_categories(cohort: Cohort) -> dict[str, Any]:
    """104 categories, a label map of blocks."""
    folder = cohort.folder / "many"
    image = cohort.images[0]
    labels = np.zeros(image.shape, np.uint8)
    for value in range(1, 105):
        z, y, x = (value % 4) * image.shape[0] // 5, (value // 4 % 5) * 90, (value // 20) * 80
        labels[z : z + 30, y : y + 60, x : x + 50] = value
    from ndvol.formats.writing import write_nifti

    grid = Grid.regular("zyx", image.shape, spacing=(2, 1, 1))
    write_nifti(folder / "raw/images/a.nii", image, grid)
    write_nifti(folder / "raw/labels/a.nii", labels, grid)
    table = tuple({"name": f"organ-{v}", "value": v} for v in range(1, 105))
    catalog = ndvol.import_tree(folder / "raw", folder / "b", options=ndvol.ImportOptions(categories=table))
    sampler = ndvol.VolumeSampler(catalog, (64, 64, 64), strategy=ndvol.Positive(), length=1000)
    assert len(catalog.categories) == 104
    draw, read = median_ms(sampler.target, 200), window_ms(next(iter(catalog.values())), 64)
    return {
        "what": "one draw, 104 categories, against a 64³ window",
        "value": f"{draw:.2f} ms, {draw / read:.2f} × ({read:.2f} ms)",
        "mark": "≤ 0.25",
    }


def opening(cohort: Cohort) -> Iterator[dict[str, Any]]:
    path = cohort.bundle / "volumes" / f"{cohort.names[0]}.h5"
    path = path if path.exists() else next((cohort.bundle / "volumes").glob("*.h5"))
    window = Window((40, 200, 200), (32, 32, 32))

    def ours(_: int) -> None:
        forget(path)
        case = open_case(path)
        for volume in (*case.images.values(), *case.labels.values()):
            volume.read(window)

    own = median_ms(ours, 30)
    yield {"what": "open a file → first window 32³: ndvol", "value": f"{own:.2f} ms"}
    if (cohort.folder / "medh5").is_dir():
        import medh5

        other = next((cohort.folder / "medh5").glob("*.medh5"))

        def theirs(_: int) -> None:
            with medh5.open(other) as sample:
                sample.images["CT"].read(window.slices)
                sample.annotations["seg"].labelmap(roi=list(window.slices))

        ms = median_ms(theirs, 30)
        yield {"what": "the same: medh5", "value": f"{ms:.2f} ms; ndvol {own / ms:.2f} ×", "mark": "≤ 1"}


def hashes(cohort: Cohort) -> dict[str, Any]:
    """Time of 96³ windows with the check of every chunk's hash, against the same reader without it."""
    path = next((cohort.bundle / "volumes").glob("*.h5"))
    volume = open_case(path).images["CT"]
    readers: list[DirectReader] = []
    read = DirectReader.read
    DirectReader.read = lambda self, *a: readers.append(self) or read(self, *a)  # type: ignore[method-assign]
    volume.read(Window((0, 0, 0), (1, 1, 1)))
    DirectReader.read = read  # type: ignore[method-assign]
    checking = readers[0]
    blind = copy.copy(checking)
    blind._table = replace(checking._table, hashes=None)
    rng = np.random.default_rng(0)
    out = np.empty((96, 96, 96), volume.dtype)
    starts = [[int(rng.integers(n - 95)) for n in volume.shape] for _ in range(203)]
    times: dict[bool, list[float]] = {True: [], False: []}
    for start in starts:
        clip = Window(start, (96, 96, 96)).clip(volume.shape)
        for checks, reader in ((True, checking), (False, blind)):
            begin = time.perf_counter()
            reader.read([clip], [out])
            times[checks].append(time.perf_counter() - begin)
    share = statistics.median(times[True]) / statistics.median(times[False]) - 1
    return {"what": "checking every chunk's hash, 96³ windows", "value": f"{100 * share:+.1f} %", "mark": "≤ 5 %"}


def sizes(cohort: Cohort) -> Iterator[dict[str, Any]]:
    """Image volumes, lossless, against .nii.gz at gzip's default level 6."""
    import gzip

    packed = sum(len(gzip.compress(image.tobytes(), 6)) for image in cohort.images[:1])
    for profile, mark in (("fast", "≤ 1.05"), ("small", "≤ 0.8")):
        path = cohort.folder / f"size-{profile}.h5"
        with CaseWriter(path, case="c", uuid="u", codec=profile) as writer:
            writer.add_image("CT", cohort.images[0], Grid.regular("zyx", cohort.images[0].shape, spacing=(2, 1, 1)))
        size = path.stat().st_size / packed
        yield {"what": f"file size, profile {profile}, against .nii.gz", "value": f"{size:.2f} ×", "mark": mark}
