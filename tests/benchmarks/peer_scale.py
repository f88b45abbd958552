"""The rows about size: windows by several processes, imports, memory, the size of volumes and of catalogues."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from peer_files import Cohort
from peer_rows import window_ms

import ndvol
from ndvol.geometry import Grid, Window
from ndvol.store import CaseWriter, open_case


def all_rows(cohort: Cohort) -> Iterator[dict[str, Any]]:
    yield processes(cohort)
    yield importing(cohort)
    yield flat(cohort)
    yield large(cohort.folder)
    yield catalogue(cohort.folder)


def processes(cohort: Cohort) -> dict[str, Any]:
    """Image and label windows of 96³ a second by two processes against one."""
    paths = [str(path) for path in sorted((cohort.bundle / "volumes").glob("*.h5"))]
    rates = {}
    for count in (1, 2, 1, 2):
        # Spawned, as workers of a loader may be; each opens the files for itself before the clock starts.
        context = multiprocessing.get_context("spawn")
        results: Any = context.Queue()
        start = context.Barrier(count + 1)
        workers = [context.Process(target=read_windows, args=(paths, k, start, results)) for k in range(count)]
        for worker in workers:
            worker.start()
        start.wait()
        begin = time.perf_counter()
        windows = sum(results.get() for _ in workers)
        rate = windows / (time.perf_counter() - begin)
        rates[count] = max(rate, rates.get(count, 0.0))
        for worker in workers:
            worker.join()
    return {
        "what": "96³ windows a second, 2 processes against 1",
        "value": f"{rates[2] / rates[1]:.2f} × ({rates[1]:.0f} and {rates[2]:.0f})",
        "mark": "≥ 1.8",
    }


def read_windows(paths: list[str], seed: int, start: Any, results: Any, count: int = 600) -> None:
    cases = [open_case(path) for path in paths]
    volumes = [[*case.images.values(), *case.labels.values()] for case in cases]
    rng = np.random.default_rng(seed)
    plan = []
    for _ in range(count):
        chosen = volumes[int(rng.integers(len(volumes)))]
        plan.append((chosen, Window([int(rng.integers(n - 95)) for n in chosen[0].shape], (96, 96, 96))))
    for chosen, window in plan[:10]:
        [volume.read(window) for volume in chosen]
    start.wait()
    for chosen, window in plan:
        [volume.read(window) for volume in chosen]
    results.put(count)


def importing(cohort: Cohort) -> dict[str, Any]:
    """Import of the cohort's .nii.gz by 2 processes against decoding them by 2 processes."""
    files = sorted(str(path) for path in cohort.raw.rglob("*.nii.gz"))
    options = ndvol.ImportOptions(categories=ndvol.read_categories(cohort.folder / "categories.json"), modality="CT")
    took: dict[str, float] = {}
    for _ in range(2):
        begin = time.perf_counter()
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(decode, files))
        took["decode"] = min(time.perf_counter() - begin, took.get("decode", 1e9))
        shutil.rmtree(cohort.folder / "again", ignore_errors=True)
        begin = time.perf_counter()
        ndvol.import_tree(cohort.raw, cohort.folder / "again", options=options, jobs=2)
        took["import"] = min(time.perf_counter() - begin, took.get("import", 1e9))
    return {
        "what": "import of .nii.gz, 2 processes, against decoding the sources alone",
        "value": f"{took['import'] / took['decode']:.2f} × ({took['decode']:.1f} s)",
        "mark": "≤ 1.6",
    }


def decode(path: str) -> int:
    return int(np.asarray(nibabel.load(path).dataobj).size)


FLAT = """
import os, sys
import ndvol, ndvol.torch
import numpy as np
def rss(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
def files(): return len(os.listdir("/proc/self/fd"))
sampler = ndvol.VolumeSampler(ndvol.open(sys.argv[1]), (48, 48, 48), strategy=ndvol.Positive(), length=10_000)
start = rss()
marks = []
for k in range(10_000):
    sampler[k]
    if k % 2000 == 1999:
        marks.append((rss(), files()))
peak = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(start, peak, *(f"{round(memory)} MiB {n}" for memory, n in marks), sep="|")
"""


