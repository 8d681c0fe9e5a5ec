"""A slot that loses what it is given, and submissions that are lost wherever they go."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pool_bench import (
    CPU,
    GPU,
    ended_of,
    obey,
    outcome,
    said,
    ticket,
)

from fifomark.core.outcome import Lost, Refused
from fifomark.workers import machine
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds
from fifomark.workers.slots import Slot


def lose(pool: LocalPool, slot: Slot, *ids: int) -> None:
    for id in ids:
        pool.start([ticket("die", id)], slot, Bounds(60), time.time())
        assert isinstance(ended_of(pool)[0].outcome, Lost)


def test_a_slot_that_loses_one_submission_after_another_is_taken_out_of_service_and_the_others_go_on(pool: LocalPool) -> None:
    lose(pool, CPU, 1, 2)
    assert CPU in pool.free()
    lose(pool, CPU, 3)
    assert pool.free() == [GPU]
    why = "3 submissions in a row were lost here, and nowhere else: killed by SIGKILL"
    assert [(state.state, state.why) for state in pool.slots()] == [("out of service", why), ("free", None)]
    assert said(pool, "pid", GPU)


def test_one_that_comes_to_its_end_in_between_speaks_for_the_slot(pool: LocalPool) -> None:
    lose(pool, CPU, 1, 2)
    assert isinstance(outcome(pool, "good"), Refused)
    lose(pool, CPU, 3, 4)
    assert CPU in pool.free()


def test_models_that_kill_their_worker_do_not_cost_the_slot(pool: LocalPool) -> None:
    lose(pool, CPU, 1, 1, 1, 1)
    assert said(pool, "pid")


def test_models_that_kill_their_worker_everywhere_cost_no_slot(pool: LocalPool) -> None:
    for id in range(1, 5):
        lose(pool, CPU, id)
        lose(pool, GPU, id)
    assert pool.free() == [CPU, GPU]


def test_the_last_slot_is_not_taken_out_of_service_for_what_it_lost() -> None:
    pool = LocalPool(obey, [CPU])
    lose(pool, CPU, 1, 2, 3, 4)
    assert said(pool, "pid")
    pool.close()


def test_a_kill_for_want_of_memory_is_told_from_others(pool: LocalPool, monkeypatch: pytest.MonkeyPatch) -> None:
    said(pool, "pid")
    monkeypatch.setattr(machine, "oom_kills", lambda: 10**9)
    assert outcome(pool, "exit 7") == Lost(how="exit code 7")
    assert outcome(pool, "die") == Lost(how="killed by the out-of-memory killer", memory=True)


def test_where_memory_runs_out_a_worker_goes_before_the_daemon(pool: LocalPool) -> None:
    score = Path(f"/proc/{said(pool, 'pid')}/oom_score_adj").read_text()
    assert int(score) > int(Path("/proc/self/oom_score_adj").read_text())
