"""What takes too much, or hangs: killed with all that it started, and replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pool_bench
import psutil
import pytest
from pool_bench import (
    CPU,
    GPU,
    comes_to_an_end,
    ended_of,
    obey,
    outcome,
    said,
    several,
    state_of,
    ticket,
)

from fifomark.core.outcome import Failed, Lost
from fifomark.workers import process
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds


@pytest.mark.parametrize("how", ["fork", "escape", "orphan"])
def test_a_worker_that_overruns_is_killed_with_everything_that_it_started(pool: LocalPool, tmp_path: Path, how: str) -> None:
    said(pool, "pid")  # warm, so that no time is given for the start
    answer = outcome(pool, f"{how} {tmp_path}/child", seconds=1.5)
    assert isinstance(answer, Failed)
    assert (answer.reason.code, answer.reason.blame) == ("limit-exceeded", "submitter")
    assert [finding.code for finding in answer.findings] == ["FM601"]
    assert comes_to_an_end(int((tmp_path / "child").read_text()))
    assert said(pool, "pid")


def test_what_a_dead_worker_left_outside_its_group_is_killed_too(pool: LocalPool, tmp_path: Path) -> None:
    said(pool, "pid")
    assert outcome(pool, f"leave {tmp_path}/child") == Lost(how="exit code 9")
    assert comes_to_an_end(int((tmp_path / "child").read_text()))


def test_what_nobody_has_looked_at_yet_ends_with_its_worker(pool: LocalPool, tmp_path: Path) -> None:
    note = tmp_path / "child"
    said(pool, "pid")
    pool.start([ticket(f"escape {note}")], CPU, Bounds(60), time.time())
    while not note.exists():
        time.sleep(0.05)
    pool.close()
    assert comes_to_an_end(int(note.read_text()))


POOL = """
import sys, time
from pool_bench import *
if __name__ == "__main__":
    pool = LocalPool(obey, [CPU], preload=sys.argv[1] if len(sys.argv) > 1 else None)
    print(said(pool, "pid"), flush=True)
    pool.start([ticket("stuck")], CPU, Bounds(600), time.time())
    time.sleep(600)
"""


def test_a_worker_that_hangs_dies_with_whoever_started_it(tmp_path: Path, preload: str | None) -> None:
    (tmp_path / "program.py").write_text(POOL)
    path = os.pathsep.join([str(Path(pool_bench.__file__).parent), *sys.path])
    command = [sys.executable, tmp_path / "program.py", *([preload] if preload else [])]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    assert program.stdout is not None
    with program.stdout:
        worker = int(program.stdout.readline())
        starter = psutil.Process(worker).ppid()
        time.sleep(0.5)  # until it hangs
        program.kill()
        program.wait()
    assert comes_to_an_end(worker)
    assert comes_to_an_end(starter)
    assert (starter == program.pid) is (preload is None)


def test_a_worker_that_hangs_in_c_is_killed_and_replaced(pool: LocalPool) -> None:
    said(pool, "pid")
    answer = outcome(pool, "stuck", seconds=0.5)
    assert isinstance(answer, Failed)
    assert answer.reason.message == "it took longer than the 0.5 seconds that it may"
    assert said(pool, "pid")


@pytest.mark.parametrize("path", ["hang", "load 0.1 hang"])
def test_the_first_ticket_of_a_worker_has_no_more_time_than_the_next_ones(pool: LocalPool, path: str) -> None:
    """What a worker needs to get ready is not given to what it marks."""
    started = time.monotonic()
    answer = outcome(pool, path, seconds=0.5)
    assert isinstance(answer, Failed)
    assert [finding.code for finding in answer.findings] == ["FM601"]
    assert time.monotonic() - started < 60  # a worker may take 120 to start


def test_what_a_worker_reads_before_it_judges_takes_none_of_the_tickets_time(pool: LocalPool) -> None:
    for _ in range(2):
        answer = outcome(pool, "load 1.5", seconds=1.0)
        assert isinstance(answer, Failed)
        assert answer.reason.code == "said"


def test_a_task_that_is_never_read_is_not_the_submitters_fault() -> None:
    pool = LocalPool(obey, [CPU], boot_seconds=2.0)
    answer = outcome(pool, "load 60", seconds=0.1)
    assert isinstance(answer, Failed)
    assert (answer.reason.code, answer.reason.blame) == ("internal-error", "operator")
    assert "the task was not read after 2 seconds" in answer.reason.message
    pool.close()


def test_a_worker_that_takes_too_much_cpu_time_is_killed(pool: LocalPool) -> None:
    said(pool, "pid")
    pool.start([ticket("spin")], CPU, Bounds(60, cpu_seconds=0.3), time.time())
    (ended,) = ended_of(pool)
    assert isinstance(ended.outcome, Failed)
    assert (ended.outcome.reason.code, ended.outcome.reason.message) == ("limit-exceeded", "it took more than 0.3 seconds of CPU time")
    assert [finding.code for finding in ended.outcome.findings] == ["FM601"]


def test_the_cpu_time_of_what_it_started_counts_too(pool: LocalPool) -> None:
    said(pool, "pid")
    pool.start([ticket("breed")], CPU, Bounds(20, cpu_seconds=0.7), time.time())
    (ended,) = ended_of(pool)
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.reason.message == "it took more than 0.7 seconds of CPU time"


def test_cpu_time_is_counted_from_the_ticket_and_not_from_the_workers_birth(pool: LocalPool) -> None:
    said(pool, "burn 1.0")
    pool.start([ticket("burn 0.1")], CPU, Bounds(60, cpu_seconds=0.9), time.time())
    (ended,) = ended_of(pool)
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.reason.code == "said"


def test_a_worker_that_takes_too_much_memory_is_killed(pool: LocalPool) -> None:
    answer = outcome(pool, "eat 500")
    assert isinstance(answer, Failed)
    assert answer.reason.code == "limit-exceeded"
    assert "300 MiB" in answer.reason.message
    (finding,) = answer.findings
    assert (finding.code, finding.message) == ("FM602", answer.reason.message)


def test_how_long_it_might_have_taken_is_told(pool: LocalPool) -> None:
    said(pool, "pid")
    pool.start([ticket("hang")], CPU, Bounds(0.3), time.time())
    (ended,) = ended_of(pool)
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.reason.message == "it took longer than the 0.3 seconds that it may"


def test_of_several_tickets_that_take_too_long_none_is_to_blame(pool: LocalPool) -> None:
    said(pool, "pid")  # warm, so that no time is given for the start
    outcomes = several(pool, "hang", "pid", seconds=0.5)
    assert outcomes == dict.fromkeys((0, 1), Lost(how="it took longer than the 0.5 seconds that it may, with 2 files in hand"))


def test_a_worker_that_outlives_its_killing_is_waited_for_without_holding_up_the_rest(
    pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(pool, "pid")
    monkeypatch.setattr(process, "_LAST_SECONDS", 0.01)
    monkeypatch.setattr(process.Worker, "gone", False)  # as in a driver that does not answer
    outcome(pool, "hang", seconds=0.1)
    assert state_of(pool, CPU)[0] == "draining"
    assert said(pool, "pid", GPU)
    monkeypatch.undo()
    pool.collect(time.time())
    assert state_of(pool, CPU)[0] == "free"
