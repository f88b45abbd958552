"""Imports killed at random moments and resumed: the bundle's bytes are those of an import that was left alone.

    python tests/campaigns/kills.py [--kills 200] [--seed 0] [--jobs 2] [--json report.json]

The sources are DICOM series (one is refused), NIfTI with labels and pictures. An import into a bundle is killed, and
killed again while it is resumed, until all its cases are there; then it runs through and is compared. Half of the
bundles are new, half hold an import of sources of which some have changed since. One kill in four hits the parent
alone, the others the whole process group. Half of the moments are uniform over the time of a run, the others follow
soon after something that the run did, so that the short last phase gets its share. A reader verifies all published
files all the while.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ndvol.demo import make_toy, write_toy_sources
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid

PHASES = ("starting and planning", "writing cases", "catalogue")

READER = """
import sys, time
from pathlib import Path
from ndvol.store import verify_file
looks, stop = 0, Path(sys.argv[1], "stop")
while not stop.exists():
    for path in Path(sys.argv[1]).glob("bundle-*/volumes/*.h5"):
        damage = verify_file(path)
        assert not damage or not path.exists(), (path, damage)
        looks += 1
    time.sleep(0.2)
print(looks)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        report = Campaign(Path(name), options.jobs, np.random.default_rng(options.seed)).run(options.kills)
    text = json.dumps(report, indent=1)
    if options.json:
        options.json.write_text(text)
    print(text)
    sys.exit(bool(report["failures"]))


