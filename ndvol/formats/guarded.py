"""Work on strangers' bytes in a process of its own, for C libraries that may crash or never return."""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ndvol.errors import OptionError, SourceError

T = TypeVar("T")

START_S = 120.0
"""Seconds that a process may take to start: it imports what the work needs, on a machine that may be busy."""

_SERVE = "from ndvol.formats.guarded import serve; serve()"


def in_child(work: Callable[[str], T], items: Sequence[str], *, limit_s: float = 20.0) -> Iterator[T | SourceError]:
    """What ``work(item)`` returns for each item, in order, from a process of its own.

    A process that dies, or takes longer than `limit_s` over one item, costs that item only: its answer is the error,
    with the code ``crash`` or ``too-slow``.

    Parameters
    ----------
    work : a function of a module, or a ``functools.partial`` of one; it and its results are pickled.
    """
    waiting = list(reversed(items))
    while waiting:
        # Not multiprocessing: the processes that it spawns import the caller's script, which would need a guard.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", _SERVE]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as child:
            try:
                if isinstance(_ask(child, work, START_S), _NoAnswer):
                    raise OptionError("a process to read files in does not start", got=command[0], code="no-workers")
                while waiting:
                    item = waiting.pop()
                    answer = _ask(child, item, limit_s)
                    if isinstance(answer, _NoAnswer):
                        hint = "copy the file again, or leave it out"
                        yield SourceError(f"reading {item} {answer}", hint=hint, code=answer.code)
                        break
                    yield answer
            finally:
                child.kill()


class _NoAnswer(str):
    """What became of a child that did not answer."""

    code = "crash"


class _TooSlow(_NoAnswer):
    code = "too-slow"


def _ask(child: subprocess.Popen[bytes], question: object, limit_s: float) -> Any:
    """The child's answer to one question."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        pickle.dump(question, child.stdin)
        child.stdin.flush()
        if not select.select([child.stdout], [], [], limit_s)[0]:
            return _TooSlow(f"took longer than {limit_s:g} s")
        return pickle.load(child.stdout)
    except (OSError, EOFError, pickle.UnpicklingError):
        return _NoAnswer("crashed the library that reads it")


def serve() -> None:
    """Answer the questions on stdin, the first of which is the work; what libraries print leads nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    work = pickle.load(sys.stdin.buffer)
    answer = None
    while True:
        pickle.dump(answer, answers)
        answers.flush()
        try:
            item = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = work(item)
