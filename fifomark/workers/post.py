"""A slot and who serves it: a worker is started when it is first needed, watched, and replaced when it dies or overruns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from fifomark.core.outcome import DEVICE_ERROR, Failed, Lost, MarkTicket, Outcome, Reason, Ticket
from fifomark.core.overruns import Overrun, overrun, too_long
from fifomark.core.text import shown
from fifomark.workers import gpus
from fifomark.workers.claims import Claims
from fifomark.workers.leaving import Leaving
from fifomark.workers.machine import OomWatch
from fifomark.workers.pool import SHORT_SECONDS, Bounds, SlotState
from fifomark.workers.process import BOOT_FAILURE, Serve, Worker
from fifomark.workers.slots import Slot
from fifomark.workers.tape import Tape
from fifomark.workers.template import Template, Templates

READY = b"ready"  # a worker's first word
LOADING, LOADED = b"loading", b"loaded"  # said before and after what its tickets are judged by is read: their time begins then
UNFIT = b"unfit: "  # said in place of READY, with the reason
SPENT = b"spent"  # said before an outcome: the device is no longer fit for this process, which must be replaced after it
MAX_DEATHS = 3  # deaths in a row before a worker was ready, after which its slot is taken out of service
LOOK_SECONDS = 0.5  # between two looks at what a worker takes
_AHEAD = 64 << 10  # bytes of tickets that may lie before a worker: they must fit into its socket, or we would have to wait for it
_NOT_BEGUN = Lost(how="the worker was lost before it came to it", began=False)
_OUTCOMES: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


class Heard(NamedTuple):
    """How a ticket ended; `began` as in Ended."""

    ticket: Ticket
    outcome: Outcome
    began: float | None


class _InHand(NamedTuple):
    ticket: Ticket
    bounds: Bounds


class Post:
    """`unfit` says why it takes no more tickets, ever. `one_by_one`: its worker takes one ticket after another, by claims."""

    def __init__(
        self,
        slot: Slot,
        serve: Serve,
        boot_seconds: float,
        oom: OomWatch,
        *,
        templates: Templates | None = None,
        keep_output: bool = False,
        one_by_one: bool = False,
    ) -> None:
        self.slot = slot
        self.worker: Worker | None = None
        self._serve, self._boot_seconds, self._oom = serve, boot_seconds, oom
        self._templates, self._keep_output, self._one_by_one = templates, keep_output, one_by_one
        self._claims: Claims | None = None  # of the worker
        self._tape: Tape | None = None  # of the worker, or of the one before
        self.unfit: str | None = None
        self._ready = self._loading = self._spent = False
        self._hand: list[_InHand] = []  # the first is being worked on
        self._in_flight: list[int] = []  # bytes of those that the worker has been told of
        self._since = 0.0  # when it came to the first
        self._bounds, self._deadline = Bounds(0.0), 0.0  # of the first
        self._cpu_before: float | None = None  # seconds that the worker had taken when it was first looked at with that in hand
        self._looked_at = 0.0
        self._deaths = 0
        self._leaving = Leaving(slot)

    @property
    def out_of_service(self) -> str | None:
        """Why it takes no tickets, for now or ever."""
        return self.unfit or self._leaving.late

    @property
    def state(self) -> SlotState:
        submission = self._hand[0].ticket.submission if self._hand else None
        if self.out_of_service:
            return SlotState(self.slot, "out of service", submission, self.out_of_service)
        if self._leaving.under_way:
            return SlotState(self.slot, "draining", submission, "waits until its last worker has given back what it had")
        if self._hand:
            return SlotState(self.slot, "busy" if self._ready else "starting", submission, None)
        return SlotState(self.slot, "free", None, None)

    @property
    def is_warm(self) -> bool:
        """As of a Pool."""
        return self._one_by_one and self._ready and not self._spent and self.state.state == "free"

    def ready(self, now: float) -> int | None:
        """As of a Pool."""
        if not self._one_by_one or self.state.state != "busy" or self._spent or self._is_slow(now):
            return None
        return len(self._hand) - 1

    def expect(self) -> None:
        """A ticket will come: a worker of the CPU may be up by then. One of a GPU takes memory there; it waits for its ticket."""
        if self.slot.device == "cpu" and self.worker is None and self.state.state == "free":
            self._launch(0.0)

    def start(self, tickets: Sequence[Ticket], bounds: Bounds, now: float) -> None:
        """`now` is when; while it is busy only where `ready` says that more may lie before it."""
        state = self.state.state
        assert state == "free" or (state == "busy" and self._one_by_one), f"slot {self.slot.name} is {state}"
        self._hand += [_InHand(ticket, bounds) for ticket in tickets]
        if self.worker is None:
            self._launch(now)
        elif state == "free":
            self._come_to_first(now)
            self._deadline += 0.0 if self._ready else self._boot_seconds
        self._hand_over()

    def _launch(self, now: float) -> None:
        """Start the worker, as soon as what it is forked from is up."""
        if self._templates is not None and not self._templates.ready():
            return
        self._leaving.expect()
        template = self._templates.template if self._templates is not None else None
        try:
            self.worker = self._made(template)
        except ProcessLookupError:  # the template was lost just now: there will be another
            return
        except OSError:
            if template is None:
                raise
            self.worker = self._made(None)
        self._come_to_first(now)
        self._deadline += self._boot_seconds  # to import torch is ours, not its own

    def _made(self, template: Template | None) -> Worker:
        self._tape = Tape() if self._keep_output else None
        self._claims = Claims() if self._one_by_one else None
        try:
            return Worker(self.slot, self._serve, self._tape, self._claims.tokens if self._claims else None, template)
        except OSError:
            self._close_claims()
            raise

    def _come_to_first(self, now: float) -> None:
        if self._hand:
            self._bounds, self._since, self._cpu_before = self._hand[0].bounds, now, None
            self._deadline = now + self._bounds.seconds

    def _hand_over(self) -> None:
        """Tell the worker of what is in hand, as far as that can be done without waiting for it."""
        if self.worker is None:
            return
        with contextlib.suppress(OSError):  # the worker is gone: `look` sees its end
            for ticket, _ in self._hand[len(self._in_flight) :]:
                message = msgspec.json.encode(ticket)
                if self._one_by_one and self._in_flight and sum(self._in_flight) + len(message) > _AHEAD:
                    return
                self._in_flight.append(len(message))
                self.worker.send(message)
                if self._claims is not None:
                    self._claims.offer([ticket.submission])

    def take_back(self, now: float, *, everything: bool = False) -> list[int]:
        """As of a Pool."""
        if not self._one_by_one or len(self._hand) < 2 or not (everything or self._is_slow(now)):
            return []
        if self._claims is None:  # there is no worker yet
            self._hand, untold = self._hand[:1], self._hand[1:]
            return [one.ticket.submission for one in untold]
        back, first = self._claims.take_back(), self._hand[0].ticket.submission
        if first in back:  # the worker has not come to it yet
            self._claims.offer([first])
        told, untold = self._hand[: len(self._in_flight)], self._hand[len(self._in_flight) :]
        kept = [i for i, one in enumerate(told) if i == 0 or one.ticket.submission not in back]
        taken = [one.ticket.submission for i, one in enumerate(told) if i not in kept] + [one.ticket.submission for one in untold]
        self._hand, self._in_flight = [told[i] for i in kept], [self._in_flight[i] for i in kept]
        return taken

    def _is_slow(self, now: float) -> bool:
        return not 0 <= now - self._since < SHORT_SECONDS

    def look(self, now: float) -> Iterator[Heard]:
        """What has ended since the last look. Never waits, but for a worker that is about to be gone."""
        self._leaving.look(now)
        if self._tape is not None:
            self._tape.roll()  # it must not have to wait for us to listen
        if self._hand and self.worker is None and self.out_of_service is None:
            self._launch(now)
            self._hand_over()
        while self.worker is not None and (self.worker.connection.poll() or self.worker.gone):
            yield from self._heard(self.worker, self.worker.receive(), now)
        if self._hand and self.worker is not None and (failed := self._overrun(self.worker, now)):
            self._end(self.worker, now)
            yield from self._all(failed)

    def said(self, submission: int) -> str:
        """What its worker has said of it on stdout and stderr."""
        return self._tape.take(submission) if self._tape is not None else ""

    def hang_up(self) -> None:
        """Let a worker that has nothing in hand come to its end by itself; `close` waits for that."""
        if self.worker is not None and not self._hand:
            self._close_claims()
            self.worker.connection.close()

    def close(self) -> None:
        """End the worker; what it has in hand is dropped."""
        if self.worker is not None:
            self._close_claims()
            self.worker.kill() if self._hand else self.worker.stop(grace=2.0)
            self.worker = None

    # What a worker says

    def _heard(self, worker: Worker, message: bytes | None, now: float) -> Iterator[Heard]:
        if message == READY:
            self._ready, self._deaths = True, 0
            self._come_to_first(now)
        elif message == LOADING:
            self._loading = True
            self._deadline += self._boot_seconds
        elif message == LOADED:
            self._loading = False
            self._come_to_first(now)
        elif message == SPENT:
            self._spent = True
        elif message is not None and message.startswith(UNFIT):
            self.unfit = f"its worker cannot be set up: {shown(message.removeprefix(UNFIT).decode(errors='replace'), 300)}"
        elif (outcome := _decoded(message)) is None:
            yield from self._all(self._bury(worker, now))
        elif isinstance(outcome, Failed) and outcome.reason.code == DEVICE_ERROR:
            self._end(worker, now)
            yield from self._all(Lost(how=outcome.reason.message))
        elif self._hand:
            began = self._began
            yield Heard(self._pop(now), outcome, began)
            if self._spent and (self._one_by_one or not self._hand):
                self._end(worker, now)
                yield from self._all(_NOT_BEGUN)

    def _pop(self, now: float) -> Ticket:
        """The first, which has ended; the worker goes on with the next."""
        (ticket, _), *self._hand = self._hand
        del self._in_flight[0]
        if self._one_by_one:
            self._come_to_first(now)
            self._hand_over()
        return ticket

    @property
    def _began(self) -> float | None:
        """When the worker came to what it works on, where that can be told."""
        return self._since if self._one_by_one and self._ready else None

    def _all(self, outcome: Outcome) -> list[Heard]:
        """One end for everything in hand, but for what was not begun."""
        ended = [Heard(one.ticket, outcome, self._began) for one in self._hand]
        if self._one_by_one:
            ended[1:] = [Heard(one.ticket, _NOT_BEGUN, None) for one in self._hand[1:]]
        self._hand, self._in_flight = [], []
        return ended

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
            self.unfit = self.unfit or "its worker cannot be set up: see the log"
        elif not was_ready:
            self._died_before_ready(how)
        return Lost(how=how, began=was_ready, memory=memory)

    def _died_before_ready(self, how: str) -> None:
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            self.unfit = f"its worker died {self._deaths} times before it was ready: {how}"

    # What it takes

    def _overrun(self, worker: Worker, now: float) -> Outcome | None:
        if now > self._deadline and not self._ready:
            how = f"it was not ready after {self._boot_seconds:g} seconds"
            self._died_before_ready(how)
            return Lost(how=how, began=False)
        if now > self._deadline and self._loading:
            what = f"the task was not read after {self._boot_seconds:g} seconds: its data, its classes, its metrics"
            return Failed(reason=Reason(code="internal-error", message=what, blame="operator"))
        if (seen := self._too_much(worker, now)) is None:
            return None
        code, message = seen
        if len(self._hand) > 1 and not self._one_by_one:  # nobody knows which it was
            return Lost(how=f"{message}, with {len(self._hand)} files in hand")
        failed = overrun(code, message)
        return failed if isinstance(self._hand[0].ticket, MarkTicket) else replace(failed, findings=())  # they are about marking

    def _too_much(self, worker: Worker, now: float) -> tuple[Overrun, str] | None:
        """What it took too much of, and the words for it."""
        seconds, memory, cpu = self._bounds
        if now > self._deadline:
            return "FM601", too_long(seconds)
        if 0 <= now - self._looked_at < LOOK_SECONDS:
            return None
        self._looked_at = now
        taken = worker.usage()
        if memory is not None and taken.resident_bytes > memory:
            return "FM602", f"it took more than {memory >> 20} MiB of memory"
        if self._cpu_before is None:
            self._cpu_before = taken.cpu_seconds
        if cpu is not None and self._ready and taken.cpu_seconds - self._cpu_before > cpu:
            return "FM601", f"it took more than {cpu:g} seconds of CPU time"
        return None

    # Its end

    def _end(self, worker: Worker, now: float, patience: float = 0.0) -> None:
        worker.kill(patience)
        self._close_claims()
        self.worker, self._ready, self._loading, self._spent = None, False, False, False
        self._leaving.left(worker, now)
        if self.slot.device == "cuda" and (trouble := gpus.trouble(self.slot.visible)):
            self.unfit = f"NVML says of its GPU: {trouble}"
        self._leaving.look(now)

    def _close_claims(self) -> None:
        """A worker that waits for its next ticket ends then."""
        if self._claims is not None:
            self._claims.close()
            self._claims = None


def _decoded(message: bytes | None) -> Outcome | None:
    """None for a death as for nonsense: a worker that does not speak our language is not to be trusted with another ticket."""
    if message is None:
        return None
    try:
        return _OUTCOMES.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
