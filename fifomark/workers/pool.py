"""What the daemon knows of an engine: it starts tickets on slots, and learns of outcomes. Neither side says how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple, Protocol

from fifomark.core.outcome import Outcome, Ticket
from fifomark.workers.slots import Slot

SHORT_SECONDS = 0.1  # that one submission may keep those waiting that lie ready behind it, before another slot may have them


class Ended(NamedTuple):
    """A ticket's end. `submission` is the ticket's, `said` what its worker wrote to stdout and stderr meanwhile; `began` is when the worker
    came to it (seconds since the epoch; None: it never did, or nobody knows)."""

    submission: int
    slot: Slot
    outcome: Outcome
    said: str = ""
    began: float | None = None


class Bounds(NamedTuple):
    """What tickets may cost: how many seconds, how much resident memory their worker may have, and how much CPU time they may take of it
    (None: no bound). Where a worker takes one ticket after another, that is what each may cost."""

    seconds: float
    memory_bytes: int | None = None
    cpu_seconds: float | None = None


class SlotState(NamedTuple):
    """`submission` is the one that is worked on. A slot drains while what its last worker had is not given back yet; out of service it is
    for good, or until that is given back. `why` says so in words."""

    slot: Slot
    state: Literal["free", "starting", "busy", "draining", "out of service"]
    submission: int | None
    why: str | None


class Pool(Protocol):
    def free(self) -> list[Slot]:
        """The slots that can take a ticket now."""

    def ahead(self, now: float) -> list[tuple[Slot, int]]:
        """The slots before whose workers tickets may lie ready, each with how many do: those that take one after another, and do not take
        their time with the one that they have."""

    def warm(self) -> list[Slot]:
        """The free slots of which `ahead` will say that none lies ready, as soon as they have a ticket: their workers are up already."""

    def expect(self) -> None:
        """Tickets will come: what takes long to be ready may begin, where it is needed whichever they are."""

    def start(self, tickets: Sequence[Ticket], slot: Slot, bounds: Bounds, now: float) -> None:
        """Run `tickets`, in their order, on a slot that is free, or lay them before one that is named by `ahead`.

        Beyond the bounds a worker is killed. Where it takes one after another, that one has Failed with limit-exceeded, and those that it
        had not come to are Lost without having begun. Where it takes all at once nobody knows which it was, and all are Lost.
        """

    def take_back(self, now: float, *, everything: bool = False) -> list[int]:
        """Submissions whose tickets lay behind one that takes its time, or simply all that are not begun: nobody begins them any more."""

    def collect(self, now: float) -> list[Ended]:
        """What has ended since the last call, overdue work included. Never blocks."""

    def slots(self) -> list[SlotState]: ...

    def waitables(self) -> Sequence[Connection | int]:
        """What to wait on with multiprocessing.connection.wait until something may have ended."""

    def close(self) -> None:
        """End every worker; work in hand is dropped."""


Judge = Callable[[Ticket], Outcome]
