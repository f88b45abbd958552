"""Attempts at cases that go wrong in every way, for workers to import; the name of a case says what it does."""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

from ndvol.errors import SourceError
from ndvol.importing.plan import CasePlan


class Unportable(Exception):
    """Pickles, and cannot be made again."""

    def __init__(self, one, other):
        super().__init__(f"{one} {other}")


def attempt(folder, case):
    """``<way>-<number>``; each attempt leaves a file that names its process."""
    way = case.name.split("-")[0]
    before = len(list(folder.glob(f"{case.name}.*")))
    (folder / f"{case.name}.{before}").write_text(str(os.getpid()))
    if way == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if way == "exit" or (way == "once" and not before):
        os._exit(7)
    if way == "spin":
        spend(1e9)
    if way == "work":
        spend(0.2)
    if way == "wait":
        time.sleep(1.5)
    if way == "hold":
        re.match("(a+)+$", "a" * 60 + "b")  # for ever, with Python's lock
    if way == "fail":
        return SourceError("it failed", got=Unportable(1, 2), code="failed", cause=Unportable(3, 4))
    return f"{case.name} {len(case.categories)}" + "x" * 300_000 * (way == "large")


def spend(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds:
        pass


def half_a_second(case):
    return 0.5


def main(folder, lock_file, *names):
    """An import of cases that do not end, to be killed."""
    import fcntl

    from ndvol.importing.workers import KeptOpen, attempt_all

    with Path(lock_file).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        cases = [CasePlan(name, ()) for name in names]
        list(attempt_all(cases, partial(attempt, Path(folder)), len(cases), lock=KeptOpen(stream.fileno())))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
