from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path

import msgspec
import psutil
import pytest
from fake_nvml import GIB, FakeGpu, FakeNvml

from fifomark.core.outcome import DEVICE_ERROR, Failed, Lost, MarkTicket, Outcome, Reason, Refused
from fifomark.workers import machine, process
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds, Ended
from fifomark.workers.post import DRAIN_SECONDS, READY, SPENT, UNFIT
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
        if what == "stuck":
            ctypes.PyDLL(None).sleep(600)  # in C, with Python's lock held
        if what == "burn":
            until = time.process_time() + float(argument)
            while time.process_time() < until:
                pass
            time.sleep(0.6)  # until somebody has looked
        if what == "spin":
            while True:
                pass
        if what in ("fork", "escape", "orphan", "leave"):
            leave_behind(what, argument)
            if what == "leave":
                time.sleep(1.0)  # until somebody has looked
                os._exit(9)
            time.sleep(600)
        if what in ("spent", "device"):
            connection.send_bytes(SPENT)
        if what == "good":
            connection.send_bytes(msgspec.json.encode(Refused(findings=())))
            continue
        if what == "babble":
            connection.send_bytes(b"\x80\x04this is no outcome")
        said = {"env": os.environ.get(argument, "unset"), "pid": str(os.getpid())}.get(what, "")
        if what == "eat":
            hoard = bytearray(int(argument) << 20)
            hoard[::4096] = b"x" * len(hoard[::4096])
            time.sleep(600)
        code = DEVICE_ERROR if what == "device" else "said"
        connection.send_bytes(
            msgspec.json.encode(Failed(reason=Reason(code=code, message=argument if what in ("spent", "device") else said, blame=None)))
        )


def leave_behind(how: str, note: str) -> None:
    """A process in the worker's group, or outside of it, or outside and with its parent gone; its number in the file `note`."""
    child = os.fork()
    if child == 0:
        if how != "fork":
            os.setsid()
        if how == "orphan" and os.fork() != 0:
            os._exit(0)
        with open(f"{note}.part", "w") as file:
            file.write(str(os.getpid()))
        os.rename(f"{note}.part", note)
        time.sleep(600)
    if how == "orphan":
        os.waitpid(child, 0)


def unfit(connection: Connection, slot: Slot) -> None:
    connection.send_bytes(UNFIT + b"InternalError: torch sees none")
    sys.exit(BOOT_FAILURE)


def never_ready(connection: Connection, slot: Slot) -> None:
    time.sleep(600)


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


@pytest.mark.parametrize("how", ["fork", "escape", "orphan"])
def test_a_worker_that_overruns_is_killed_with_everything_that_it_started(pool: LocalPool, tmp_path: Path, how: str) -> None:
    said(pool, "pid")  # warm, so that no time is given for the start
    answer = outcome(pool, f"{how} {tmp_path}/child", seconds=1.5)
    assert isinstance(answer, Failed)
    assert (answer.reason.code, answer.reason.blame) == ("limit-exceeded", "submitter")
    assert comes_to_an_end(int((tmp_path / "child").read_text()))
    assert said(pool, "pid")


def test_what_a_dead_worker_left_outside_its_group_is_killed_too(pool: LocalPool, tmp_path: Path) -> None:
    said(pool, "pid")
    assert outcome(pool, f"leave {tmp_path}/child") == Lost(how="exit code 9")
    assert comes_to_an_end(int((tmp_path / "child").read_text()))


def comes_to_an_end(pid: int) -> bool:
    until = time.time() + 10
    while is_running(pid) and time.time() < until:
        time.sleep(0.05)
    return not is_running(pid)


def test_a_worker_that_hangs_in_c_is_killed_and_replaced(pool: LocalPool) -> None:
    said(pool, "pid")
    answer = outcome(pool, "stuck", seconds=0.5)
    assert isinstance(answer, Failed)
    assert answer.reason.message == "it took longer than it may"
    assert said(pool, "pid")


def test_a_worker_that_takes_too_much_cpu_time_is_killed(pool: LocalPool) -> None:
    said(pool, "pid")
    pool.start([ticket("spin")], CPU, Bounds(time.time() + 60, cpu_seconds=0.3))
    (ended,) = ended_of(pool)
    assert isinstance(ended.outcome, Failed)
    assert (ended.outcome.reason.code, ended.outcome.reason.message) == ("limit-exceeded", "it took more than 0.3 seconds of CPU time")


def test_cpu_time_is_counted_from_the_ticket_and_not_from_the_workers_birth(pool: LocalPool) -> None:
    said(pool, "burn 1.0")
    pool.start([ticket("burn 0.1")], CPU, Bounds(time.time() + 60, cpu_seconds=0.9))
    (ended,) = ended_of(pool)
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.reason.code == "said"


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


