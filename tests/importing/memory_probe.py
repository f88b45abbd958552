"""What stays in memory from case to case: ``python memory_probe.py RAW FOLDER JOBS`` prints MiB as JSON."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from ndvol.importing.case import import_case
from ndvol.importing.planning import plan_import
from ndvol.importing.workers import attempt_all


def resident_mib() -> float:
    """The resident memory of this process, mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def measured(options, folder, case):
    import_case(case, options, folder)
    return resident_mib()


def main(raw: str, folder: str, jobs: str) -> None:
    plan = plan_import(raw)
    before = resident_mib()
    after_each = [mib for _, mib in attempt_all(plan.cases, partial(measured, plan.options, Path(folder)), int(jobs))]
    print(json.dumps({"after_each": after_each, "here": [before, resident_mib()]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
