"""What workers share: processors, memory, shared memory, open files; and the environment that steers HDF5."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ndvol.doctor.findings import Finding, judged

LITTLE_MEMORY = 4 * 2**30
LITTLE_SHARED = 2**30
"""A batch of two 128³ samples, image and label, takes 25 MB, and every worker keeps a few; Docker gives 64 MiB."""
FEW_FILES = 4096
"""A process keeps up to 128 cases open, and PyTorch's workers hand each array over as a file."""
_GROUP = "machine"


def check_machine(root: Path = Path("/")) -> Iterator[Finding]:
    """Processors, memory and limits of this process; `root` is where the system's own folders are."""
    yield _processors(root)
    yield _memory(root)
    yield from _shared_memory(root)
    yield from _open_files()
    first, *others = multiprocessing.get_all_start_methods()
    yield Finding(
        _GROUP, "start methods", f"{first} by default, {', '.join(others) or 'no other'}; all work with ndvol"
    )
    yield from check_environment(os.environ)


def _processors(root: Path) -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    if quota is None or quota >= usable:
        return Finding(_GROUP, "processors", f"{usable} of {os.cpu_count()}")
    jobs = max(1, int(quota))
    advice = f"pass -j {jobs} to `ndvol import`, and use at most {jobs} DataLoader workers"
    return Finding(_GROUP, "processors", f"{usable}, of which the container may use {quota:g}", "warning", advice)


def cpu_quota(root: Path) -> float | None:
    """Processors' worth of time that the control group grants; None without a limit."""
    for own in _control_groups(root, "cpu"):
        if (text := _read(own / "cpu.max")) and not text.startswith("max"):
            quota, period = map(int, text.split()[:2])
            return quota / period
        quota_us, period_us = _read(own / "cpu.cfs_quota_us"), _read(own / "cpu.cfs_period_us")
        if quota_us and period_us and int(quota_us) > 0:
            return int(quota_us) / int(period_us)
    return None


def memory_limit(root: Path) -> int | None:
    """Bytes that the control group grants; None without a limit."""
    for own in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(own / name)
            # Version 1 says "no limit" by a number near 2^63.
            if text.isdigit() and int(text) < 2**60:
                return int(text)
    return None


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group, of either version, then those that a container sees as its own."""
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield mounted / path.lstrip("/")
        elif controller in controllers.split(","):
            yield mounted / controller / path.lstrip("/")
    yield mounted
    yield mounted / controller


def _memory(root: Path) -> Finding:
    facts = dict(line.split(":", 1) for line in _read(root / "proc/meminfo").splitlines() if ":" in line)
    if "MemAvailable" not in facts:
        return Finding(_GROUP, "memory", "unknown")
    free, total = (int(facts[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    limit = memory_limit(root)
    value = f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f}"
    if limit is not None:
        value += f", of which the container may use {limit / 2**30:.1f}"
    little = min(free, limit or free) < LITTLE_MEMORY
    advice = "an import holds some volumes at once: pass a smaller -j" if little else ""
    return judged(_GROUP, "memory", value, advice)


def _shared_memory(root: Path) -> Iterator[Finding]:
    folder = root / "dev/shm"
    if not folder.is_dir():
        return
    usage = shutil.disk_usage(folder)
    value = f"{usage.free / 2**30:.2g} GiB free of {usage.total / 2**30:.2g}"
    advice = (
        "DataLoader workers end by a bus error when it is full: docker run --shm-size=8g (or --ipc=host), or fewer "
        "workers"
    )
    yield judged(_GROUP, "shared memory", value, advice if usage.free < LITTLE_SHARED else "")


def _open_files() -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    few = soft != endless and soft < FEW_FILES
    reach = FEW_FILES if hard == endless else min(FEW_FILES, hard)
    advice = f"ulimit -n {reach}; else many DataLoader workers fail with 'too many open files'" if few else ""
    yield judged(_GROUP, "open files", "no limit" if soft == endless else str(soft), advice)


def check_environment(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that change how files are read, where they are set; and the encoding of file names."""
    advice = {
        "HDF5_PLUGIN_PATH": "ndvol does not search it; any other HDF5 program runs the code that lies there",
        "NDVOL_DIRECT": "unset it: windows are read through HDF5 alone, which takes several times as long",
        "HDF5_USE_FILE_LOCKING": "",
    }
    for name, text in advice.items():
        if name in environment and not (name == "NDVOL_DIRECT" and environment[name] != "0"):
            yield judged("environment", name, environment[name], text)
    if environment.get("HDF5_PLUGIN_PRELOAD", "::") != "::":
        wrong = "unset it: with it HDF5 searches for plug-ins, and a stranger's file decides which code is loaded"
        yield Finding("environment", "HDF5_PLUGIN_PRELOAD", environment["HDF5_PLUGIN_PRELOAD"], "warning", wrong)
    encoding = sys.getfilesystemencoding()
    odd = "" if encoding == "utf-8" else "export PYTHONUTF8=1: names with letters beyond ASCII cannot be read"
    yield judged("environment", "file names", encoding, odd)


def _read(path: Path) -> str:
    """The text of a file of the system's; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
