"""Windows and samples of ndvol against arrays in RAM, h5py, nnU-Net, medh5, TorchIO and MONAI; see README.md.

    python tests/benchmarks/peers.py --json peers.json --plot peers.png

Peers that are not installed are left out with a line. All read the same windows of the same volumes, in one run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peer_rows
from peer_files import Cohort, installed, make_cohort, write_plain
from peer_samples import sample_rows

import ndvol
from ndvol.geometry import Window
from ndvol.store import open_case

SIDES = (128, 96, 64, 32)
MARKS = {128: 1.7, 96: 1.6, 64: 1.6, 32: 2.2}

Read = Callable[[int, Window], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--depth", type=int, default=270)
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--samples", type=int, default=200, help="per loader; slow peers draw fewer")
    parser.add_argument("--groups", default="windows,samples,rest")
    parser.add_argument("--folder", type=Path, help="keeps the files; a temporary folder by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cohort = make_cohort(Path(folder), options.cases, options.depth)
        groups = {
            "windows": lambda: window_rows(cohort, options.windows),
            "samples": lambda: sample_rows(cohort, options.samples),
            "rest": lambda: peer_rows.all_rows(cohort),
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
    readers = dict(open_readers(cohort))
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
                "value": f"{ms[name]:.2f} ms, {ms[name] / ms['RAM']:.2f} × RAM",
                "mark": f"≤ {MARKS[side]} × RAM" if name == "ndvol" else "",
                "side": side,
                "reader": name,
                "ms": ms[name],
                "x_ram": ms[name] / ms["RAM"],
            }


def open_readers(cohort: Cohort) -> Iterator[tuple[str, Read]]:
    yield "RAM", lambda k, w: (cohort.images[k][w.slices].copy(), cohort.labels[k][w.slices].copy())
    catalog = ndvol.open(cohort.bundle)
    cases = [catalog[name] for name in cohort.names]
    label = next(iter(cases[0].labels))
    yield "ndvol", lambda k, w: (cases[k].images["CT"].read(w), cases[k].labels[label].read(w))

    plain = [open_case(path) for path in write_plain(cohort)]
    yield "ndvol, --codec none", lambda k, w: (plain[k].images["CT"].read(w), plain[k].labels["labels"].read(w))

    import h5py
    import hdf5plugin  # noqa: F401

    files = [h5py.File(catalog.record(name).path, locking=False) for name in cohort.names]
    yield "h5py", lambda k, w: (files[k]["images/CT/0"][w.slices], files[k][f"labels/{label}/0"][w.slices])
    if installed("nnunetv2"):
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
        from peer_files import write_nnunet

        data = nnUNetDatasetBlosc2(str(write_nnunet(cohort)))
        loaded = [data.load_case(name)[:2] for name in cohort.names]
        yield "nnU-Net (Blosc2)", lambda k, w: tuple(array[(0, *w.slices)] for array in loaded[k])
    if installed("medh5"):
        import medh5
        from peer_files import write_medh5

        samples = [medh5.open(path) for path in write_medh5(cohort)]
        yield (
            "medh5",
            lambda k, w: (
                samples[k].images["CT"].read(w.slices),
                samples[k].annotations["seg"].labelmap(roi=list(w.slices)),
            ),
        )


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
