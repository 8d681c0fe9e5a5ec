from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

import msgspec
import psutil
import pytest

from fifomark.core.outcome import Failed, Lost, MarkTicket, Outcome, Reason
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds, Ended
from fifomark.workers.post import READY
from fifomark.workers.process import BOOT_FAILURE
from fifomark.workers.slots import Slot

CPU = Slot(name="cpu:0", device="cpu", visible="")
GPU = Slot(name="cuda:1", device="cuda", visible="GPU-1234")


def obey(connection: Connection, slot: Slot) -> None:
    """A worker that does what the ticket's path says."""
    assert "torch" not in sys.modules
    connection.send_bytes(READY)
    while True:
        ticket = msgspec.json.decode(connection.recv_bytes(), type=MarkTicket)
        what, _, argument = ticket.path.partition(" ")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "exit":
            os._exit(int(argument))
        if what == "hang":
            time.sleep(600)
        if what == "fork":
            child = os.fork()
            if child == 0:
                time.sleep(600)
            with open(argument, "w") as file:
                file.write(str(child))
            time.sleep(600)
        if what == "babble":
            connection.send_bytes(b"\x80\x04this is no outcome")
        said = {"env": os.environ.get(argument, "unset"), "pid": str(os.getpid())}.get(what, "")
        if what == "eat":
            hoard = bytearray(int(argument) << 20)
            hoard[::4096] = b"x" * len(hoard[::4096])
            time.sleep(600)
        connection.send_bytes(msgspec.json.encode(Failed(reason=Reason(code="said", message=said, blame=None))))


def cannot_boot(connection: Connection, slot: Slot) -> None:
    sys.exit(BOOT_FAILURE)


def dies_at_boot(connection: Connection, slot: Slot) -> None:
    os._exit(1)


@pytest.fixture
def pool() -> Iterator[LocalPool]:
    made = LocalPool(obey, [CPU, GPU])
    yield made
    made.close()


def ticket(path: str, id: int = 1) -> MarkTicket:
    return MarkTicket(submission=id, path=path, rubric="r", rubric_sha256="0")


def outcome(pool: LocalPool, path: str, slot: Slot = CPU, *, seconds: float = 60.0) -> Outcome:
    pool.start([ticket(path)], slot, Bounds(time.time() + seconds, memory_bytes=300 << 20))
    (ended,) = ended_of(pool)
    return ended.outcome


def is_running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def ended_of(pool: LocalPool, wanted: int = 1) -> list[Ended]:
    found: list[Ended] = []
    until = time.time() + 60
    while len(found) < wanted and time.time() < until:
        wait(pool.waitables(), timeout=0.1)
        found += pool.collect(time.time())
    return found


def said(pool: LocalPool, path: str, slot: Slot = CPU) -> str:
    answer = outcome(pool, path, slot)
    assert isinstance(answer, Failed)
    return answer.reason.message


def test_a_worker_sees_its_own_slot_only(pool: LocalPool) -> None:
    assert said(pool, "env CUDA_VISIBLE_DEVICES", CPU) == ""
    assert said(pool, "env CUDA_VISIBLE_DEVICES", GPU) == "GPU-1234"
    assert said(pool, "env CUDA_DEVICE_ORDER", GPU) == "PCI_BUS_ID"
    assert said(pool, "env OMP_NUM_THREADS", CPU) == "1"
    assert os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"


def test_a_worker_serves_one_ticket_after_another(pool: LocalPool) -> None:
    assert said(pool, "pid") == said(pool, "pid") != said(pool, "pid", GPU)


def test_a_killed_worker_is_lost_by_name_and_replaced_and_its_neighbour_goes_on(pool: LocalPool) -> None:
    neighbour = said(pool, "pid", GPU)
    assert outcome(pool, "die") == Lost(how="killed by SIGKILL")
    assert outcome(pool, "exit 7") == Lost(how="exit code 7")
    assert said(pool, "pid")
    assert said(pool, "pid", GPU) == neighbour