@dataclass
class Campaign:
    """A folder with the sources, the bundles to compare with, and the bundle that is being killed."""

    folder: Path
    jobs: int
    rng: np.random.Generator
    failures: list[str] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def run(self, kills: int) -> dict[str, Any]:
        expected = self.prepare()
        reader = subprocess.Popen([sys.executable, "-c", READER, str(self.folder)], stdout=subprocess.PIPE, text=True)
        bundles = too_late = 0
        while self.phases.total() < kills and not self.failures:
            bundle = self.folder / f"bundle-{bundles}"
            if old := bundles % 2:
                # The reader may not find it half copied.
                shutil.copytree(self.folder / "older", self.folder / "copy")
                (self.folder / "copy").rename(bundle)
            bundles += 1
            reference = expected[old]
            done = False
            while not done and self.phases.total() < kills:
                phase = self.kill_one(bundle, reference)
                self.phases[phase] += phase in PHASES
                too_late += phase not in PHASES
                done = phase == "catalogue" or phase not in PHASES
                self.check_published(bundle, reference, self.older if old else {})
            self.finish(bundle, reference)
            shutil.rmtree(bundle.rename(self.folder / "done"))
            print(f"{bundles} bundles, {self.phases.total()} kills {dict(self.phases)}", file=sys.stderr, flush=True)
        (self.folder / "stop").touch()
        looks, _ = reader.communicate(timeout=60)
        if reader.returncode:
            self.failures.append("a reader saw a file that was not whole")
        return {
            "kills": self.phases.total(),
            "moments": {phase: self.phases[phase] for phase in PHASES},
            "bundles": bundles,
            "undisturbed_s": round(self.seconds, 2),
            "ended_before_the_kill": too_late,
            "files_verified_meanwhile": int(looks or 0),
            "failures": self.failures,
        }

    def prepare(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """What a new bundle and one of older sources come to without a disturbance."""
        raw = write_toy_sources(self.folder / "raw")
        self.command(self.folder / "older").communicate()
        self.older = content(self.folder / "older")
        # Other voxels of one image, and other voxels of one label.
        toy = make_toy((40, 96, 112), seed=77)
        grid = Grid.regular("zyx", toy.image.shape, spacing=(3, 1, 1))
        for k in (0, 1):
            for kind, array in (("images", toy.image), ("labels", toy.labels)):
                write_nifti(raw / "nifti" / kind / f"toy-{k}.nii.gz", array, grid)
        start = time.monotonic()
        self.command(self.folder / "fresh").communicate()
        self.seconds = time.monotonic() - start
        shutil.copytree(self.folder / "older", self.folder / "newer")
        self.command(self.folder / "newer").communicate()
        fresh, newer = (content(self.folder / name) for name in ("fresh", "newer"))
        assert len([n for n in fresh if n.endswith(".h5")]) == 6
        assert len([n for n in fresh if newer[n] != self.older[n]]) >= 4, "the sources did not change"
        return fresh, newer

    def command(self, bundle: Path) -> subprocess.Popen[str]:
        table = self.folder / "raw" / "categories.json"
        words = [sys.executable, "-m", "ndvol", "import", str(self.folder / "raw"), str(bundle)]
        words += ["-j", str(self.jobs), "--categories", str(table), "--modality", "CT"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, start_new_session=True, text=True, **quiet)  # type: ignore[call-overload, no-any-return]

    def kill_one(self, bundle: Path, reference: dict[str, bytes]) -> str:
        """Start an import, or resume it, and kill it; returns the phase that it was in."""
        process = self.command(bundle)
        if self.rng.random() < 0.5:
            self.rest(process, self.rng.uniform(0, 1.1 * self.seconds))
        else:
            happened = self.rng.choice([is_writing, self.rng.choice([has_cases, is_complete])])
            while process.poll() is None and not happened(bundle, reference):
                time.sleep(0.002)
            self.rest(process, self.rng.exponential(0.05))
        if process.poll() is not None:
            process.communicate()
            return "ended"
        alone = self.rng.random() < 0.25
        phase = PHASES[0 if not is_writing(bundle, reference) else 2 if is_complete(bundle, reference) else 1]
        (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr:
            process.stderr.close()
        return phase

    def rest(self, process: subprocess.Popen[str], seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    def check_published(self, bundle: Path, *allowed: dict[str, bytes]) -> None:
        for name, data in content(bundle).items():
            published = name.endswith((".h5", ".png"))
            if published and not any(data == known.get(name) for known in allowed):
                self.failures.append(f"{name} was published with other bytes")

    def finish(self, bundle: Path, reference: dict[str, bytes]) -> None:
        """Resume undisturbed: everything is as it would have been, and nothing else is there."""
        process = self.command(bundle)
        _, said = process.communicate()
        if process.returncode != 3:  # the defective series is refused
            self.failures.append(f"the last run ended with {process.returncode}: {said[-2000:]}")
        found = content(bundle)
        if set(found) != set(reference):
            self.failures.append(f"other files than expected: {sorted(set(found) ^ set(reference))}")
        for name in sorted(set(found) & set(reference)):
            same = journal(found[name]) == journal(reference[name]) if name == "import.jsonl" else None
            if not (found[name] == reference[name] if same is None else same):
                self.failures.append(f"{name} differs")


def content(bundle: Path) -> dict[str, bytes]:
    """All files of a bundle by name, hidden ones too."""
    files = [path for path in bundle.rglob("*") if path.is_file()]
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in files}


def journal(data: bytes) -> list[tuple[Any, ...]]:
    """What a journal says, but for the words that tell which run did it."""
    rows = [json.loads(line) for line in data.splitlines()]
    return sorted((r["source"], r["files"], r["case"] or "", json.dumps(r.get("state"), sort_keys=True)) for r in rows)


def is_writing(bundle: Path, _: dict[str, bytes]) -> bool:
    """The import has its plan: it holds the lock."""
    try:
        with (bundle / ".lock").open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _cases_done(bundle: Path, reference: dict[str, bytes]) -> int:
    names = [name for name in reference if name.startswith("volumes/") and name.endswith(".png")]
    pairs = [(bundle / name, bundle / name.replace(".png", ".h5")) for name in names]

    def is_done(path: Path) -> bool:
        return path.is_file() and path.read_bytes() == reference[path.relative_to(bundle).as_posix()]

    return sum(all(map(is_done, pair)) for pair in pairs)


def has_cases(bundle: Path, reference: dict[str, bytes]) -> bool:
    """The import runs, and some of its cases are published."""
    return is_writing(bundle, reference) and _cases_done(bundle, reference) > 1


def is_complete(bundle: Path, reference: dict[str, bytes]) -> bool:
    """The import runs, and all its cases are published; the catalogue is next."""
    return is_writing(bundle, reference) and _cases_done(bundle, reference) == 6


if __name__ == "__main__":
    main()
