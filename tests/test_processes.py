from __future__ import annotations

import subprocess
import sys

STARTS = """
import multiprocessing, signal
from multiprocessing import util

from ndvol.processes import deaf_while_starting, deafen

started = []


def spawn(path, args, fds, start=util.spawnv_passfds):
    started.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    return start(path, args, fds)


if __name__ == "__main__":
    util.spawnv_passfds = spawn
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=deafen) for _ in range(2)]
    for process in processes:
        with deaf_while_starting():
            process.start()
    [process.join() for process in processes]
    print(started, signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_no_process_starts_with_ears_not_even_the_first(tmp_path):
    """Python's resource tracker, started along with the first, lets Ctrl-C through again."""
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "[True, True, True] set()\n"  # the tracker is the first