def test_a_worker_that_overruns_is_killed_with_everything_that_it_started(pool: LocalPool, tmp_path: object) -> None:
    said(pool, "pid")  # warm, so that no time is given for the start
    note = os.path.join(str(tmp_path), "child")
    answer = outcome(pool, f"fork {note}", seconds=1.0)
    assert isinstance(answer, Failed)
    assert (answer.reason.code, answer.reason.blame) == ("limit-exceeded", "submitter")
    with open(note) as file:
        child = int(file.read())
    until = time.time() + 5
    while is_running(child) and time.time() < until:
        time.sleep(0.05)
    assert not is_running(child)
    assert said(pool, "pid")


def test_a_worker_that_takes_too_much_memory_is_killed(pool: LocalPool) -> None:
    answer = outcome(pool, "eat 500")
    assert isinstance(answer, Failed)
    assert answer.reason.code == "limit-exceeded"
    assert "300 MiB" in answer.reason.message


def test_what_is_no_outcome_is_never_believed(pool: LocalPool) -> None:
    assert isinstance(outcome(pool, "babble"), Lost)


def test_a_slot_whose_worker_cannot_be_set_up_is_taken_out_of_service() -> None:
    pool = LocalPool(cannot_boot, [CPU])
    assert isinstance(outcome(pool, "pid"), Lost)
    (state,) = pool.slots()
    assert state.state == "out of service"
    assert pool.free() == []
    pool.close()


def test_a_slot_whose_worker_dies_again_and_again_before_it_is_ready_is_taken_out_of_service() -> None:
    pool = LocalPool(dies_at_boot, [CPU])
    for _ in range(3):
        assert pool.free() == [CPU]
        assert isinstance(outcome(pool, "pid"), Lost)
    assert [state.state for state in pool.slots()] == ["out of service"]
    pool.close()


def test_models_that_kill_their_worker_do_not_cost_the_slot(pool: LocalPool) -> None:
    for _ in range(4):
        outcome(pool, "die")
    assert said(pool, "pid")


def test_closing_leaves_no_process_behind(pool: LocalPool) -> None:
    pids = [int(said(pool, "pid", slot)) for slot in (CPU, GPU)]
    pool.start([ticket("hang")], CPU, Bounds(time.time() + 60))
    pool.close()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


# Several tickets in one hand


def several(pool: LocalPool, *paths: str, seconds: float = 60.0) -> dict[int, Outcome]:
    tickets = [ticket(path, id) for id, path in enumerate(paths)]
    pool.start(tickets, CPU, Bounds(time.time() + seconds))
    return {ended.submission: ended.outcome for ended in ended_of(pool, len(paths))}


def test_tickets_that_are_handed_over_together_each_have_their_own_outcome(pool: LocalPool) -> None:
    outcomes = several(pool, "env HOME", "pid", "env FIFOMARK_NOBODY")
    assert [outcome.reason.message for outcome in outcomes.values() if isinstance(outcome, Failed)][::2] == [os.environ["HOME"], "unset"]
    assert list(outcomes) == [0, 1, 2]
    assert CPU in pool.free()


def test_a_slot_is_busy_until_the_last_of_its_tickets_has_ended(pool: LocalPool) -> None:
    pool.start([ticket("pid", 1), ticket("hang", 2)], CPU, Bounds(time.time() + 60))
    assert [ended.submission for ended in ended_of(pool)] == [1]
    assert CPU not in pool.free()
    assert [state.submission for state in pool.slots() if state.slot == CPU] == [2]


def test_a_death_is_the_end_of_all_that_was_in_hand_and_of_nothing_before(pool: LocalPool) -> None:
    outcomes = several(pool, "pid", "die", "pid")
    assert isinstance(outcomes[0], Failed)
    assert outcomes[1] == outcomes[2] == Lost(how="killed by SIGKILL")


def test_of_several_tickets_that_take_too_long_none_is_to_blame(pool: LocalPool) -> None:
    said(pool, "pid")  # warm, so that no time is given for the start
    outcomes = several(pool, "hang", "pid", seconds=0.5)
    assert outcomes == dict.fromkeys((0, 1), Lost(how="it took longer than it may, with 2 files in hand"))
