"""Worker processes that Ctrl-C does not reach: it goes to the whole terminal, and only the parent shall answer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def deaf_while_starting() -> Iterator[None]:
    """Processes that are started inside keep Ctrl-C waiting, which they would answer with a traceback, until `deafen`.

    Python's resource tracker starts before the first of them and lets the signal through again; so it starts here.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def deafen() -> None:
    """Ignore Ctrl-C in this process, also one that has waited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
