"""Cases in worker processes, one at a time each: what ends a worker costs its own case and no other.

Processes and pipes by hand, because ``concurrent.futures`` gives up the whole pool when one process dies and does not
say which case it died of.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ndvol.errors import NdvolError, OptionError, SourceError
from ndvol.importing.plan import CasePlan
from ndvol.processes import deaf_while_starting, deafen

T = TypeVar("T")

CPU_S, CPU_S_PER_MIB = 600.0, 1.0
"""Processor time that a case may take: so much, and so much more per MiB of its files and of its voxels.

Real cases take 0.02 to 0.2 s per MiB. It is processor time, so that a slow disk, a busy machine or a suspended laptop
never uses it up, while a decoder in an endless loop does.
"""
EXIT_S = 5.0
"""How long a worker may take to end by itself, so that its exit code is its own."""
_OUT_OF_TIME = -signal.SIGPROF
"""Exit code of a worker that the timer of `_work` ended."""


@dataclass(frozen=True, slots=True)
class KeptOpen:
    """A file descriptor that workers keep open while they live; the lock on it outlasts a parent that is killed."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _kept_open, (DupFd(self.number),)


def _kept_open(duplicate: Any) -> KeptOpen:
    return KeptOpen(duplicate.detach())


def cpu_limit(case: CasePlan) -> float:
    """Seconds of processor time after which a case is given up."""
    size = 0
    for volume in case.volumes:
        series = volume.series
        size += prod(series.shape) * np.dtype(series.dtype or "u1").itemsize
        for file in series.files:
            with suppress(OSError):
                size += Path(volume.root, file).stat().st_size
    return CPU_S + CPU_S_PER_MIB * size / 2**20


def attempt_all(
    cases: Sequence[CasePlan],
    attempt: Callable[[CasePlan], T],
    jobs: int,
    *,
    lock: KeptOpen | None = None,
    limit: Callable[[CasePlan], float] = cpu_limit,
) -> Generator[tuple[CasePlan, T | SourceError], None, None]:
    """Each case with what `attempt` made of it, as they finish, from `jobs` spawned processes; 0 stays in this one.

    A case during which its worker dies is tried once more at the end, alone: the cause may have been the memory that
    others used. When it ends that worker too, it is refused with code ``worker-died``, and with ``timed-out`` when
    it used more processor time than its `limit`. Close the iterator to end the workers.

    Raises
    ------
    OptionError : code ``no-workers`` when a process ends before it is given a case.
    """
    if jobs == 0:
        yield from ((case, attempt(case)) for case in cases)
        return
    start = partial(_Worker, attempt, limit, lock)
    suspects = []
    for case, outcome in _finished(cases, jobs, start):
        if not isinstance(outcome, _Death):
            yield case, outcome
        elif outcome.code == _OUT_OF_TIME:
            yield case, outcome.error(case, limit)
        else:
            suspects.append(case)
    for case, outcome in _finished(suspects, 1, start):
        yield case, outcome.error(case, limit) if isinstance(outcome, _Death) else outcome


@dataclass(frozen=True, slots=True)
class _Death:
    """The end of a worker: the exit code of its process, below 0 for a signal."""

    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        # The number passes where names are hidden, see `wording`.
        names = {s.value: f" ({s.name})" for s in signal.Signals}
        return f"signal {-self.code}{names.get(-self.code, '')}"

    def error(self, case: CasePlan, limit: Callable[[CasePlan], float]) -> SourceError:
        if self.code == _OUT_OF_TIME:
            return SourceError(
                f"case {case.name!r} was given up after {limit(case):.0f} s of processor time",
                hint="its decoder may be in an endless loop; convert the source with another program",
                code="timed-out",
            )
        hint = "its decoder crashed or the memory ran out; convert the source with another program"
        return SourceError(
            f"case {case.name!r} ended its worker process twice", got=self, hint=hint, code="worker-died"
        )


class _Worker:
    """A spawned process and this end of its pipe; `case` is what it works on."""

    def __init__(self, attempt: Any, limit: Any, lock: KeptOpen | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.case: CasePlan | None = None
        self.is_ready = False
        self._process = context.Process(target=_work, args=(theirs, attempt, limit, lock))
        with deaf_while_starting():
            self._process.start()
        theirs.close()

    def give(self, case: CasePlan) -> None:
        """Hand out a case to an idle worker, which is waiting for it: a large plan does not block here."""
        self.case = case
        with suppress(OSError):  # it has died since; `answer` will tell
            self.pipe.send(case)

    def answer(self) -> Any:
        """What it sent; None when it is ready for its first case, `_Death` when it is no more."""
        try:
            outcome = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(EXIT_S)  # its end is under way
            return self.end()
        self.case, self.is_ready = None, True
        return outcome

    def dismiss(self) -> None:
        """End a worker: one that waits for a case goes by itself, and takes along what its libraries hold."""
        if self.is_ready and self.case is None:
            self.pipe.close()
        else:
            self._process.kill()

    def join(self) -> None:
        self._process.join(EXIT_S)
        self.end()

    def end(self) -> _Death:
        self._process.kill()
        self._process.join()
        self.pipe.close()
        return _Death(self._process.exitcode or 0)


def _finished(cases: Sequence[CasePlan], jobs: int, start: Callable[[], _Worker]) -> Iterator[tuple[CasePlan, Any]]:
    """Cases as they finish, each with its outcome or the `_Death` of its worker; dead workers are replaced."""
    waiting = deque(cases)
    crew: dict[Connection, _Worker] = {}
    try:
        while True:
            idle = [worker for worker in crew.values() if worker.is_ready and worker.case is None]
            for worker in idle[: len(waiting)]:
                worker.give(waiting.popleft())
            while len(crew) < jobs and len([w for w in crew.values() if not w.is_ready]) < len(waiting):
                worker = start()
                crew[worker.pipe] = worker
            busy = [pipe for pipe, worker in crew.items() if worker.case or (waiting and not worker.is_ready)]
            if not busy:
                return
            for pipe in wait(busy):
                worker = crew[pipe]  # type: ignore[index]
                case, outcome = worker.case, worker.answer()
                if isinstance(outcome, _Death):
                    del crew[worker.pipe]
                    if case is None:
                        raise _no_workers(outcome)
                if case is not None:
                    yield case, outcome
    finally:
        for worker in crew.values():
            worker.dismiss()
        for worker in crew.values():
            worker.join()


def _no_workers(death: _Death) -> NdvolError:
    hint = 'put the call under `if __name__ == "__main__":`, or import with jobs=0'
    return OptionError("worker processes do not start", got=death, hint=hint, code="no-workers")


def _work(pipe: Connection, attempt: Any, limit: Callable[[CasePlan], float], lock: KeptOpen | None) -> None:
    """The life of a worker; `lock` is only held."""
    deafen()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, also inside a library
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError):
        pipe.send(None)
        while True:
            case = pipe.recv()
            signal.setitimer(signal.ITIMER_PROF, limit(case))
            outcome = attempt(case)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(outcome)


def _end_with_parent() -> None:
    """A parent that was killed leaves nobody who wants the case."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
    os._exit(1)