def flat(cohort: Cohort) -> dict[str, Any]:
    """Resident memory over 10,000 samples of 48³; pages of the mapped files count while they are cached."""
    out = subprocess.run([sys.executable, "-c", FLAT, str(cohort.bundle)], capture_output=True, text=True, check=True)
    start, peak, *marks = out.stdout.strip().split("|")
    return {
        "what": "10,000 samples: memory over the imports, resident and descriptors after 2,000 … 10,000",
        "value": f"peak +{float(peak) - float(start):.0f} MiB; {marks[0]} … {marks[-1]}",
        "mark": "≤ 300 MB, flat",
    }


def large(folder: Path) -> dict[str, Any]:
    """Samples of 64³ from a volume of 2048³ bytes of noise against one of 256³."""
    block = np.random.default_rng(0).integers(0, 16, (256, 256, 256), dtype=np.uint8)
    ms = {}
    for side in (256, 2048):
        array = block if side == 256 else np.tile(block, (8, 8, 8))
        path = folder / f"{side}.h5"
        with CaseWriter(path, case=str(side), uuid="u") as writer:
            writer.add_image("CT", array, Grid.regular("zyx", array.shape, spacing=(1, 1, 1)))
        del array
        ms[side] = window_ms(open_case(path), 64)
    return {
        "what": "64³ window from 2048³ against 256³",
        "value": f"{ms[2048] / ms[256]:.2f} × ({ms[256]:.2f} ms)",
        "mark": "≤ 1.3",
    }


CATALOGUE = """
import sys, time
path, kind = sys.argv[1:]
# Not ru_maxrss, which a process takes over from the one that started it.
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
if kind == "kwcoco":
    import kwcoco
    used = peak()
    begin = time.perf_counter()
    data = kwcoco.CocoDataset(path)
else:
    import ndvol
    from ndvol.opening import open_catalog
    used = peak()
    begin = time.perf_counter()
    data = open_catalog(path)
    len(data)
print(time.perf_counter() - begin, (peak() - used) / 1024)
"""


def catalogue(folder: Path, cases: int = 100_000, objects: int = 10) -> dict[str, Any]:
    """Opening a catalogue of pictures the second time, against kwcoco itself: seconds, and memory over the imports."""
    rng = np.random.default_rng(0)
    boxes = rng.integers(0, 400, (cases * objects, 4)).tolist()
    data = {
        "categories": [{"id": k + 1, "name": f"category-{k}"} for k in range(10)],
        "images": [
            {"id": k + 1, "name": f"case-{k}", "file_name": f"{k}.png", "width": 512, "height": 512}
            for k in range(cases)
        ],
        "annotations": [
            {
                "id": k + 1,
                "image_id": k // objects + 1,
                "category_id": k % 10 + 1,
                "bbox": [x, y, 1 + w // 4, 1 + h // 4],
            }
            for k, (x, y, w, h) in enumerate(boxes)
        ],
    }
    path = folder / "large.kwcoco.json"
    path.write_text(json.dumps(data))
    found = {}
    for kind in ("first", "ndvol", "kwcoco"):
        done = subprocess.run(
            [sys.executable, "-c", CATALOGUE, str(path), kind], capture_output=True, text=True, check=True
        )
        found[kind] = tuple(float(number) for number in done.stdout.split())
    (first, _), (own, memory), (theirs, their_memory) = found["first"], found["ndvol"], found["kwcoco"]
    return {
        "what": "opening a catalogue of 1e5 cases and 1e6 objects the second time, against kwcoco",
        "value": f"{theirs / own:.0f} × faster, {memory / their_memory:.2f} × the memory "
        f"({own:.2f} s and {memory:.0f} MiB; {theirs:.1f} s and {their_memory:.0f} MiB; the first time {first:.1f} s)",
        "mark": "≥ 10, ≤ 0.2",
    }
