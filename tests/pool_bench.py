"""Workers that do what a ticket tells them, and how it ends: for tests of the pool."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from multiprocessing.connection import Connection, wait

import msgspec
import psutil

from fifomark.core.outcome import DEVICE_ERROR, Failed, MarkTicket, Outcome, Reason, Refused
from fifomark.workers.local import LocalPool
from fifomark.workers.pool import Bounds, Ended
from fifomark.workers.post import LOADED, LOADING, READY, SPENT, UNFIT
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
        if what == "load":
            seconds, _, what = argument.partition(" ")
            connection.send_bytes(LOADING)
            time.sleep(float(seconds))
            connection.send_bytes(LOADED)
        if what == "hang":
            time.sleep(600)
        if what == "stuck":
            ctypes.PyDLL(None).sleep(600)  # in C, with Python's lock held
        if what == "burn":
            burn(float(argument))
            time.sleep(0.6)  # until somebody has looked
        while what == "breed":  # no child takes much
            if (child := os.fork()) == 0:
                burn(0.1)
                os._exit(0)
            os.waitpid(child, 0)
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


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


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
    while not os.path.exists(note):
        time.sleep(0.01)


def unfit(connection: Connection, slot: Slot) -> None:
    connection.send_bytes(UNFIT + b"InternalError: torch sees none")
    sys.exit(BOOT_FAILURE)


def never_ready(connection: Connection, slot: Slot) -> None:
    time.sleep(600)


def cannot_boot(connection: Connection, slot: Slot) -> None:
    sys.exit(BOOT_FAILURE)


def dies_at_boot(connection: Connection, slot: Slot) -> None:
    os._exit(1)


def ticket(path: str, id: int = 1) -> MarkTicket:
    return MarkTicket(submission=id, path=path, rubric="r", rubric_sha256="0")


def outcome(pool: LocalPool, path: str, slot: Slot = CPU, *, seconds: float = 60.0) -> Outcome:
    pool.start([ticket(path)], slot, Bounds(seconds, memory_bytes=300 << 20), time.time())
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


def comes_to_an_end(pid: int) -> bool:
    until = time.time() + 10
    while is_running(pid) and time.time() < until:
        time.sleep(0.05)
    return not is_running(pid)


def said(pool: LocalPool, path: str, slot: Slot = CPU) -> str:
    answer = outcome(pool, path, slot)
    assert isinstance(answer, Failed)
    return answer.reason.message


def state_of(pool: LocalPool, slot: Slot) -> tuple[str, str | None]:
    return next((state.state, state.why) for state in pool.slots() if state.slot == slot)


def several(pool: LocalPool, *paths: str, seconds: float = 60.0) -> dict[int, Outcome]:
    tickets = [ticket(path, id) for id, path in enumerate(paths)]
    pool.start(tickets, CPU, Bounds(seconds), time.time())
    return {ended.submission: ended.outcome for ended in ended_of(pool, len(paths))}
