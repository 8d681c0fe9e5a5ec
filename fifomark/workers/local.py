"""The default engine: one `spawn`ed process for each slot, started when it is first needed, replaced when it dies or overruns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import msgspec
import psutil

from fifomark.core.outcome import Failed, Lost, Outcome, Reason, Ticket
from fifomark.workers.pool import Bounds, Ended, SlotState
from fifomark.workers.process import BOOT_FAILURE, Serve, Worker
from fifomark.workers.slots import Slot
from fifomark.workers.tape import Tape

READY = b"ready"
_OUTCOMES: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)
MAX_DEATHS = 3  # deaths in a row before a worker was ready, after which its slot is taken out of service


class _Post:
    """A slot and who serves it."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.worker: Worker | None = None
        self.ready = False
        self.tickets: list[Ticket] = []  # in hand: the first is being worked on
        self.bounds = Bounds(0.0)
        self.deaths = 0
        self.out_of_service: str | None = None
        self.tape: Tape | None = None

    @property
    def state(self) -> str:
        if self.out_of_service:
            return "out of service"
        if self.tickets:
            return "busy" if self.ready else "starting"
        return "free"


class LocalPool:
    """`serve` is the worker's side (workers.main); `boot_seconds` is what a worker may take to be ready, on top of its first ticket.

    With `keep_output` what a worker says on stdout and stderr comes with each end (`Ended.said`), and does not go to ours.
    """

    def __init__(self, serve: Serve, slots: Sequence[Slot], boot_seconds: float = 120.0, *, keep_output: bool = False) -> None:
        self._serve, self._keep_output = serve, keep_output
        self._boot_seconds = boot_seconds
        self._posts = [_Post(slot) for slot in slots]

    def free(self) -> list[Slot]:
        return [post.slot for post in self._posts if post.state == "free"]

    def start(self, tickets: Sequence[Ticket], slot: Slot, bounds: Bounds) -> None:
        post = next(post for post in self._posts if post.slot == slot)
        assert post.state == "free", f"slot {slot.name} is {post.state}"
        if post.worker is None:
            post.tape = Tape() if self._keep_output else None
            post.worker = Worker(slot, self._serve, post.tape)
        post.tickets = list(tickets)
        # The time to import torch once is ours, not the submission's.
        post.bounds = bounds if post.ready else bounds._replace(deadline=bounds.deadline + self._boot_seconds)
        with contextlib.suppress(OSError):  # the worker is gone: `collect` sees its end
            for ticket in tickets:
                post.worker.send(msgspec.json.encode(ticket))

    def collect(self, now: float) -> list[Ended]:
        ended: list[Ended] = []
        for post in self._posts:
            if post.tape is not None:
                post.tape.roll()
            for ticket, outcome in self._look_at(post, now):
                ended.append(Ended(ticket.submission, post.slot, outcome, post.tape.take() if post.tape else ""))
        return ended

    def _look_at(self, post: _Post, now: float) -> Iterator[tuple[Ticket, Outcome]]:
        while post.worker is not None and post.worker.connection.poll():
            message = post.worker.receive()
            if message == READY:
                post.ready, post.deaths = True, 0
                continue
            outcome = self._decoded(message)
            if outcome is None:
                yield from self._all(post, self._bury(post))
            elif post.tickets:
                yield post.tickets.pop(0), outcome
        if post.tickets and post.worker is not None and (failed := self._overrun(post, now)):
            alone = len(post.tickets) == 1
            yield from self._all(post, failed if alone else Lost(how=f"{failed.reason.message}, with {len(post.tickets)} files in hand"))

    def _all(self, post: _Post, outcome: Outcome) -> list[tuple[Ticket, Outcome]]:
        """One end for everything in hand."""
        tickets, post.tickets = post.tickets, []
        return [(ticket, outcome) for ticket in tickets]

    def _decoded(self, message: bytes | None) -> Outcome | None:
        """None for a death as for nonsense: a worker that does not speak our language is not to be trusted with another ticket."""
        if message is None:
            return None
        try:
            return _OUTCOMES.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _bury(self, post: _Post) -> Lost:
        assert post.worker is not None
        post.worker.kill(patience=2.0)  # one that has closed its pipe is about to be gone: let it say how
        how = post.worker.how_it_ended()
        # A worker that was ready dies of what it marks; one that dies before says that its slot is not fit.
        post.deaths += 0 if post.ready else 1
        if post.worker.exitcode == BOOT_FAILURE:
            post.out_of_service = "its worker cannot be set up: see the log" + (" of the submission, in logs/" if self._keep_output else "")
        elif post.deaths >= MAX_DEATHS:
            post.out_of_service = f"its worker died {post.deaths} times before it was ready: {how}"
        post.worker, post.ready = None, False
        return Lost(how=how)

    def _overrun(self, post: _Post, now: float) -> Failed | None:
        assert post.worker is not None
        deadline, memory = post.bounds
        if now > deadline:
            message = "it took longer than it may"
        elif memory is not None and _resident(post.worker.pid) > memory:
            message = f"it took more than {memory >> 20} MiB of memory"
        else:
            return None
        post.worker.kill()
        post.worker, post.ready = None, False
        return Failed(reason=Reason(code="limit-exceeded", message=message, blame="submitter"))

    def slots(self) -> list[SlotState]:
        return [SlotState(p.slot, p.state, p.tickets[0].submission if p.tickets else None, p.out_of_service) for p in self._posts]

    def waitables(self) -> Sequence[Connection | int]:
        return [post.worker.connection for post in self._posts if post.worker is not None]

    def close(self) -> None:
        for post in self._posts:
            if post.worker is not None:
                post.worker.kill() if post.tickets else post.worker.stop(grace=2.0)
                post.worker = None


def _resident(pid: int | None) -> int:
    """Resident bytes of a process and its children; 0 once it is gone."""
    try:
        process = psutil.Process(pid)
        return int(sum(p.memory_info().rss for p in (process, *process.children(recursive=True))))
    except psutil.Error:
        return 0