def test_a_slot_whose_worker_says_why_it_cannot_be_set_up_says_so() -> None:
    pool = LocalPool(unfit, [CPU])
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


# A slot that loses what it is given, and submissions that are lost wherever they go


def lose(pool: LocalPool, slot: Slot, *ids: int) -> None:
    for id in ids:
        pool.start([ticket("die", id)], slot, Bounds(time.time() + 60))
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
    assert outcome(pool, "die") == Lost(how="killed by the out-of-memory killer")


def test_where_memory_runs_out_a_worker_goes_before_the_daemon(pool: LocalPool) -> None:
    score = Path(f"/proc/{said(pool, 'pid')}/oom_score_adj").read_text()
    assert int(score) > int(Path("/proc/self/oom_score_adj").read_text())


def test_a_workers_threads_stay_on_its_cores() -> None:
    core = max(os.sched_getaffinity(0))
    pool = LocalPool(obey, [Slot(name="cpu", device="cpu", visible="", cores=(core,))])
    assert os.sched_getaffinity(int(said(pool, "pid", pool.free()[0]))) == {core}
    pool.close()


# GPUs, as NVML would tell of them


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    return FakeNvml([FakeGpu("GPU-1234", 10 * GIB)]).install(monkeypatch)


def state_of(pool: LocalPool, slot: Slot) -> tuple[str, str | None]:
    return next((state.state, state.why) for state in pool.slots() if state.slot == slot)


def test_a_gpu_takes_nothing_new_until_the_memory_of_its_killed_worker_is_free(pool: LocalPool, nvml: FakeNvml) -> None:
    gpu = nvml.gpus[0]
    gpu.used = 1 * GIB  # somebody's desktop
    said(pool, "pid", GPU)
    gpu.used = 6 * GIB
    outcome(pool, "hang", GPU, seconds=0.2)
    assert state_of(pool, GPU) == ("draining", "waits until its last worker has given back what it had")
    assert pool.free() == [CPU]
    gpu.used = 1 * GIB
    pool.collect(time.time())
    assert pool.free() == [CPU, GPU]


def test_a_share_of_a_gpu_waits_for_its_own_memory_only(nvml: FakeNvml) -> None:
    half = Slot(name="cuda:0/2", device="cuda", visible="GPU-1234", memory_bytes=5 * GIB, share=0.5)
    pool = LocalPool(obey, [half])
    said(pool, "pid", half)
    nvml.gpus[0].used = 8 * GIB  # its neighbour has come to 5 since
    outcome(pool, "die", half)
    assert state_of(pool, half)[0] == "draining"
    nvml.gpus[0].used = 5 * GIB
    pool.collect(time.time())
    assert state_of(pool, half)[0] == "free"
    pool.close()


def test_a_gpu_that_does_not_give_memory_back_is_out_of_service_until_it_does(pool: LocalPool, nvml: FakeNvml) -> None:
    said(pool, "pid", GPU)
    nvml.gpus[0].used = 6 * GIB
    outcome(pool, "die", GPU)
    pool.collect(time.time() + DRAIN_SECONDS + 1)
    assert state_of(pool, GPU) == ("out of service", "what its last worker had is not given back after 120 seconds")
    nvml.gpus[0].used = 0
    pool.collect(time.time())
    assert state_of(pool, GPU) == ("free", None)


def test_a_gpu_that_is_lost_is_out_of_service_at_once_and_the_other_slots_go_on(pool: LocalPool, nvml: FakeNvml) -> None:
    said(pool, "pid", GPU)
    nvml.gpus[0].lost = True
    assert outcome(pool, "device CUDA error: unspecified launch failure", GPU) == Lost(how="CUDA error: unspecified launch failure")
    assert state_of(pool, GPU) == ("out of service", "NVML says of its GPU: GPU is lost")
    assert said(pool, "pid", CPU)


def test_a_worker_whose_device_failed_is_replaced_and_what_it_had_is_lost_and_not_failed(pool: LocalPool) -> None:
    before = said(pool, "pid", GPU)
    assert outcome(pool, "device CUDA error: an illegal memory access", GPU) == Lost(how="CUDA error: an illegal memory access")
    assert said(pool, "pid", GPU) != before


def test_a_worker_that_is_spent_gives_its_outcome_and_is_replaced(pool: LocalPool) -> None:
    before = said(pool, "pid", GPU)
    assert said(pool, "spent it asked for what is not there", GPU) == "it asked for what is not there"
    assert said(pool, "pid", GPU) != before


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
