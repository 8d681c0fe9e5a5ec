"""A slot and who serves it: a worker is started when it is first needed, watched, and replaced when it dies or overruns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from fifomark.core.outcome import DEVICE_ERROR, Failed, Lost, MarkTicket, Outcome, Ticket
from fifomark.core.overruns import Overrun, overrun, too_long
from fifomark.core.text import shown
from fifomark.workers import gpus
from fifomark.workers.machine import OomWatch
from fifomark.workers.pool import Bounds, SlotState
from fifomark.workers.process import BOOT_FAILURE, Serve, Worker
from fifomark.workers.slots import Slot
from fifomark.workers.tape import Tape

READY = b"ready"  # a worker's first word
UNFIT = b"unfit: "  # said in place of READY, with the reason
SPENT = b"spent"  # said before an outcome: the device is no longer fit for this process, which must be replaced after it
MAX_DEATHS = 3  # deaths in a row before a worker was ready, after which its slot is taken out of service
LOOK_SECONDS = 0.5  # between two looks at what a worker takes
DRAIN_SECONDS = 120.0  # until a GPU has to have given back the memory of a worker that was killed
_MOST = 0.9  # of that memory: drivers keep some for themselves
_OUTCOMES: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


class Post:
    """`out_of_service` says why it takes no more tickets."""

    def __init__(self, slot: Slot, serve: Serve, boot_seconds: float, oom: OomWatch, *, keep_output: bool = False) -> None:
        self.slot = slot
        self.worker: Worker | None = None
        self._serve, self._boot_seconds, self._oom = serve, boot_seconds, oom
        self._keep_output = keep_output
        self._tape: Tape | None = None  # of the worker, or of the one before
        self.out_of_service: str | None = None
        self._ready = self._spent = False
        self._tickets: list[Ticket] = []  # in hand: the first is being worked on
        self._bounds = Bounds(0.0)
        self._cpu_before = 0.0  # seconds that the worker had taken when it began with what it has in hand
        self._looked_at = 0.0
        self._deaths = 0
        self._leaving: Worker | None = None  # killed, and not known to have given back what it had
        self._left_at = 0.0
        self._free_before: int | None = None  # bytes of the GPU, before the worker was started

    @property
    def state(self) -> SlotState:
        submission = self._tickets[0].submission if self._tickets else None
        if self.out_of_service:
            return SlotState(self.slot, "out of service", submission, self.out_of_service)
        if self._leaving is not None:
            return SlotState(self.slot, "draining", submission, "waits until its last worker has given back what it had")
        if self._tickets:
            return SlotState(self.slot, "busy" if self._ready else "starting", submission, None)
        return SlotState(self.slot, "free", None, None)

    def start(self, tickets: Sequence[Ticket], bounds: Bounds) -> None:
        assert self.state.state == "free", f"slot {self.slot.name} is {self.state.state}"
        if self.worker is None:
            self._free_before = self._free()
            self._tape = Tape() if self._keep_output else None
            self.worker = Worker(self.slot, self._serve, self._tape)
        elif self._ready:
            self._cpu_before = self.worker.usage().cpu_seconds
        self._tickets = list(tickets)
        self._bounds = bounds if self._ready else self._with_boot(bounds)
        with contextlib.suppress(OSError):  # the worker is gone: `look` sees its end
            for ticket in tickets:
                self.worker.send(msgspec.json.encode(ticket))

    def _with_boot(self, bounds: Bounds) -> Bounds:
        """The time to import torch and to read a rubric's data once is ours, not the submission's."""
        cpu = None if bounds.cpu_seconds is None else bounds.cpu_seconds + self._boot_seconds
        return bounds._replace(deadline=bounds.deadline + self._boot_seconds, cpu_seconds=cpu)

    def look(self, now: float) -> Iterator[tuple[Ticket, Outcome]]:
        """What has ended since the last look. Never waits, but for a worker that is about to be gone."""
        self._drain(now)
        if self._tape is not None:
            self._tape.roll()  # it must not have to wait for us to listen
        while self.worker is not None and (self.worker.connection.poll() or self.worker.gone):
            yield from self._heard(self.worker, self.worker.receive(), now)
        if self._tickets and self.worker is not None and (failed := self._overrun(self.worker, now)):
            self._end(self.worker, now)
            yield from self._all(failed)

    def said(self) -> str:
        """What its worker has said on stdout and stderr since the last time."""
        return self._tape.take() if self._tape is not None else ""

    def close(self) -> None:
        """End the worker; what it has in hand is dropped."""
        if self.worker is not None:
            self.worker.kill() if self._tickets else self.worker.stop(grace=2.0)
            self.worker = None

    # What a worker says

    def _heard(self, worker: Worker, message: bytes | None, now: float) -> Iterator[tuple[Ticket, Outcome]]:
        if message == READY:
            self._ready, self._deaths = True, 0
            self._cpu_before = worker.usage().cpu_seconds
        elif message == SPENT:
            self._spent = True
        elif message is not None and message.startswith(UNFIT):
            self.out_of_service = f"its worker cannot be set up: {shown(message.removeprefix(UNFIT).decode(errors='replace'), 300)}"
        elif (outcome := _decoded(message)) is None:
            yield from self._all(self._bury(worker, now))
        elif isinstance(outcome, Failed) and outcome.reason.code == DEVICE_ERROR:
            self._end(worker, now)
            yield from self._all(Lost(how=outcome.reason.message))
        elif self._tickets:
            ticket = self._tickets.pop(0)
            if self._spent and not self._tickets:
                self._end(worker, now)
            yield ticket, outcome

    def _all(self, outcome: Outcome) -> list[tuple[Ticket, Outcome]]:
        """One end for everything in hand."""
        tickets, self._tickets = self._tickets, []
        return [(ticket, outcome) for ticket in tickets]

    def _bury(self, worker: Worker, now: float) -> Lost:
        """Of a worker that has gone by itself, or speaks no language of ours."""
        was_ready = self._ready
        self._end(worker, now, patience=2.0)  # one that has closed its pipe is about to be gone: let it say how
        how = worker.how_it_ended()
        memory = how == "killed by SIGKILL" and self._oom.struck(now)
        if memory:
            how = "killed by the out-of-memory killer"
        # A worker that was ready dies of what it marks; one that dies before says that its slot is not fit.
        if worker.exitcode == BOOT_FAILURE:
            self.out_of_service = self.out_of_service or "its worker cannot be set up: see the log"
        elif not was_ready:
            self._died_before_ready(how)
        return Lost(how=how, began=was_ready, memory=memory)

    def _died_before_ready(self, how: str) -> None:
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            self.out_of_service = f"its worker died {self._deaths} times before it was ready: {how}"

    # What it takes

    def _overrun(self, worker: Worker, now: float) -> Outcome | None:
        if now > self._bounds.deadline and not self._ready:
            how = f"it was not ready after {self._boot_seconds:g} seconds"
            self._died_before_ready(how)
            return Lost(how=how, began=False)
        if (seen := self._too_much(worker, now)) is None:
            return None
        code, message = seen
        if len(self._tickets) > 1:  # nobody knows which it was
            return Lost(how=f"{message}, with {len(self._tickets)} files in hand")
        failed = overrun(code, message)
        return failed if isinstance(self._tickets[0], MarkTicket) else replace(failed, findings=())  # they are about marking

    def _too_much(self, worker: Worker, now: float) -> tuple[Overrun, str] | None:
        """What it took too much of, and the words for it."""
        deadline, memory, cpu, wall = self._bounds
        if now > deadline:
            return "FM601", too_long(wall)
        if 0 <= now - self._looked_at < LOOK_SECONDS:
            return None
        self._looked_at = now
        taken = worker.usage()
        if memory is not None and taken.resident_bytes > memory:
            return "FM602", f"it took more than {memory >> 20} MiB of memory"
        if cpu is not None and self._ready and taken.cpu_seconds - self._cpu_before > cpu:
            return "FM601", f"it took more than {cpu:g} seconds of CPU time"
        return None

    # Its end

    def _end(self, worker: Worker, now: float, patience: float = 0.0) -> None:
        worker.kill(patience)
        self.worker, self._ready, self._spent = None, False, False
        self._leaving, self._left_at = worker, now
        if self.slot.device == "cuda" and (trouble := gpus.trouble(self.slot.visible)):
            self.out_of_service = f"NVML says of its GPU: {trouble}"
        self._drain(now)

    def _drain(self, now: float) -> None:
        """A killed process may hang in a driver, and the memory that it had on a GPU may linger."""
        if self._leaving is None:
            return
        late = f"what its last worker had is not given back after {DRAIN_SECONDS:g} seconds"
        if self._leaving.gone and self._memory_is_back():
            self._leaving = None
            if self.out_of_service == late:
                self.out_of_service = None
        elif now - self._left_at > DRAIN_SECONDS and self.out_of_service is None:
            self.out_of_service = late

    def _memory_is_back(self) -> bool:
        """As much as was free before the worker came, or at least what is this slot's: its neighbours on the GPU may have grown since."""
        free = self._free()
        if free is None or self._free_before is None:
            return True
        wanted = self._free_before if self.slot.memory_bytes is None else min(self._free_before, self.slot.memory_bytes)
        return free >= _MOST * wanted

    def _free(self) -> int | None:
        return gpus.free_bytes(self.slot.visible) if self.slot.device == "cuda" else None


def _decoded(message: bytes | None) -> Outcome | None:
    """None for a death as for nonsense: a worker that does not speak our language is not to be trusted with another ticket."""
    if message is None:
        return None
    try:
        return _OUTCOMES.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
