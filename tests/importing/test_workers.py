"""Workers: a case that ends its process, or never ends, costs itself and nothing else."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import attempts
import numpy as np
import pytest

from ndvol.errors import OptionError
from ndvol.formats import Series
from ndvol.formats.writing import write_nifti
from ndvol.geometry import Grid
from ndvol.importing import import_tree
from ndvol.importing.plan import CasePlan, PlannedVolume
from ndvol.importing.workers import CPU_S, CPU_S_PER_MIB, attempt_all, cpu_limit


def run(folder, names, jobs, **options):
    """Outcome by name; the order in which they came; how often each was attempted; and the processes."""
    cases = [CasePlan(name, ()) for name in names]
    found = list(attempt_all(cases, partial(attempts.attempt, folder), jobs, **options))
    tries = {name: len(list(folder.glob(f"{name}.*"))) for name in names}
    processes = {path.read_text() for path in folder.iterdir()}
    assert not [pid for pid in processes if pid != str(os.getpid()) and Path(f"/proc/{pid}").exists()]
    return {case.name: outcome for case, outcome in found}, [case.name for case, _ in found], tries, processes


def eventually(condition, seconds=30):
    """True as soon as `condition` holds; False when it does not within `seconds`."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


def test_a_case_that_ends_its_process_costs_only_itself(tmp_path):
    names = [f"good-{k}" for k in range(12)]
    names[3:3] = ["segv-1", "once-1"]
    names[9:9] = ["exit-1"]
    outcomes, order, tries, processes = run(tmp_path, names, 2)
    bad = {"segv-1": "signal 11 (SIGSEGV)", "exit-1": "exit code 7"}
    for name in names:
        if name in bad:
            assert outcomes[name].code == "worker-died"
            assert f"got {bad[name]}" in str(outcomes[name])
        else:
            assert outcomes[name] == f"{name} 0"
    # Only what its worker died of is tried again, and after all others.
    assert tries == {name: 1 if name.startswith("good") else 2 for name in names}
    assert set(order[-3:]) == {"segv-1", "once-1", "exit-1"}
    # Two to begin with, one for each that died, one to end with.
    assert len(processes) <= 2 + 5 + 1


def test_a_case_that_never_ends_is_given_up_and_one_that_waits_is_not(tmp_path):
    names = ["spin-1", "wait-1", "good-1", "spin-2", "good-2"]
    outcomes, _, tries, _ = run(tmp_path, names, 2, limit=attempts.half_a_second)
    assert [outcomes[n].code for n in ("spin-1", "spin-2")] == ["timed-out"] * 2
    assert "after 0 s of processor time" in str(outcomes["spin-1"]) or "after 1 s" in str(outcomes["spin-1"])
    assert [outcomes[n] for n in ("wait-1", "good-1", "good-2")] == ["wait-1 0", "good-1 0", "good-2 0"]
    assert set(tries.values()) == {1}


def test_the_limit_is_for_one_case_and_grows_with_it(tmp_path):
    outcomes, _, _, processes = run(tmp_path, [f"work-{k}" for k in range(5)], 1, limit=attempts.half_a_second)
    assert list(outcomes.values()) == [f"work-{k} 0" for k in range(5)]
    assert len(processes) == 1
    (tmp_path / "a.raw").write_bytes(bytes(2**20))
    series = Series("", "a.raw", ("a.raw", "gone.raw"), "", "", "", "zyx", (2, 2**10, 2**10), "int16", None)
    case = CasePlan("a", (PlannedVolume("image", str(tmp_path), series),))
    assert cpu_limit(case) == CPU_S + 5 * CPU_S_PER_MIB
    assert cpu_limit(CasePlan("b", ())) == CPU_S


def test_no_process_is_no_worker_and_no_case_is_no_work(tmp_path):
    outcomes, order, _, processes = run(tmp_path, ["good-1", "good-2"], 0)
    assert (list(outcomes), processes) == (order, {str(os.getpid())})
    (tmp_path / "none").mkdir()
    assert run(tmp_path / "none", [], 2)[0] == {}


def test_plans_and_outcomes_larger_than_a_pipe_pass_both_ways(tmp_path):
    rows = tuple({"name": f"structure {k}"} for k in range(20_000))
    cases = [CasePlan(f"large-{k}", (), categories=rows) for k in range(6)]
    found = {case.name: outcome for case, outcome in attempt_all(cases, partial(attempts.attempt, tmp_path), 2)}
    assert {len(outcome) for outcome in found.values()} == {len("large-0 20000") + 300_000}
    assert len(found) == 6


