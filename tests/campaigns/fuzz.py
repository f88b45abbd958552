"""Spoiled files against the readers: the process lives, memory is bounded, every file gets a verdict.

    python tests/campaigns/fuzz.py dicom --files 2000 [--first 0] [--keep FOLDER] [--json report.json]
    python tests/campaigns/fuzz.py dicom --files 200 --whole      # through `python -m ndvol import -j 2`

File number n of a kind is a function of n alone, so that a slice of a campaign can be run again. Each file lies in a
folder of its own; a worker process with an address space of `MEMORY` scans and reads it, and a watchdog ends a
worker that says nothing for `PATIENCE_S`. What is read from a file whose format has a checksum over all of it must be
what one of the good files holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

MEMORY = 2 * 2**30
PATIENCE_S = 5.0
WORKER = Path(__file__).with_name("fuzz_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--whole", action="store_true", help="through the command line instead of the readers")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    parser.add_argument("--json", type=Path, help="file for the report")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.files)
    report = (whole_campaign if options.whole else campaign)(options.kind, numbers, options.keep)
    text = json.dumps(report, indent=1)
    if options.json:
        options.json.write_text(text)
    print(text)
    sys.exit(bool(report["failures"]))


def write_cases(kind: str, numbers: range, folder: Path) -> Iterator[tuple[int, str, Path]]:
    """Number, description and root folder of each spoiled file, written when asked for."""
    import numpy as np
    from fuzz_good import KINDS, seeds
    from fuzz_ways import fresh_identity, neighbours, spoiled

    good = seeds(kind, folder / "seeds")
    for number in numbers:
        rng = np.random.default_rng((20, KINDS.index(kind), number))
        name, data = good[rng.integers(len(good))]
        root = folder / f"c{number:06d}"
        root.mkdir()
        if kind == "dicom":
            data = fresh_identity(data, number)
            for k, other in enumerate(neighbours(folder / "seeds", number)):
                (root / f"good{k}.dcm").write_bytes(other)
        way, data = spoiled(kind, data, good, rng)
        (root / (f"{name}.dcm" if kind == "dicom" else name)).write_bytes(data)
        yield number, f"{name} {way}", root


def campaign(kind: str, numbers: range, keep: Path | None = None) -> dict[str, Any]:
    """The readers on each file, in one worker process that is only replaced when it died."""
    from fuzz_ways import is_proved

    verdicts: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[float, str] = (0.0, "")
    proved = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        worker = Worker()
        good = set(good_digests(worker, kind, folder))
        for number, what, root in write_cases(kind, numbers, folder):
            answer = worker.judge(root)
            if "slow" in answer.get("fault", ""):
                answer = worker.judge(root)  # once more, in a fresh process: the machine may have been busy
            verdicts.update(answer.get("verdicts", []))
            if is_proved(*what.split(" ", 1)):
                proved += 1
                if wrong := set(answer.get("digests", [])) - good - {""}:
                    answer.setdefault("fault", f"silently wrong: {wrong}")
            slowest = max(slowest, (answer.get("seconds", PATIENCE_S), f"{number} {what}"))
            largest = max(largest, (answer.get("peak_mib", 0.0), f"{number} {what}"))
            if "fault" in answer:
                failures.append({"number": number, "what": what, "fault": answer["fault"]})
                if keep:
                    shutil.copytree(root, keep / f"{kind}-{number}", dirs_exist_ok=True)
            shutil.rmtree(root)
        worker.close()
    return {
        "kind": kind,
        "files": len(numbers),
        "verdicts": dict(verdicts.most_common()),
        "proved_by_checksum": proved,
        "slowest_s": [round(slowest[0], 3), slowest[1]],
        "largest_mib": [round(largest[0]), largest[1]],
        "workers": worker.started,
        "failures": failures,
    }


def good_digests(worker: Worker, kind: str, folder: Path) -> Iterator[str]:
    """What the good files hold; each alone in a folder."""
    from fuzz_good import seeds

    for number, (name, data) in enumerate(seeds(kind, folder / "seeds")):
        root = folder / f"good-{number}"
        root.mkdir()
        (root / (f"{name}.dcm" if kind == "dicom" else name)).write_bytes(data)
        yield from worker.judge(root)["digests"]


def whole_campaign(kind: str, numbers: range, keep: Path | None = None) -> dict[str, Any]:
    """All files at once through the command line: it ends in order, and no file is left without a verdict."""
    failures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        cases = {root.name: (number, what) for number, what, root in write_cases(kind, numbers, folder)}
        shutil.rmtree(folder / "seeds")
        command = [sys.executable, "-m", "ndvol", "import", str(folder), str(folder / ".bundle"), "-j", "2", "--json"]
        start = time.monotonic()
        run = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=_limit)
        seconds = time.monotonic() - start
        rows = json.loads(run.stdout) if run.returncode in (0, 1, 3) and run.stdout else []
        # The folder is the first part of a source, or the sources are named in the message of their group.
        told = {case for row in rows for case in cases if case in f"{row['source']} {row['message']}"}
        for case in sorted(set(cases) - told):
            failures.append({"number": cases[case][0], "what": cases[case][1], "fault": "no verdict"})
        if not rows or "Traceback" in run.stderr:
            failures.append({"number": -1, "what": "the run", "fault": f"rc {run.returncode}: {run.stderr[-3000:]}"})
        failures += [{"number": -1, **row} for row in rows if row["code"] in ("internal", "worker-died")]
        if keep and failures:
            shutil.copytree(folder, keep / f"{kind}-whole", dirs_exist_ok=True)
    return {
        "kind": kind,
        "files": len(numbers),
        "verdicts": dict(Counter(f"{row['status']} {row['code']}" for row in rows).most_common()),
        "seconds": round(seconds, 1),
        "failures": failures,
    }


class Worker:
    """A process that judges one folder after the other."""

    def __init__(self, script: Path = WORKER) -> None:
        self.script = script
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0

    def judge(self, root: Path) -> dict[str, Any]:
        process = self.process or self._start()
        assert process.stdin
        process.stdin.write(f"{root}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([self.answers], [], [], PATIENCE_S)
        line = self.answers.readline() if ready else b""
        if line:
            return dict(json.loads(line))
        self.close()
        return {"fault": f"the process died ({process.returncode})" if ready else f"slow: no verdict in {PATIENCE_S} s"}

    def _start(self) -> subprocess.Popen[bytes]:
        mine, theirs = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, str(self.script), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs],
            preexec_fn=_limit,
        )
        os.close(theirs)
        self.answers = os.fdopen(mine, "rb", buffering=0)
        self.started += 1
        if self.answers.readline() != b"ready\n":
            raise RuntimeError("the worker does not start")
        return self.process

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.answers.close()
        self.process = None


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"


if __name__ == "__main__":
    main()
