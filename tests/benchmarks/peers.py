"""ndvol against arrays in RAM, h5py, nnU-Net, medh5, TorchIO, MONAI and ndsampler: windows, samples, sizes and more.

    python tests/benchmarks/peers.py --json peers.json --plot peers.png

Peers that are not installed are left out with a line. All read the same windows of the same volumes, in one run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peer_rows
import peer_scale
from peer_files import Cohort, installed, make_cohort, write_medh5, write_nnunet, write_plain
from peer_samples import sample_rows

import ndvol
from ndvol.geometry import Window
from ndvol.store import open_case

SIDES = (128, 96, 64, 32)
MARKS = {128: 1.7, 96: 1.6, 64: 1.6, 32: 2.2}
PEER_MARKS = {"h5py": 2, "nnU-Net (Blosc2)": 2, "medh5": 3}

Read = Callable[[int, Window], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--depth", type=int, default=270)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--samples", type=int, default=200, help="per loader; slow peers draw fewer")
    parser.add_argument("--groups", default="cold,windows,samples,rest,scale")
    parser.add_argument("--folder", type=Path, help="keeps the files; a temporary folder by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cohort = make_cohort(Path(folder), options.cases, options.depth)
        groups = {
            "cold": lambda: cold_rows(cohort),
            "windows": lambda: window_rows(cohort, options.windows),
            "samples": lambda: sample_rows(cohort, options.samples),
            "rest": lambda: peer_rows.all_rows(cohort),
            "scale": lambda: peer_scale.all_rows(cohort),
        }
        for group in options.groups.split(","):
            for row in groups[group]():
                rows.append({"group": group, **row})
                print(f"| {row['what']} | {row['value']} | {row.get('mark', '')} |", flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
    if options.plot:
        plot([row for row in rows if row["group"] == "windows"], options.plot)


def window_rows(cohort: Cohort, count: int) -> Iterator[dict[str, Any]]:
    """Image and label windows of volumes that are open, in milliseconds and times RAM; the first three are checked."""
    readers = {name: opened() for name, opened in open_readers(cohort).items()}
    shape = cohort.images[0].shape
    for side in SIDES:
        rng = np.random.default_rng(side)
        took: dict[str, list[float]] = {name: [] for name in readers}
        for number in range(count + 3):
            case = int(rng.integers(len(cohort.images)))
            window = Window([int(rng.integers(n - side + 1)) for n in shape], [side] * 3)
            truth = cohort.images[case][window.slices], cohort.labels[case][window.slices]
            for name, read in readers.items():
                begin = time.perf_counter()
                image, labels = read(case, window)
                end = time.perf_counter()
                if number >= 3:
                    took[name].append(end - begin)
                    continue
                assert np.array_equal(image, truth[0]), name
                # medh5 numbers the classes by their names.
                assert np.array_equal(np.asarray(labels) > 0, truth[1] > 0), name
        ms = {name: 1e3 * statistics.median(times) for name, times in took.items()}
        for name in readers:
            yield {
                "what": f"window {side}³: {name}",
                "value": f"{ms[name]:.2f} ms, {ms[name] / ms['RAM']:.2f} × RAM, {ms[name] / ms['ndvol']:.2f} × ndvol",
                "mark": f"≤ {MARKS[side]} × RAM" if name == "ndvol" else mark_of(name),
                "side": side,
                "reader": name,
                "ms": ms[name],
                "x_ram": ms[name] / ms["RAM"],
            }


def mark_of(name: str) -> str:
    return f"≥ {PEER_MARKS[name]} × ndvol" if name in PEER_MARKS else ""


def cold_rows(cohort: Cohort, count: int = 24) -> Iterator[dict[str, Any]]:
    """Image and label windows of 96³ from files whose pages were dropped, in milliseconds and times ndvol."""
    names = [name for name in open_readers(cohort) if name != "RAM"]
    took = {name: statistics.median(in_process(cohort, name, count) for _ in range(3)) for name in names}
    for name in names:
        yield {
            "what": f"window 96³, cold: {name}",
            "value": f"{took[name]:.2f} ms, {took[name] / took['ndvol']:.2f} × ndvol",
            "mark": mark_of(name),
            "ms": took[name],
        }


def in_process(cohort: Cohort, name: str, count: int) -> float:
    """`read_cold` in a process of its own: pages that a process has mapped are not dropped."""
    results: Any = multiprocessing.Queue()
    worker = multiprocessing.Process(target=read_cold, args=(cohort, name, count, results))
    worker.start()
    ms: float = results.get()
    worker.join()
    return ms


def read_cold(cohort: Cohort, name: str, count: int, results: Any) -> None:
    for path in cohort.folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    rng = np.random.default_rng(0)
    shape = cohort.images[0].shape
    read = open_readers(cohort)[name]()
    begin = time.perf_counter()
    for _ in range(count):
        window = Window([int(rng.integers(n - 95)) for n in shape], (96, 96, 96))
        read(int(rng.integers(len(cohort.images))), window)
    results.put(1e3 * (time.perf_counter() - begin) / count)


def open_readers(cohort: Cohort) -> dict[str, Callable[[], Read]]:
    """By name what opens the files of a reader; all files are written."""
    plain = write_plain(cohort)
    readers: dict[str, Callable[[], Read]] = {
        "RAM": lambda: lambda k, w: (cohort.images[k][w.slices].copy(), cohort.labels[k][w.slices].copy()),
        "ndvol": lambda: read_cases([ndvol.open(cohort.bundle)[name] for name in cohort.names]),
        "ndvol, --codec none": lambda: read_cases([open_case(path) for path in plain]),
        "h5py": lambda: read_h5py(cohort),
    }
    if installed("nnunetv2"):
        folder = write_nnunet(cohort)
        readers["nnU-Net (Blosc2)"] = lambda: read_nnunet(cohort, folder)
    if installed("medh5"):
        paths = write_medh5(cohort)
        readers["medh5"] = lambda: read_medh5(paths)
    return readers


def read_cases(cases: list[ndvol.Case]) -> Read:
    pairs = [(case.images["CT"], next(iter(case.labels.values()))) for case in cases]
    return lambda k, w: (pairs[k][0].read(w), pairs[k][1].read(w))


def read_h5py(cohort: Cohort) -> Read:
    import h5py
    import hdf5plugin  # noqa: F401

    catalog = ndvol.open(cohort.bundle)
    files = [h5py.File(catalog.record(name).path, locking=False) for name in cohort.names]
    label = next(iter(files[0]["labels"]))
    return lambda k, w: (files[k]["images/CT/0"][w.slices], files[k][f"labels/{label}/0"][w.slices])


def read_nnunet(cohort: Cohort, folder: Path) -> Read:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    data = nnUNetDatasetBlosc2(str(folder))
    loaded = [data.load_case(name)[:2] for name in cohort.names]
    return lambda k, w: tuple(array[(0, *w.slices)] for array in loaded[k])


def read_medh5(paths: list[Path]) -> Read:
    import medh5

    pairs = [(case.images["CT"], case.annotations["seg"]) for case in map(medh5.open, paths)]
    return lambda k, w: (pairs[k][0].read(w.slices), pairs[k][1].labelmap(roi=list(w.slices)))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Times RAM by reader and window, warm."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name in dict.fromkeys(row["reader"] for row in rows) if name != "RAM"]
    figure, axes = plt.subplots(figsize=(7, 3), dpi=150)
    for k, name in enumerate(names):
        values = [row["x_ram"] for row in rows if row["reader"] == name]
        at = np.arange(len(SIDES)) + (k - (len(names) - 1) / 2) * 0.8 / len(names)
        bars = axes.bar(at, values, 0.75 / len(names), label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(SIDES)), [f"{side}³" for side in SIDES])
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set_ylabel("time, copying out of RAM = 1")
    axes.set_xlabel("image + label window")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")

    main()