def test_an_error_with_facts_that_do_not_travel_arrives(tmp_path):
    error = run(tmp_path, ["fail-1"], 1)[0]["fail-1"]
    assert (error.code, error.got, error.cause) == ("failed", "1 2", "3 4")
    assert str(error) == "it failed; got 1 2"


def test_workers_that_do_not_start_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("ndvol.importing.workers._work", os._exit)
    with pytest.raises(OptionError, match=r"worker processes do not start; got exit code 1; put the call under"):
        run(tmp_path, ["good-1"], 1)


def test_leaving_early_ends_the_workers(tmp_path):
    outcomes = attempt_all([CasePlan(n, ()) for n in ("spin-1", "good-1")], partial(attempts.attempt, tmp_path), 2)
    assert next(outcomes)[0].name == "good-1"
    assert eventually(lambda: (tmp_path / "spin-1.0").exists())
    outcomes.close()
    assert not Path(f"/proc/{(tmp_path / 'spin-1.0').read_text()}").exists()


def killed_parent(tmp_path, *names):
    """The process ids of workers whose parent was killed while they were at the cases `names`."""
    folder = tmp_path / "tries"
    folder.mkdir()
    command = [sys.executable, attempts.__file__, str(folder), str(tmp_path / "lock"), *names]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    files = [folder / f"{name}.0" for name in names]
    assert eventually(lambda: all(f.is_file() and f.read_text() for f in files))
    parent.kill()
    parent.wait()
    return [int(f.read_text()) for f in files]


def test_workers_follow_a_parent_that_was_killed(tmp_path):
    workers = killed_parent(tmp_path, "wait-1", "spin-1")
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_worker_that_outlives_its_parent_keeps_the_lock(tmp_path):
    """Else a resumed import and it could write one file at a time."""
    [worker] = killed_parent(tmp_path, "hold-1")
    with (tmp_path / "lock").open("w") as stream:
        with pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(worker, signal.SIGKILL)

        def is_free():
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        assert eventually(is_free)


@pytest.mark.parametrize("whole_group", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ctrl_c_leaves_no_process_and_no_half_file_and_can_be_resumed(tmp_path, whole_group):
    sources, bundle = tmp_path / "raw", tmp_path / "bundle"
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 200, 200), np.int16)
    for k in range(5):
        write_nifti(sources / f"{k}.nii", noise + np.int16(k), Grid.regular("zyx", noise.shape, spacing=(3, 1, 1)))
    command = [sys.executable, "-m", "ndvol", "import", str(sources), str(bundle), "-j", "2"]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert eventually(lambda: list(bundle.glob("volumes/*.part")) or process.poll() is not None)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "run the same command again" in said

    def is_empty():
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    assert eventually(is_empty)
    assert not [*bundle.rglob("*.part"), *bundle.rglob("*.room")]
    assert not (bundle / "data.kwcoco.json").exists()
    resumed = import_tree(sources, bundle)
    for name, case in resumed.items():
        np.testing.assert_array_equal(case.images["image"], noise + np.int16(name))
    assert len(resumed) == 5


@pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_ctrl_c_while_workers_start_makes_no_noise(tmp_path, times):
    (tmp_path / "tries").mkdir()
    command = [sys.executable, attempts.__file__, str(tmp_path / "tries"), str(tmp_path / "lock"), "wait-1"]
    rng = np.random.default_rng(0)
    for _ in range(times):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert eventually(lambda at=children: len(at.read_text().split()) >= 2)  # the tracker and the worker
        time.sleep(rng.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert said.count("KeyboardInterrupt") == 1, said  # the parent's own


def test_workers_leave_by_themselves_and_take_their_semaphores_along(tmp_path):
    """numcodecs holds one; a worker that is killed leaves it to Python's tracker, which complains."""
    grid = Grid.regular("zyx", (8, 8, 8), spacing=(1, 1, 1))
    write_nifti(tmp_path / "raw" / "a.nii", np.arange(512, dtype=np.int16).reshape(8, 8, 8), grid)
    command = [sys.executable, "-m", "ndvol", "import", str(tmp_path / "raw"), str(tmp_path / "bundle"), "-j", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "leaked" not in done.stderr
