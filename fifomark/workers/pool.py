"""What the daemon knows of an engine: it starts tickets on slots, and learns of outcomes. Neither side says how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple, Protocol

from fifomark.core.outcome import Outcome, Ticket
from fifomark.workers.slots import Slot


class Ended(NamedTuple):
    """A ticket's end. `submission` is the ticket's, `said` what its worker wrote to stdout and stderr meanwhile."""

    submission: int
    slot: Slot
    outcome: Outcome
    said: str = ""


class Bounds(NamedTuple):
    """What tickets may cost: until when (seconds since the epoch), how much resident memory their worker may have, and how much CPU time
    they may take of it (None: no bound). `wall_seconds` is what `deadline` was made of, for messages."""

    deadline: float
    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None


class SlotState(NamedTuple):
    """`submission` is the one in hand. A slot drains while what its last worker had is not given back yet; out of service it is for good,
    or until that is given back. `why` says so in words."""

    slot: Slot
    state: Literal["free", "starting", "busy", "draining", "out of service"]
    submission: int | None
    why: str | None


class Pool(Protocol):
    def free(self) -> list[Slot]:
        """The slots that can take a ticket now."""

    def start(self, tickets: Sequence[Ticket], slot: Slot, bounds: Bounds) -> None:
        """Run `tickets` on a free slot, in their order. Beyond the bounds, which are those of all of them together, its worker is killed:
        one ticket alone has then Failed with limit-exceeded; of several nobody knows which it was, and they are Lost."""

    def collect(self, now: float) -> list[Ended]:
        """What has ended since the last call, overdue work included. Never blocks."""

    def slots(self) -> list[SlotState]: ...

    def waitables(self) -> Sequence[Connection | int]:
        """What to wait on with multiprocessing.connection.wait until something may have ended."""

    def close(self) -> None:
        """End every worker; work in hand is dropped."""


Judge = Callable[[Ticket], Outcome]
