"""An import of many single-slice DICOM files, beside a plain loop of pydicom over the same files.

    python tests/campaigns/many_files.py [--series 50] [--planes 100] [--side 64] [--jobs 2] [--folder FOLDER]

Both run in fresh processes, in turn and twice, with a warm page cache; the ratio of the faster runs is what
carries over to another machine. The import's figure includes grouping, checks, compression, hashes, verification,
previews and the catalogue; pydicom's only header and pixels of each file. The memory of each process of the import
is read from /proc while it runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ndvol.formats.writing import DicomOptions, write_dicom_series
from ndvol.geometry import Grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50)
    parser.add_argument("--planes", type=int, default=100)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        print(loop(options.loop, options.jobs))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        report = campaign(Path(name), options)
    text = json.dumps(report, indent=1)
    if options.json:
        options.json.write_text(text)
    print(text)


def campaign(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    shape = (options.planes, options.side, options.side)
    write_series(folder / "raw", options.series, shape)
    seconds: dict[str, list[float]] = {"ndvol": [], "pydicom": []}
    for _ in range(options.rounds):
        shutil.rmtree(folder / "bundle", ignore_errors=True)
        seconds["pydicom"].append(timed_loop(folder / "raw", options.jobs))
        took, parent, peaks = timed_import(folder, options.jobs)
        seconds["ndvol"].append(took)
    rows = [json.loads(line) for line in (folder / "bundle" / "import.jsonl").read_text().splitlines()]
    verdicts = [row for row in rows if row.get("status")]
    best = {name: min(times) for name, times in seconds.items()}
    return {
        "files": options.series * options.planes,
        "series": options.series,
        "volume_mib": np.prod(shape) * 2 / 2**20,
        "imported": sum(row["status"] == "imported" for row in verdicts),
        "files_imported": sum(row["files"] for row in verdicts if row["status"] == "imported"),
        "cases": len(list((folder / "bundle" / "volumes").glob("*.h5"))),
        "seconds": {name: [round(t, 2) for t in times] for name, times in seconds.items()},
        "ratio": round(best["ndvol"] / best["pydicom"], 2),
        # The parent holds the plan of all files; each of the others holds one volume at a time.
        "peak_mib_parent": round(parent),
        "peak_mib_workers": sorted(round(p) for p in peaks),
    }


def write_series(root: Path, count: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    z, y, x = np.indices(shape)
    body = ((y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2 < (shape[1] / 2.5) ** 2) * 1000 + z
    grid = Grid.regular("zyx", shape, spacing=(2.5, 0.75, 0.75), origin=(-60, 12, 8))
    for number in range(count):
        array = (body + rng.normal(0, 18, shape)).clip(0, 4095).astype(np.uint16)
        options = DicomOptions(seed=str(number), intercept=-1024, bits_stored=12)
        write_dicom_series(root / f"series-{number:03d}", array, grid, options)


def timed_loop(raw: Path, jobs: int) -> float:
    command = [sys.executable, __file__, "--loop", str(raw), "--jobs", str(jobs)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def loop(raw: Path, jobs: int) -> int:
    """Decode every file with pydicom in `jobs` processes; the sum keeps the work from being nothing."""
    files = sorted(str(p) for p in raw.rglob("*.dcm"))
    with ProcessPoolExecutor(jobs) as pool:
        return sum(pool.map(decode, files, chunksize=50))


def decode(file: str) -> int:
    import pydicom

    return int(pydicom.dcmread(file).pixel_array.sum())


def timed_import(folder: Path, jobs: int) -> tuple[float, float, list[float]]:
    """Seconds of an import through the command line, and the peak memory (MiB) of it and of its workers."""
    command = [sys.executable, "-m", "ndvol", "import", str(folder / "raw"), str(folder / "bundle"), "-j", str(jobs)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peaks: dict[int, float] = {}
    watching = threading.Thread(target=watch, args=(process, peaks))
    watching.start()
    _, said = process.communicate()
    seconds = time.perf_counter() - start
    watching.join()
    if process.returncode:
        raise RuntimeError(f"the import ended with {process.returncode}: {said[-2000:]}")
    return seconds, peaks.pop(process.pid), list(peaks.values())


def watch(process: subprocess.Popen[str], peaks: dict[int, float]) -> None:
    """The high-water mark of `process` and of all that descends from it, by process id."""
    while process.poll() is None:
        family = {process.pid}
        parents = {int(p.name): _status(p, "PPid") for p in Path("/proc").iterdir() if p.name.isdigit()}
        while more := {child for child, parent in parents.items() if parent in family} - family:
            family |= more
        for pid in family:
            # Processes that only keep track of others hold no arrays and need no attention.
            if (peak := _status(Path(f"/proc/{pid}"), "VmHWM") / 1024) > 60:
                peaks[pid] = max(peak, peaks.get(pid, 0.0))
        time.sleep(0.05)


def _status(folder: Path, name: str) -> int:
    """A number of /proc/<pid>/status; 0 when the process is gone."""
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


if __name__ == "__main__":
    main()
