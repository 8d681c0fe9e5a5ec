from __future__ import annotations

import os
import time
from multiprocessing.connection import wait

from pool_bench import (
    CPU,
    GPU,
    cannot_boot,
    dies_at_boot,
    ended_of,
    never_ready,
    obey,
    outcome,
    said,
    several,
    ticket,
    unfit,
)

from fifomark.core.outcome import Failed, Lost
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds
from fifomark.workers.slots import Slot


def test_a_worker_sees_its_own_slot_only(pool: LocalPool) -> None:
    assert said(pool, "env CUDA_VISIBLE_DEVICES", CPU) == ""
    assert said(pool, "env CUDA_VISIBLE_DEVICES", GPU) == "GPU-1234"
    assert said(pool, "env CUDA_DEVICE_ORDER", GPU) == "PCI_BUS_ID"
    assert said(pool, "env OMP_NUM_THREADS", CPU) == "1"
    assert os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"


def test_where_tickets_are_expected_the_first_worker_of_the_cpu_is_started() -> None:
    pool = LocalPool(obey, [CPU, Slot(name="cpu:1", device="cpu", visible="")], one_by_one=True)
    for _ in range(2):
        pool.expect()
        assert len(pool.waitables()) == 2  # of one worker
    until = time.time() + 60
    while not pool.warm() and time.time() < until:
        wait(pool.waitables(), timeout=0.1)
        assert pool.collect(time.time()) == []
    assert pool.warm() == [CPU]
    assert said(pool, "pid")
    pool.close()


def test_a_worker_that_was_expected_and_dies_is_nobodys_loss() -> None:
    pool = LocalPool(dies_at_boot, [CPU])
    for _ in range(3):
        pool.expect()
        until = time.time() + 60
        while pool.waitables() and time.time() < until:
            wait(pool.waitables(), timeout=0.1)
            assert pool.collect(time.time()) == []
    assert [state.state for state in pool.slots()] == ["out of service"]
    pool.expect()
    assert pool.waitables() == []
    pool.close()


def test_no_worker_of_a_gpu_is_started_before_its_ticket_comes() -> None:
    pool = LocalPool(obey, [GPU])
    pool.expect()
    assert pool.waitables() == []
    pool.close()


def test_a_worker_serves_one_ticket_after_another(pool: LocalPool) -> None:
    assert said(pool, "pid") == said(pool, "pid") != said(pool, "pid", GPU)


def test_a_killed_worker_is_lost_by_name_and_replaced_and_its_neighbour_goes_on(pool: LocalPool) -> None:
    neighbour = said(pool, "pid", GPU)
    assert outcome(pool, "die") == Lost(how="killed by SIGKILL")
    assert outcome(pool, "exit 7") == Lost(how="exit code 7")
    assert said(pool, "pid")
    assert said(pool, "pid", GPU) == neighbour


def test_what_is_no_outcome_is_never_believed(pool: LocalPool) -> None:
    assert isinstance(outcome(pool, "babble"), Lost)


def test_a_slot_whose_worker_cannot_be_set_up_is_taken_out_of_service(preload: str | None) -> None:
    pool = LocalPool(cannot_boot, [CPU], preload=preload)
    assert isinstance(outcome(pool, "pid"), Lost)
    (state,) = pool.slots()
    assert state.state == "out of service"
    assert pool.free() == []
    pool.close()


def test_a_slot_whose_worker_dies_again_and_again_before_it_is_ready_is_taken_out_of_service(preload: str | None) -> None:
    pool = LocalPool(dies_at_boot, [CPU], preload=preload)
    for _ in range(3):
        assert pool.free() == [CPU]
        assert isinstance(outcome(pool, "pid"), Lost)
    assert [state.state for state in pool.slots()] == ["out of service"]
    pool.close()


def test_a_slot_whose_worker_says_why_it_cannot_be_set_up_says_so(preload: str | None) -> None:
    pool = LocalPool(unfit, [CPU], preload=preload)
    assert outcome(pool, "pid") == Lost(how="exit code 78", began=False)
    (state,) = pool.slots()
    assert (state.state, state.why) == ("out of service", "its worker cannot be set up: InternalError: torch sees none")
    pool.close()


def test_a_worker_that_never_comes_to_be_ready_is_not_the_submitters_fault() -> None:
    pool = LocalPool(never_ready, [CPU], boot_seconds=0.1)
    for _ in range(3):
        assert outcome(pool, "pid", seconds=0.1) == Lost(how="it was not ready after 0.1 seconds", began=False)
    assert [state.state for state in pool.slots()] == ["out of service"]
    pool.close()


def test_a_workers_threads_stay_on_its_cores(preload: str | None) -> None:
    core = max(os.sched_getaffinity(0))
    pool = LocalPool(obey, [Slot(name="cpu", device="cpu", visible="", cores=(core,))], preload=preload)
    assert os.sched_getaffinity(int(said(pool, "pid", pool.free()[0]))) == {core}
    pool.close()


def test_closing_leaves_no_process_behind(pool: LocalPool) -> None:
    pids = [int(said(pool, "pid", slot)) for slot in (CPU, GPU)]
    pool.start([ticket("hang")], CPU, Bounds(60), time.time())
    pool.close()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_tickets_that_are_handed_over_together_each_have_their_own_outcome(pool: LocalPool) -> None:
    outcomes = several(pool, "env HOME", "pid", "env FIFOMARK_NOBODY")
    assert [outcome.reason.message for outcome in outcomes.values() if isinstance(outcome, Failed)][::2] == [os.environ["HOME"], "unset"]
    assert list(outcomes) == [0, 1, 2]
    assert CPU in pool.free()


def test_a_slot_is_busy_until_the_last_of_its_tickets_has_ended(pool: LocalPool) -> None:
    pool.start([ticket("pid", 1), ticket("hang", 2)], CPU, Bounds(60), time.time())
    assert [ended.submission for ended in ended_of(pool)] == [1]
    assert CPU not in pool.free()
    assert [state.submission for state in pool.slots() if state.slot == CPU] == [2]


def test_a_death_is_the_end_of_all_that_was_in_hand_and_of_nothing_before(pool: LocalPool) -> None:
    outcomes = several(pool, "pid", "die", "pid")
    assert isinstance(outcomes[0], Failed)
    assert outcomes[1] == outcomes[2] == Lost(how="killed by SIGKILL")
