"""The process under test of `fuzz.py`: folders on stdin, a line of JSON with their verdicts on the given descriptor."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from ndvol.errors import NdvolError
from ndvol.formats import StructureReader, readers
from ndvol.geometry import Grid
from ndvol.importing.planning import list_files

GRID = Grid.regular("zyx", (3, 24, 20), spacing=(2.5, 0.75, 0.5), origin=(-60, 12, 8))


def judge(root: Path) -> tuple[list[str], list[str]]:
    """Status and code of all that the readers make of the files below `root`, and digests of what they read."""
    _, left = list_files(root)
    found, told, digests = [], set(), []
    for reader in readers().values():
        scan = reader.scan(root, left)
        found += [f"{v.status} {v.code}" for v in scan.verdicts]
        told |= {v.source for v in scan.verdicts} | {f for s in scan.series for f in s.files}
        if scan.claimed and not (scan.verdicts or scan.series):
            raise AssertionError(f"{sorted(scan.claimed)} claimed by {reader.name} without a word")
        for series in scan.series:
            verdict, digest = _read(reader, root, series)
            found.append(verdict)
            digests.append(digest)
        left = [f for f in left if f not in scan.claimed]
    return [*found, *("skipped unknown-format" for _ in left)], digests


def _read(reader: Any, root: Path, series: Any) -> tuple[str, str]:
    digest = ""
    try:
        if isinstance(reader, StructureReader):
            reader.read_structures(root, series, GRID)
        else:
            data = reader.read(root, series)
            assert data.array.shape == data.grid.shape, (data.array.shape, data.grid.shape)
            assert data.array.size, f"an image without a voxel: {data.array.shape}"
            facts = (data.grid.axes, data.grid.affine.tolist(), data.array.dtype.str, data.array.shape)
            digest = hashlib.sha256(repr(facts).encode() + data.array.tobytes()).hexdigest()[:16]
    except NdvolError as error:
        return f"refused {error.code}", ""
    except MemoryError:
        # What `run_import` makes of it.
        return "refused out-of-memory", ""
    return "imported", digest


def _peak_mib(*, reset: bool = False) -> float:
    """High-water mark of the resident memory, in MiB; Linux counts it and can begin anew."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
        return 0.0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    readers()
    with os.fdopen(int(sys.argv[1]), "w") as out:
        print("ready", file=out, flush=True)
        for line in sys.stdin:
            _peak_mib(reset=True)
            start = time.perf_counter()
            answer: dict[str, Any] = {}
            try:
                answer["verdicts"], answer["digests"] = judge(Path(line.rstrip("\n")))
            except BaseException:
                answer["fault"] = traceback.format_exc()[-2500:]
            answer |= {"seconds": time.perf_counter() - start, "peak_mib": _peak_mib()}
            print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
